//! The program `plimsoll`: its library is what it does.

/// musl's own allocator gives each freed page back at once, and takes it again: a check would make a fifth
/// more system calls.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: plimsoll_syscall::allocator::Allocator =
    plimsoll_syscall::allocator::Allocator::new();

fn main() -> std::process::ExitCode {
    plimsoll_cli::main()
}
