//! The program `plimsoll`: its library is what it does.

fn main() -> std::process::ExitCode {
    plimsoll_cli::main()
}
