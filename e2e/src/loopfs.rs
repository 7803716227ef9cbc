//! A file system of its own in a file, mounted for one test.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::command::run;

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ext4: no shared extents.
    Ext4,
    /// XFS with reflinks: copy-up shares extents.
    Xfs,
    /// Btrfs with default options.
    Btrfs,
}

/// A loop-mounted file system, unmounted and removed on drop.
#[derive(Debug)]
pub struct LoopFs {
    dir: TempDir,
    kind: Kind,
    options: String,
}

impl LoopFs {
    /// Makes and mounts a file system of `mebibytes`, which takes space only as it fills up.
    ///
    /// # Panics
    /// When mkfs or mount fails.
    #[must_use]
    pub fn new(kind: Kind, mebibytes: u64) -> Self {
        Self::with(kind, mebibytes, &[], "")
    }

    /// The same with more arguments for mkfs, and more mount options (`,noatime`).
    ///
    /// # Panics
    /// When mkfs or mount fails.
    #[must_use]
    pub fn with(kind: Kind, mebibytes: u64, mkfs_args: &[&str], mount_options: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-fs-")
            .tempdir()
            .expect("temporary directory");
        let image = dir.path().join("image");
        std::fs::File::create(&image)
            .and_then(|file| file.set_len(mebibytes << 20))
            .expect("image file");
        std::fs::create_dir(dir.path().join("mnt")).expect("mount point");
        let mkfs = match kind {
            Kind::Ext4 => "mkfs.ext4",
            Kind::Xfs => "mkfs.xfs",
            Kind::Btrfs => "mkfs.btrfs",
        };
        let mut args = vec!["-q"];
        args.extend(mkfs_args);
        let image = image.to_str().expect("UTF-8").to_owned();
        args.push(&image);
        run(mkfs, &args);
        let fs = Self {
            dir,
            kind,
            options: format!("loop{mount_options}"),
        };
        fs.mount();
        fs
    }

    /// Returns where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// Returns what it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Unmounts and mounts it again.
    ///
    /// # Panics
    /// When it is busy.
    pub fn remount(&self) {
        run("umount", &[text(&self.path())]);
        self.mount();
    }

    fn mount(&self) {
        run(
            "mount",
            &[
                "-o",
                &self.options,
                text(&self.dir.path().join("image")),
                text(&self.path()),
            ],
        );
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        // A test that panics may still have something open; the lazy form leaves nothing behind.
        let path = self.path();
        let unmounted = std::process::Command::new("umount").arg(&path).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            drop(
                std::process::Command::new("umount")
                    .arg("-l")
                    .arg(&path)
                    .status(),
            );
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}
