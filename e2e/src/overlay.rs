//! An overlay mount over directories of a file system made for the test.

use std::path::{Path, PathBuf};

use crate::command::run;

/// A mounted overlay, unmounted on drop.
#[derive(Debug)]
pub struct Overlay {
    base: PathBuf,
    lowers: usize,
    options: String,
}

impl Overlay {
    /// Makes the directories `l1` .. `lN` (the top one first), `upper`, `work` and `merged` beneath
    /// `base`. Nothing is mounted yet: fill the lowers first.
    ///
    /// # Panics
    /// When a directory cannot be made.
    #[must_use]
    pub fn new(base: &Path, lowers: usize, options: &str) -> Self {
        for name in (1..=lowers).map(|n| format!("l{n}")).chain([
            "upper".into(),
            "work".into(),
            "merged".into(),
            "reference".into(),
        ]) {
            std::fs::create_dir_all(base.join(name)).expect("layer directory");
        }
        Self {
            base: base.to_owned(),
            lowers,
            options: options.to_owned(),
        }
    }

    /// Returns the directory of lower layer `n`, 1 being the top one.
    #[must_use]
    pub fn lower(&self, n: usize) -> PathBuf {
        self.base.join(format!("l{n}"))
    }

    /// Returns the upper directory.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.base.join("upper")
    }

    /// Returns the mount point.
    #[must_use]
    pub fn merged(&self) -> PathBuf {
        self.base.join("merged")
    }

    /// Returns a read-only mount of the lowers alone: what the image looks like.
    #[must_use]
    pub fn reference(&self) -> PathBuf {
        self.base.join("reference")
    }

    /// Mounts it.
    ///
    /// # Panics
    /// When mount fails.
    pub fn mount(&self) {
        let lowers: Vec<String> = (1..=self.lowers)
            .map(|n| self.lower(n).display().to_string())
            .collect();
        let base = self.base.display();
        let options = format!(
            "lowerdir={},upperdir={base}/upper,workdir={base}/work{}",
            lowers.join(":"),
            self.options
        );
        run(
            "mount",
            &[
                "-t",
                "overlay",
                "overlay",
                "-o",
                &options,
                &self.merged().display().to_string(),
            ],
        );
    }

    /// Mounts the lowers alone, read-only. With a single lower an empty one is put beneath it.
    ///
    /// # Panics
    /// When mount fails.
    pub fn mount_reference(&self) {
        let mut lowers: Vec<String> = (1..=self.lowers)
            .map(|n| self.lower(n).display().to_string())
            .collect();
        if lowers.len() == 1 {
            let empty = self.base.join("empty");
            std::fs::create_dir_all(&empty).expect("empty layer");
            lowers.push(empty.display().to_string());
        }
        let extra: String = self
            .options
            .split(',')
            .filter(|o| ["userxattr", "metacopy=on", "redirect_dir=on"].contains(o))
            .map(|o| format!(",{o}").replace("redirect_dir=on", "redirect_dir=follow"))
            .collect();
        let options = format!("ro,lowerdir={}{extra}", lowers.join(":"));
        run(
            "mount",
            &[
                "-t",
                "overlay",
                "overlay",
                "-o",
                &options,
                &self.reference().display().to_string(),
            ],
        );
    }

    /// Unmounts whatever of it is mounted.
    pub fn unmount(&self) {
        for path in [self.merged(), self.reference()] {
            drop(
                std::process::Command::new("umount")
                    .arg("-l")
                    .arg(path)
                    .stderr(std::process::Stdio::null())
                    .status(),
            );
        }
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        self.unmount();
    }
}
