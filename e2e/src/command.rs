//! Programs that the tests run.

use std::path::Path;
use std::process::{Command, Output};

/// Where programs are looked for, whatever the caller's environment says.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether a program is on the search path.
#[must_use]
pub fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(program).is_file())
}

/// Runs a program to its end and returns its standard output.
///
/// # Panics
/// When it cannot be started or fails; the message holds its standard error.
pub fn run(program: impl AsRef<Path>, args: &[&str]) -> String {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(args)
        .env("PATH", PATH)
        .output()
        .unwrap_or_else(|e| panic!("{} cannot be started: {e}", program.display()));
    told(&program.display().to_string(), args, &output)
}

/// Returns what a program that was run with these arguments wrote to its standard output.
///
/// # Panics
/// When it failed; the message holds its standard error.
#[must_use]
pub fn told(program: &str, args: &[&str], output: &Output) -> String {
    assert!(
        output.status.success(),
        "{program} {} failed: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a shell script and returns its standard output.
///
/// # Panics
/// When a command in it fails.
pub fn shell(script: &str) -> String {
    run("/bin/bash", &["-euo", "pipefail", "-c", script])
}

/// A program in the background, killed on drop.
#[derive(Debug)]
pub struct Background(std::process::Child);

impl Background {
    /// Starts it with nothing to read and nobody to listen.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        use std::process::Stdio;
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(quiet.spawn().expect("program in the background"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
