//! Where a path of the host lies, in the terms in which the kernel lists mounts.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};

use crate::fs::read_small_bytes;
use crate::proc::mountinfo::{self, Mount};

/// The mounts that this process sees, read when they are first needed.
#[derive(Debug, Default)]
pub struct HostMounts {
    mounts: OnceCell<Vec<Mount>>,
}

impl HostMounts {
    /// Whether `mount` shows the file or directory at this path of the host.
    pub(super) fn shows(&self, mount: &Mount, path: &[u8]) -> bool {
        self.locate(path).is_some_and(|(device, root)| {
            // A file that was replaced on the host since it was mounted.
            let shown = mount.root.as_bytes();
            let shown = shown.strip_suffix(b"//deleted").unwrap_or(shown);
            mount.device.as_bytes() == device && shown == root
        })
    }

    /// Returns the device of a path, and the path within that file system.
    fn locate(&self, path: &[u8]) -> Option<(&[u8], Vec<u8>)> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let fd: OwnedFd = rustix::fs::open(OsStr::from_bytes(path), flags, Mode::empty()).ok()?;
        let stat = rustix::fs::statx(&fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
        let mount = self.mounts().iter().find(|m| m.id == stat.stx_mnt_id)?;
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let path = rustix::fs::readlinkat(CWD, link, Vec::new())
            .ok()?
            .into_bytes();
        let within = path.strip_prefix(mount.mount_point.as_bytes())?;
        Some((
            mount.device.as_bytes(),
            joined(mount.root.as_bytes(), within),
        ))
    }

    fn mounts(&self) -> &[Mount] {
        self.mounts.get_or_init(|| {
            // Without the list nothing is recognized, which is told for each mount.
            let text = read_small_bytes("/proc/self/mountinfo").unwrap_or_default();
            mountinfo::parse(&text)
        })
    }
}

/// Joins two absolute paths, of which either may be `/` or empty.
fn joined(root: &[u8], within: &[u8]) -> Vec<u8> {
    let root = root.strip_suffix(b"/").unwrap_or(root);
    let within = within.strip_prefix(b"/").unwrap_or(within);
    match (root, within) {
        (b"", b"") => b"/".to_vec(),
        (_, b"") => root.to_vec(),
        _ => [root, b"/", within].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_join() {
        for (root, within, joint) in [
            ("/", "", "/"),
            ("/", "/a", "/a"),
            ("/sub", "", "/sub"),
            ("/sub", "/a/b", "/sub/a/b"),
            ("/", "a", "/a"),
        ] {
            assert_eq!(joined(root.as_bytes(), within.as_bytes()), joint.as_bytes());
        }
    }

    #[test]
    fn a_path_of_this_machine() {
        let host = HostMounts::default();
        let (device, root) = host.locate(b"/proc/self").unwrap();
        let proc = host
            .mounts()
            .iter()
            .find(|m| m.mount_point.as_bytes() == b"/proc")
            .unwrap();
        assert_eq!(device, proc.device.as_bytes());
        assert!(root.starts_with(b"/"));
        assert!(host.shows(proc, b"/proc"));
        assert!(!host.shows(proc, b"/"));
        assert!(!host.shows(proc, b"/nonexistent"));
    }
}
