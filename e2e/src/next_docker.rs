//! A Docker and a containerd newer than the machine's own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where scripts/docker-next.sh puts a Docker that has the containerd image store.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/sid")
}

/// Returns why that Docker cannot be run here; `None` when it can. Fails in CI when it is not even there,
/// where nothing is left out that could be had.
///
/// # Panics
/// In CI, when scripts/docker-next.sh was not run.
#[must_use]
pub fn missing() -> Option<String> {
    for program in ["usr/sbin/dockerd", "usr/bin/containerd"] {
        let path = directory().join(program);
        if !path.exists() {
            assert!(!crate::in_ci(), "scripts/docker-next.sh was not run");
            return Some("scripts/docker-next.sh was not run".into());
        }
        let ran = Command::new(&path).arg("--version").output();
        if !ran.is_ok_and(|output| output.status.success()) {
            return Some(format!("{} does not run here", path.display()));
        }
    }
    None
}
