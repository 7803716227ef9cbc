//! The disk of another machine: a directory in which stores of runtimes are mounted where they lie on
//! such a disk.

use std::path::{Path, PathBuf};

use plimsoll_host::inspect::Sources;
use tempfile::TempDir;

use crate::command::shell;
use crate::mounts;

/// A directory that is looked at as a mounted disk. On drop it is unmounted.
#[derive(Debug)]
pub struct Disk(TempDir);

impl Disk {
    /// Makes one in which each of these directories lies at a path, `var/lib/docker` say.
    ///
    /// # Panics
    /// When a directory cannot be made or mounted.
    #[must_use]
    pub fn with(directories: &[(&Path, &str)]) -> Self {
        let disk = Self(tempfile::tempdir().expect("directory"));
        for (directory, path) in directories {
            let target = disk.path().join(path);
            std::fs::create_dir_all(&target).expect("directory");
            // Private, so that unmounting it leaves what is mounted in the directory itself.
            shell(&format!(
                "mount --rbind {} {1}; mount --make-rprivate {1}",
                directory.display(),
                target.display()
            ));
        }
        disk
    }

    /// Writes a file of it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        std::fs::write(path, text).expect("file");
    }

    /// Returns its root.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// Returns the sources that look at it alone.
    #[must_use]
    pub fn sources(&self) -> Sources {
        Sources {
            root: Some(self.path()),
            ..Sources::default()
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        mounts::unmount_beneath(&[self.0.path()]);
    }
}
