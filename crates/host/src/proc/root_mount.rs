//! What is mounted at the root of a process.

use std::os::fd::AsFd as _;

use plimsoll_core::model::Bytes;
use plimsoll_syscall::mount;
use rustix::fs::{CWD, Mode, OFlags};

use super::life::is_gone;
use super::mountinfo::{self, Mount};
use crate::fs::{Dir, read_small_bytes};

/// What is mounted at the root of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootMount {
    /// Device number of the file system, `major:minor`.
    pub(crate) device: Bytes,
    /// Path within the file system that is the root of the mount.
    pub(crate) root: Bytes,
    /// Type of the file system.
    pub(crate) fs_type: Bytes,
    /// Options of the file system as the kernel prints them, octal escapes in place. Those of every file
    /// system may be left out.
    pub(crate) super_options: Bytes,
}

impl RootMount {
    /// Whether the program fuse-overlayfs answers for it, or one that says that it is that.
    pub(crate) fn is_fuse_overlay(&self) -> bool {
        mountinfo::is_fuse_overlay(&self.fs_type)
    }
}

impl From<Mount> for RootMount {
    fn from(mount: Mount) -> Self {
        Self {
            device: mount.device,
            root: mount.root,
            fs_type: mount.fs_type,
            super_options: mount.super_options,
        }
    }
}

/// Returns what is mounted at the root of a process, the topmost one; `None` when the process is
/// gone.
///
/// # Errors
/// Why it cannot be known: one clause.
pub(crate) fn of(pid: u32) -> Result<Option<RootMount>, String> {
    match asked(pid) {
        Some(mount) => Ok(Some(mount)),
        None => listed(pid),
    }
}

/// Asks the kernel about this one mount: to list all that a container has takes four times as long. `None`
/// where only the list tells, because the kernel is older than Linux 6.11, something is mounted over the root,
/// the root is none of a mount, or it is of another mount namespace than the process.
fn asked(pid: u32) -> Option<RootMount> {
    let root = Dir::look(format!("/proc/{pid}/root").as_ref()).ok()?;
    let mount = root.mount_at_top()?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let path = format!("/proc/{pid}/ns/mnt");
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?;
    let namespace = mount::namespace(file.as_fd()).ok()?;
    // A container that is restarted would find its rootfs in use.
    drop((root, file));
    let shown = mount::shown(mount, namespace).ok()?;
    // What a FUSE says that it is stands beside its type.
    if shown.fs_type.starts_with(b"fuse") {
        return None;
    }
    let (major, minor) = shown.device;
    Some(RootMount {
        device: format!("{major}:{minor}").as_str().into(),
        root: shown.root.into(),
        fs_type: shown.fs_type.into(),
        super_options: shown.options.into(),
    })
}

/// Looks for it in the list of what a process has mounted.
fn listed(pid: u32) -> Result<Option<RootMount>, String> {
    let path = format!("/proc/{pid}/mountinfo");
    match read_small_bytes(&path) {
        // A process that is ending has no mounts any more.
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => mountinfo::parse(&text)
            .into_iter()
            .rfind(|mount| mount.mount_point.as_bytes() == b"/")
            .map(|mount| Some(mount.into()))
            .ok_or_else(|| format!("{path} has no mount at /")),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(format!("{path}: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways to ask give one answer.
    #[test]
    fn of_this_process() {
        let pid = std::process::id();
        let listed = listed(pid).unwrap().unwrap();
        assert_eq!(super::listed(u32::MAX).unwrap(), None);
        assert_eq!(asked(u32::MAX), None);
        let found = of(pid).unwrap().unwrap();
        assert_eq!(found.device, listed.device);
        assert_eq!(found.root, listed.root);
        assert_eq!(found.fs_type, listed.fs_type);
        // Those of every file system come before.
        let (all, some) = (listed.super_options, found.super_options);
        assert!(all.as_bytes().ends_with(some.as_bytes()), "{all} {some}");
    }
}
