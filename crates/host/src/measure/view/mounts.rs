//! What is mounted over the rootfs, and who accounts for it.

use std::collections::HashSet;

use plimsoll_core::model::{
    Bytes, ExpectedMount, ExpectedSource, Gap, Mount, MountOrigin, RootPath,
};

use super::LISTED_MAX;
use super::host::HostMounts;
use super::namespaces::Namespaces;
use crate::proc::mountinfo;

/// Where every container has file systems of the kernel's, and their types (OCI runtime
/// specification, "Default Filesystems", "Masked Paths", "Readonly Paths"). No file of an image is
/// seen beneath them.
const PSEUDO: [Pseudo; 3] = [
    Pseudo {
        base: b"/proc",
        own: &["proc"],
        beneath: &["proc", "tmpfs"],
    },
    Pseudo {
        base: b"/sys",
        own: &["sysfs"],
        beneath: &["sysfs", "cgroup", "cgroup2", "tmpfs"],
    },
    Pseudo {
        base: b"/dev",
        own: &["tmpfs", "devtmpfs"],
        beneath: &["tmpfs", "devtmpfs", "devpts", "mqueue"],
    },
];

/// A path where the kernel's own file systems are.
struct Pseudo {
    base: &'static [u8],
    /// Types that stand at it.
    own: &'static [&'static str],
    /// Types that stand beneath it.
    beneath: &'static [&'static str],
}

/// The mounts over a rootfs.
#[derive(Debug, Default)]
pub(super) struct Over {
    /// Each once, sorted by path.
    pub(super) mounts: Vec<Mount>,
    /// The numbers of those that show what the host gave a container: a part of the runtime.
    pub(super) of_host: HashSet<u64>,
    /// The numbers of those that are the runtime's, and empty to begin with.
    pub(super) scratch: HashSet<u64>,
    /// Whether there is any that nobody accounts for, or not as it is.
    pub(super) unaccounted: bool,
}

/// Returns every mount that some thread of the container sees, but for that of the rootfs itself.
pub(super) fn over(
    namespaces: &Namespaces,
    expected: &[ExpectedMount],
    host: &HostMounts,
    gaps: &mut Vec<Gap>,
) -> Over {
    let mut seen = HashSet::new();
    let mut over = Over::default();
    for view in &namespaces.views {
        for mount in &view.mounts {
            if namespaces.is_rootfs(mount) {
                continue;
            }
            let Ok(path) = RootPath::parse(mount.mount_point.as_bytes()) else {
                continue;
            };
            let account = account(mount, expected, host);
            match account {
                Account::Host(MountOrigin::Runtime) => _ = over.of_host.insert(mount.id),
                Account::For(MountOrigin::Runtime) => _ = over.scratch.insert(mount.id),
                Account::Host(_) | Account::For(_) => {}
                Account::Other(_) | Account::Nobody => over.unaccounted = true,
            }
            // A namespace begins as a copy of another: the same mounts with other numbers.
            let identity = (
                &mount.mount_point,
                &mount.device,
                &mount.root,
                &mount.source,
            );
            if !seen.insert(identity) {
                continue;
            }
            if over.mounts.len() == LISTED_MAX {
                gaps.push(Gap::new(
                    "mounts",
                    format!("there are more than {LISTED_MAX}"),
                ));
                return over;
            }
            let at_this_path = |other: &&mountinfo::Mount| other.mount_point == mount.mount_point;
            let origin = match account {
                Account::Host(origin) | Account::For(origin) => origin,
                Account::Nobody => MountOrigin::Foreign,
                // One of them may be what is expected, the other is not.
                Account::Other(_) if view.mounts.iter().filter(at_this_path).count() > 1 => {
                    MountOrigin::Foreign
                }
                Account::Other(origin) => {
                    gaps.push(Gap::new(
                        path.as_bytes(),
                        "what is mounted there cannot be told to be what the container's record says",
                    ));
                    origin
                }
            };
            over.mounts.push(Mount {
                path,
                fs_type: mount.fs_type.clone(),
                source: mount.source.clone(),
                root: mount.root.clone(),
                read_only: mount.read_only,
                origin,
                pid: view.pid,
            });
        }
    }
    over.mounts.sort_by(|a, b| a.path.cmp(&b.path));
    over
}

/// Whether a mount is accounted for.
#[derive(Debug, Clone, Copy)]
enum Account {
    /// It shows the path of the host that is expected.
    Host(MountOrigin),
    /// It is a file system of the type that is expected.
    For(MountOrigin),
    /// Something else is expected at this path.
    Other(MountOrigin),
    /// Nothing is expected at this path.
    Nobody,
}

fn account(mount: &mountinfo::Mount, expected: &[ExpectedMount], host: &HostMounts) -> Account {
    let here = |e: &&ExpectedMount| e.path.as_bytes() == mount.mount_point.as_bytes();
    for expected in expected.iter().filter(here) {
        match &expected.what {
            ExpectedSource::FileSystem(kind) if mount.fs_type.as_bytes() == kind.as_bytes() => {
                return Account::For(expected.origin);
            }
            ExpectedSource::HostPath(path) if host.shows(mount, path.as_bytes()) => {
                return Account::Host(expected.origin);
            }
            ExpectedSource::Unknown => return Account::Host(expected.origin),
            ExpectedSource::FileSystem(_) | ExpectedSource::HostPath(_) => {}
        }
    }
    if is_pseudo(&mount.mount_point, &mount.fs_type) {
        return Account::For(MountOrigin::Runtime);
    }
    match expected.iter().find(here) {
        Some(expected) => Account::Other(expected.origin),
        None => Account::Nobody,
    }
}

fn is_pseudo(path: &Bytes, fs_type: &Bytes) -> bool {
    let is_one = |types: &[&str]| types.iter().any(|t| t.as_bytes() == fs_type.as_bytes());
    PSEUDO
        .iter()
        .any(|pseudo| match path.as_bytes().strip_prefix(pseudo.base) {
            Some(b"") => is_one(pseudo.own),
            Some([b'/', ..]) => is_one(pseudo.beneath),
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_the_kernel() {
        let is = |path: &str, kind: &str| is_pseudo(&path.into(), &kind.into());
        assert!(is("/proc", "proc") && is("/proc/acpi", "tmpfs") && is("/dev/pts", "devpts"));
        assert!(is("/sys/fs/cgroup/pids", "cgroup") && is("/dev", "tmpfs"));
        for (path, kind) in [
            ("/proc", "tmpfs"),
            ("/proc2", "proc"),
            ("/usr/bin", "tmpfs"),
            ("/sys", "overlay"),
            ("/dev/x", "ext4"),
        ] {
            assert!(!is(path, kind), "{path} {kind}");
        }
    }
}
