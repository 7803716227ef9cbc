//! Where a path of the host lies, in the terms in which the kernel lists mounts.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags};

use crate::fs::{MOUNT_FOR_EVER, read_small_bytes};
use crate::proc::mountinfo::{self, Mount};

/// The mounts that this process sees, asked for when they are first needed: one by one where the kernel
/// tells of one alone, so that a check does not take longer the more containers run here.
#[derive(Debug, Default)]
pub struct HostMounts {
    /// By the numbers of mounts; none for one that the kernel tells nothing of.
    known: RefCell<HashMap<u64, Option<Rc<Place>>>>,
    all: OnceCell<Vec<Mount>>,
}

/// Where a mount is, and what it shows.
#[derive(Debug)]
struct Place {
    /// Its file system, as in a list of mounts: `major:minor`.
    device: Vec<u8>,
    /// The path within that file system.
    root: Vec<u8>,
    point: Vec<u8>,
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
    fn locate(&self, path: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let (fd, path) = open(path)?;
        let place = self.place(&fd)?;
        let within = path.strip_prefix(&place.point[..])?;
        Some((place.device.clone(), joined(&place.root, within)))
    }

    /// Returns the mount that a file is on.
    fn place(&self, file: &OwnedFd) -> Option<Rc<Place>> {
        let stat = |mask| rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, mask).ok();
        let unique = stat(MOUNT_FOR_EVER)?;
        if unique.stx_mask & MOUNT_FOR_EVER.bits() != 0 {
            let mut known = self.known.borrow_mut();
            let place = known
                .entry(unique.stx_mnt_id)
                .or_insert_with_key(|mount| Place::told(*mount).map(Rc::new));
            if let Some(place) = place {
                return Some(Rc::clone(place));
            }
        }
        let number = stat(StatxFlags::MNT_ID)?.stx_mnt_id;
        let mount = self.all().iter().find(|mount| mount.id == number)?;
        Some(Rc::new(Place {
            device: mount.device.as_bytes().to_vec(),
            root: mount.root.as_bytes().to_vec(),
            point: mount.mount_point.as_bytes().to_vec(),
        }))
    }

    fn all(&self) -> &[Mount] {
        self.all.get_or_init(|| {
            // Without the list nothing is recognized, which is told for each mount.
            let text = read_small_bytes("/proc/self/mountinfo").unwrap_or_default();
            mountinfo::parse(&text)
        })
    }
}

impl Place {
    /// Asks the kernel about one mount.
    fn told(mount: u64) -> Option<Self> {
        let place = plimsoll_syscall::mount::place(mount).ok()?;
        let (major, minor) = place.device;
        Some(Self {
            device: format!("{major}:{minor}").into_bytes(),
            root: place.root,
            point: place.point,
        })
    }
}

/// Opens what is at a path to look at, and returns by which path the kernel knows it: the same one where no link
/// is on the way.
fn open(path: &[u8]) -> Option<(OwnedFd, Cow<'_, [u8]>)> {
    let name = OsStr::from_bytes(path);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let straight = ResolveFlags::NO_SYMLINKS;
    if is_straight(path)
        && let Ok(fd) = rustix::fs::openat2(CWD, name, flags, Mode::empty(), straight)
    {
        return Some((fd, Cow::Borrowed(path)));
    }
    let fd: OwnedFd = rustix::fs::open(name, flags, Mode::empty()).ok()?;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = rustix::fs::readlinkat(CWD, link, Vec::new()).ok()?;
    Some((fd, Cow::Owned(path.into_bytes())))
}

/// Whether a path begins at the root, and every component of it is a name.
fn is_straight(path: &[u8]) -> bool {
    let is_name = |component: &[u8]| !matches!(component, b"" | b"." | b"..");
    path.strip_prefix(b"/")
        .is_some_and(|path| path.split(|b| *b == b'/').all(is_name))
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
    fn the_path_by_which_the_kernel_knows_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::write(&real, b"").unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        let real = real.as_os_str().as_bytes();
        let path = dir.path().as_os_str().as_bytes();
        for form in [
            "/real",
            "/link",
            "//real",
            "/./real",
            "/../../proc/../tmp/x",
        ] {
            let form = [path, form.as_bytes()].concat();
            match open(&form) {
                Some((_, path)) => assert_eq!(&*path, real),
                None => assert!(form.ends_with(b"/x")),
            }
        }
        assert!(is_straight(b"/a/b.c"));
        for other in [&b""[..], b"a", b"/", b"/a/", b"//a", b"/a/../b", b"/."] {
            assert!(!is_straight(other));
        }
    }

    #[test]
    fn a_path_of_this_machine() {
        let host = HostMounts::default();
        let (device, root) = host.locate(b"/proc/self").unwrap();
        let proc = host
            .all()
            .iter()
            .find(|m| m.mount_point.as_bytes() == b"/proc")
            .unwrap();
        assert_eq!(device, proc.device.as_bytes());
        // Both ways to ask give one answer.
        let fd = rustix::fs::open("/proc", OFlags::PATH, Mode::empty()).unwrap();
        let place = host.place(&fd).unwrap();
        assert_eq!(
            (&place.device[..], &place.root[..], &place.point[..]),
            (proc.device.as_bytes(), proc.root.as_bytes(), &b"/proc"[..])
        );
        assert!(root.starts_with(b"/"));
        assert!(host.shows(proc, b"/proc"));
        assert!(!host.shows(proc, b"/"));
        assert!(!host.shows(proc, b"/nonexistent"));
    }
}
