//! Programs newer than the machine's own: a Docker, a containerd, a CRIU and a Podman.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns where scripts/next.sh puts the programs of Docker and containerd.
#[must_use]
pub fn docker() -> PathBuf {
    directory().join("docker")
}

/// Returns why Docker and containerd cannot be run here; `None` when they can. Fails in CI when they are
/// not even there, where nothing is left out that could be had.
///
/// # Panics
/// In CI, when scripts/next.sh was not run.
#[must_use]
pub fn missing() -> Option<String> {
    for program in ["dockerd", "containerd"] {
        let path = docker().join(program);
        if let Some(why) = not_there(&path) {
            return Some(why);
        }
        let ran = Command::new(&path).arg("--version").output();
        if !ran.is_ok_and(|output| output.status.success()) {
            return Some(format!("{} does not run here", path.display()));
        }
    }
    None
}

/// Returns a search path on which CRIU, by which runtimes make checkpoints, is the newer one: the
/// machine's own does not know this kernel.
#[must_use]
pub fn path_with_criu() -> String {
    let criu = directory().join("criu");
    format!("{}:{}", criu.display(), crate::command::PATH)
}

/// Returns why containers cannot be checkpointed here; `None` when they can.
///
/// # Panics
/// In CI, when scripts/next.sh was not run or the kernel lacks something.
#[must_use]
pub fn criu_missing() -> Option<String> {
    let path = directory().join("criu/criu");
    if let Some(why) = not_there(&path) {
        return Some(why);
    }
    // It tells what the kernel lacks, if anything.
    let check = Command::new(&path).arg("check").output().expect("criu");
    let told = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(!crate::in_ci() || check.status.success(), "{told}");
    (!check.status.success()).then_some(told)
}

/// Returns the version of CRIU.
///
/// # Panics
/// When it does not tell.
#[must_use]
pub fn criu_version() -> String {
    let criu = directory().join("criu/criu").display().to_string();
    let told = crate::command::run(criu, &["--version"]);
    let version = told.lines().find_map(|line| line.strip_prefix("Version: "));
    version.expect("its version").to_owned()
}

/// Returns why the newer Podman and its registry cannot be run here; `None` when they can.
///
/// # Panics
/// In CI, when scripts/next.sh was not run or Podman does not run.
#[must_use]
pub fn podman_missing() -> Option<String> {
    for program in ["bin/podman", "bin/docker-registry", "bin/mkcomposefs"] {
        if let Some(why) = not_there(&usr().join(program)) {
            return Some(why);
        }
    }
    let version = command(&["podman", "--version"]).output().expect("unshare");
    let told = String::from_utf8_lossy(&version.stderr).into_owned();
    assert!(!crate::in_ci() || version.status.success(), "{told}");
    (!version.status.success()).then_some(told)
}

/// Returns why cosign and a registry cannot be run here; `None` when they can.
///
/// # Panics
/// In CI, when scripts/next.sh was not run.
#[must_use]
pub fn cosign_missing() -> Option<String> {
    let mut programs = ["bin/cosign", "bin/docker-registry"].iter();
    programs.find_map(|program| not_there(&usr().join(program)))
}

/// Returns a command that runs with the newer programs' `/usr` over the machine's, which nobody else sees:
/// with it come all that these programs need. Should the test be killed it ends as well.
#[must_use]
pub fn command(arguments: &[&str]) -> Command {
    let script = "mount -t overlay -o \"lowerdir=$1:/usr\" overlay /usr; shift; exec \"$@\"";
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "unshare", "--mount"])
        .args(["/bin/sh", "-ec", script, "sh"])
        .arg(usr())
        .args(arguments)
        .env("PATH", crate::command::PATH)
        .stdin(std::process::Stdio::null());
    command
}

fn usr() -> PathBuf {
    let usr = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/sid/usr");
    // Options of a mount have no room for more than it needs.
    usr.canonicalize().unwrap_or(usr)
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/sid.bin")
}

fn not_there(path: &Path) -> Option<String> {
    if path.exists() {
        return None;
    }
    assert!(!crate::in_ci(), "scripts/next.sh was not run");
    Some("scripts/next.sh was not run".into())
}
