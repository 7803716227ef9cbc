//! The harness of the tests that need root, real file systems and real runtimes.
//!
//! Never shipped. A failure of the harness itself is a panic with the command that failed: there is
//! nothing a test could do about it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a harness fails by panicking, loudly"
)]

pub mod brute;
pub mod btrfs;
pub mod command;
pub mod conformance;
pub mod containerd;
pub mod crc32c;
pub mod cri;
pub mod disk;
pub mod dockerd;
pub mod edits;
pub mod image_layers;
pub mod image_store;
pub mod layers;
pub mod look;
pub mod loopfs;
pub mod matrix;
pub mod mounts;
pub mod next;
pub mod oci;
pub mod operations;
pub mod overlay;
pub mod podman;
pub mod program;
pub mod registry;
pub mod rooted;
pub mod rootfs;
pub mod rootless;
pub mod sealed;
mod shims;
pub mod told;
pub mod torture;

/// Whether this run must not skip anything.
#[must_use]
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|v| v == "true")
}

/// Returns why tests that need root and these programs cannot run here; `None` when they can.
#[must_use]
pub fn missing(programs: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".into());
    }
    programs
        .iter()
        .find(|program| !command::exists(program))
        .map(|program| format!("{program} is not installed"))
}

/// Leaves the test, loudly, when it cannot run here; fails it in CI, where nothing may be skipped.
#[macro_export]
macro_rules! require {
    ($($program:expr),* $(,)?) => {
        if let Some(why) = $crate::missing(&[$($program),*]) {
            assert!(!$crate::in_ci(), "cannot run here, and in CI nothing is skipped: {why}");
            eprintln!("SKIPPED {}: {why}", module_path!());
            return;
        }
    };
}
