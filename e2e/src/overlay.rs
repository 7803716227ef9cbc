//! An overlay mount over directories of a file system made for the test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::run;

/// An overlay, mounted beside a read-only mount of its lowers alone; unmounted on drop.
#[derive(Debug)]
pub struct Overlay {
    base: PathBuf,
    options: String,
}

impl Overlay {
    /// Mounts a new upper layer over `lowers` (the top one first), both beneath `base`, with more
    /// mount options (`,index=on`). `data_only` lowers go beneath.
    ///
    /// # Panics
    /// When a mount fails.
    #[must_use]
    pub fn mount(base: &Path, lowers: &[PathBuf], data_only: &[PathBuf], options: &str) -> Self {
        for name in ["upper", "work", "container", "image", "empty"] {
            std::fs::create_dir_all(base.join(name)).expect("directory for the overlay");
        }
        let join = |paths: &[PathBuf], separator: &str| {
            paths
                .iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
                .join(separator)
        };
        let mut lower = join(lowers, ":");
        if lowers.len() + data_only.len() == 1 {
            // A read-only overlay takes two lowers at least.
            lower = format!("{lower}:{}", base.join("empty").display());
        }
        for data in data_only {
            lower = format!("{lower}::{}", data.display());
        }
        let upper = format!("upperdir={0}/upper,workdir={0}/work", base.display());
        let overlay = Self {
            base: base.to_owned(),
            options: format!("lowerdir={lower},{upper}{options}"),
        };
        mount(&overlay.options, &overlay.container());
        let shared: String = options
            .split(',')
            .filter(|o| ["userxattr", "metacopy=on"].contains(o))
            .map(|o| format!(",{o}"))
            .collect();
        mount(&format!("ro,lowerdir={lower}{shared}"), &overlay.image());
        overlay
    }

    /// Unmounts the container's overlay and mounts it again.
    ///
    /// # Panics
    /// When it stays busy.
    pub fn remount(&self) {
        let unmount = || {
            let mut command = Command::new("umount");
            let command = command.arg(self.container()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        // A program that another test starts has this test's descriptors until it is executed.
        let start = Instant::now();
        while !unmount() {
            assert!(start.elapsed() < Duration::from_secs(30), "still busy");
            std::thread::sleep(Duration::from_millis(20));
        }
        mount(&self.options, &self.container());
    }

    /// Returns the mount point of the whole: what the container sees.
    #[must_use]
    pub fn container(&self) -> PathBuf {
        self.base.join("container")
    }

    /// Returns the mount point of the lowers alone: what the image is.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.base.join("image")
    }

    /// Returns the upper directory.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.base.join("upper")
    }
}

fn mount(options: &str, at: &Path) {
    let at = at.display().to_string();
    let arguments = ["-t", "overlay", "overlay", "-o", options, &at];
    // A mount namespace that somebody makes on this machine meanwhile, as every container start does,
    // holds on to an overlay that was just unmounted, and to its layers with it.
    for _ in 0..50 {
        let mounted = Command::new("mount")
            .args(arguments)
            .output()
            .expect("mount");
        if mounted.status.success() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    run("mount", &arguments);
}

impl Drop for Overlay {
    fn drop(&mut self) {
        for path in [self.container(), self.image()] {
            // Lazily, so that a failed test leaves nothing mounted either.
            drop(
                Command::new("umount")
                    .arg("-l")
                    .arg(path)
                    .stderr(Stdio::null())
                    .status(),
            );
        }
    }
}
