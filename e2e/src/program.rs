//! The program itself, as people run it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names a program that is built already: where the tests run there may be no cargo.
const BUILT: &str = "PLIMSOLL_PROGRAM";

/// Returns the path of `plimsoll`: the one that `PLIMSOLL_PROGRAM` names, else built from this tree.
///
/// # Panics
/// When it does not build, or when what is named is no file.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(built) = std::env::var_os(BUILT).map(PathBuf::from) {
            assert!(built.is_file(), "{BUILT}={}: no file", built.display());
            return built;
        }
        let output = Command::new(env!("CARGO"))
            .args(["build", "--package", "plimsoll", "--message-format", "json"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output
            .stdout
            .split(|b| *b == b'\n')
            .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
            .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
            .find(|path| path.ends_with("plimsoll"))
            .expect("cargo names the program that it built")
    })
}

/// Returns a command that runs it, with nothing of this machine's configuration.
#[must_use]
pub fn command() -> Command {
    let mut command = Command::new(path());
    command
        .env_clear()
        .env("PATH", crate::command::PATH)
        .env("PLIMSOLL_CONFIG", "/dev/null");
    command
}
