//! The mount namespaces that the threads of a container look through.

use std::collections::HashSet;

use plimsoll_core::model::{Bytes, Gap};
use rustix::fs::CWD;

use crate::fs::{Identity, known_identity, read_small_bytes};
use crate::proc::life::is_gone;
use crate::proc::mountinfo::{self, Mount};

/// What one thread has mounted, as it sees it from its root.
#[derive(Debug)]
pub(super) struct View {
    /// The thread.
    pub(super) pid: u32,
    pub(super) mounts: Vec<Mount>,
}

/// Every different view of a container's threads, that of its first process first.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    pub(super) views: Vec<View>,
    rootfs: Option<(Bytes, Bytes)>,
}

impl Namespaces {
    /// Reads them. A thread may have a mount namespace of its own (`unshare(2)`), and see it from
    /// another root (`chroot(2)`); threads that end meanwhile are left out.
    pub(super) fn read(first: u32, threads: &[u32], gaps: &mut Vec<Gap>) -> Self {
        let mut seen = HashSet::new();
        let mut found = Self::default();
        let others = threads.iter().copied().filter(|thread| *thread != first);
        for thread in std::iter::once(first).chain(others) {
            match view(thread, &mut seen) {
                Ok(Some(view)) => found.views.push(view),
                Ok(None) => {}
                Err(e) if is_gone(&e) => {}
                Err(e) => {
                    gaps.push(Gap::new("mounts", format!("of process {thread}: {e}")));
                    break;
                }
            }
        }
        let root = found
            .views
            .first()
            .and_then(|view| view.mounts.iter().rfind(|mount| is_root(mount)));
        found.rootfs = root.map(|mount| (mount.device.clone(), mount.root.clone()));
        found
    }

    /// Whether a mount shows the container's rootfs at its root. That the first process of the
    /// container runs on the rootfs is checked where its layers are located.
    pub(super) fn is_rootfs(&self, mount: &Mount) -> bool {
        is_root(mount)
            && self
                .rootfs
                .as_ref()
                .is_some_and(|(device, root)| *device == mount.device && *root == mount.root)
    }

    /// Returns a mount by its number.
    pub(super) fn mount(&self, id: u64) -> Option<&Mount> {
        self.views
            .iter()
            .flat_map(|view| &view.mounts)
            .find(|mount| mount.id == id)
    }
}

fn is_root(mount: &Mount) -> bool {
    mount.mount_point.as_bytes() == b"/"
}

/// Returns what a thread sees; `None` when another thread sees the same.
fn view(thread: u32, seen: &mut HashSet<(Vec<u8>, Identity)>) -> std::io::Result<Option<View>> {
    let proc = format!("/proc/{thread}");
    let namespace = rustix::fs::readlinkat(CWD, format!("{proc}/ns/mnt"), Vec::new())?;
    let root = known_identity(format!("{proc}/root").as_ref())?;
    if !seen.insert((namespace.into_bytes(), root)) {
        return Ok(None);
    }
    let text = read_small_bytes(format!("{proc}/mountinfo"))?;
    Ok(Some(View {
        pid: thread,
        mounts: mountinfo::parse(&text),
    }))
}
