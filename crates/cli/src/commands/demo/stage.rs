//! Where the demo takes place: a directory with file systems of its own, gone when it is over.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use crate::commands::interrupts::Interrupts;
use crate::error::{CliError, shown};
use crate::talk::Talk;

/// Size of the Btrfs file system: what mkfs needs and a little more. It takes memory as it fills.
const BTRFS_BYTES: u64 = 128 << 20;

/// The directory, with everything mounted in it. Leaving it, by any way, takes all of it down.
#[derive(Debug)]
pub(super) struct Stage {
    mounts: Vec<PathBuf>,
    keep: bool,
    interrupts: Interrupts,
    // Last, for it is to be removed after what is mounted in it.
    dir: Option<TempDir>,
}

/// The directories of an overlay.
#[derive(Debug)]
pub(super) struct OverlayStage {
    /// The image's layer.
    pub(super) lower: PathBuf,
    /// What the container sees.
    pub(super) merged: PathBuf,
}

/// The subvolumes of a container on Btrfs.
#[derive(Debug)]
pub(super) struct BtrfsStage {
    /// The image's.
    pub(super) image: PathBuf,
    /// The container's; made by [`Stage::snapshot`].
    pub(super) container: PathBuf,
}

impl Stage {
    /// Makes the directory and mounts a tmpfs on it, so that nothing of it outlives the mount.
    ///
    /// # Errors
    /// [`CliError`] when either fails.
    pub(super) fn new(interrupts: Interrupts, keep: bool) -> Result<Self, CliError> {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-demo-")
            .tempdir()
            .map_err(|error| CliError::new(format!("no directory for the demo: {error}")))?;
        let path = dir.path().to_owned();
        let mut stage = Self {
            mounts: Vec::new(),
            keep,
            interrupts,
            dir: Some(dir),
        };
        stage.mount("tmpfs", "tmpfs", &path, "mode=0700")?;
        Ok(stage)
    }

    /// Stops here when the demo was told to.
    ///
    /// # Errors
    /// [`CliError`] then.
    pub(super) fn pause(&self) -> Result<(), CliError> {
        self.interrupts.pause()
    }

    /// Makes the directories of an overlay; the image's layer is still to be filled.
    ///
    /// # Errors
    /// [`CliError`] when they cannot be made.
    pub(super) fn overlay(&self) -> Result<OverlayStage, CliError> {
        let base = self.path()?.join("overlay");
        for name in ["lower", "upper", "work", "merged"] {
            make(&base.join(name))?;
        }
        Ok(OverlayStage {
            lower: base.join("lower"),
            merged: base.join("merged"),
        })
    }

    /// Mounts the overlay.
    ///
    /// # Errors
    /// [`CliError`] when the kernel refuses.
    pub(super) fn mount_overlay(&mut self, dirs: OverlayStage) -> Result<OverlayStage, CliError> {
        let base = self.path()?.join("overlay");
        let base = base.display();
        let options = format!("lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work");
        self.mount("overlay", "overlay", &dirs.merged, &options)?;
        Ok(dirs)
    }

    /// Makes a Btrfs with the image's subvolume in it, or returns why there is none.
    ///
    /// # Errors
    /// [`CliError`] when it is possible and fails.
    pub(super) fn btrfs(&mut self) -> Result<Result<BtrfsStage, String>, CliError> {
        let base = self.path()?;
        for program in ["mkfs.btrfs", "btrfs", "losetup"] {
            if program_path(program).is_none() {
                return Ok(Err(format!(
                    "{program} is not installed here (btrfs-progs)"
                )));
            }
        }
        let (file, place) = (base.join("btrfs.img"), base.join("btrfs"));
        make(&place)?;
        std::fs::File::create(&file)
            .and_then(|f| f.set_len(BTRFS_BYTES))
            .map_err(|error| CliError::file("cannot make", &file, &error))?;
        run("mkfs.btrfs", &["-q".as_ref(), file.as_os_str()])?;
        let device = run(
            "losetup",
            &["--find".as_ref(), "--show".as_ref(), file.as_os_str()],
        )?;
        let device = device.trim().to_owned();
        let mounted = self.mount(&device, "btrfs", &place, "");
        // From now on the device goes away by itself with the last that uses it.
        run("losetup", &["--detach".as_ref(), device.as_ref()])?;
        if let Err(error) = mounted {
            return Ok(Err(error.message));
        }
        let image = place.join("image");
        run(
            "btrfs",
            &["subvolume".as_ref(), "create".as_ref(), image.as_os_str()],
        )?;
        Ok(Ok(BtrfsStage {
            image,
            container: place.join("container"),
        }))
    }

    /// Makes the container's subvolume: a snapshot of the image's.
    ///
    /// # Errors
    /// [`CliError`] when that fails.
    pub(super) fn snapshot(&self, image: &Path, container: &Path) -> Result<(), CliError> {
        let args = [
            "subvolume".as_ref(),
            "snapshot".as_ref(),
            image.as_os_str(),
            container.as_os_str(),
        ];
        run("btrfs", &args).map(drop)
    }

    /// Takes everything down, or returns where it was left.
    pub(super) fn leave(mut self) -> Option<PathBuf> {
        if !self.keep {
            return None;
        }
        self.mounts.clear();
        self.dir.take().map(TempDir::keep)
    }

    fn path(&self) -> Result<PathBuf, CliError> {
        let dir = self.dir.as_ref().map(|dir| dir.path().to_owned());
        dir.ok_or_else(|| CliError::new("the demo is over"))
    }

    fn mount(
        &mut self,
        source: &str,
        kind: &str,
        at: &Path,
        options: &str,
    ) -> Result<(), CliError> {
        let data = CString::new(options).map_err(|_| CliError::new("a mount option with NUL"))?;
        mount(source, at, kind, MountFlags::NOSUID | MountFlags::NODEV, data.as_c_str()).map_err(
            |errno| {
                CliError::new(format!(
                    "the kernel refuses to mount {kind} at {}: {}",
                    shown(at),
                    std::io::Error::from(errno)
                ))
                .hint("the demo needs real root, not that of a user namespace or of an unprivileged container")
            },
        )?;
        self.mounts.push(at.to_owned());
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        while let Some(place) = self.mounts.pop() {
            // Lazily where somebody still stands in it: it must not stay behind.
            let gone = unmount(&place, UnmountFlags::NOFOLLOW)
                .or_else(|_| unmount(&place, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH));
            if let Err(errno) = gone {
                let error = std::io::Error::from(errno);
                Talk::new(0, false).warn(&format!("still mounted: {}: {error}", shown(&place)));
            }
        }
    }
}

fn make(path: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(path).map_err(|error| CliError::file("cannot make", path, &error))
}

fn program_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// Runs a program and returns its standard output.
fn run(program: &str, args: &[&std::ffi::OsStr]) -> Result<String, CliError> {
    let path = program_path(program).unwrap_or_else(|| program.into());
    let output = Command::new(path)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| CliError::new(format!("{program} cannot be started: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or_default().trim();
    Err(CliError::new(format!(
        "{program} failed ({}): {}",
        output.status,
        plimsoll_core::model::escape(std::ffi::OsStr::new(said).as_bytes())
    )))
}
