//! A Btrfs snapshot and the subvolume that it was made of, by what the file system itself keeps of that.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use plimsoll_core::model::escape;
use plimsoll_syscall::btrfs::tree_of;

use super::{BtrfsStack, Subvolume};
use crate::fs::Dir;
use crate::fs::btrfs::{ROOT_DIRECTORY, TreeError, Trees};
use crate::proc::mountinfo::Mount;

/// Why a subvolume cannot be compared with the one that it was made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It is no subvolume.
    #[error("it is no Btrfs subvolume, nor is one mounted there")]
    NotASubvolume,
    /// It was not made as a snapshot.
    #[error("subvolume {0} is no snapshot: there is nothing to compare it with")]
    NoSnapshot(u64),
    /// What it was made of was deleted.
    #[error(
        "the subvolume that subvolume {0} is a snapshot of is gone: nothing is left to compare it with"
    )]
    OriginGone(u64),
    /// The file system can be looked at only through what the container itself sees.
    #[error(
        "its file system is mounted nowhere else on this host: mount its top level to have it looked at"
    )]
    NotMounted,
    /// The trees cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// A mounted Btrfs subvolume.
#[derive(Debug)]
pub struct Mounted<'m> {
    /// The mounts of this process.
    pub here: &'m [Mount],
    /// Device number of the file system, as mountinfo has it.
    pub device: &'m [u8],
    /// The subvolume.
    pub id: u64,
    /// Its path from the top level of its file system.
    pub root: &'m [u8],
}

/// Returns a subvolume that is mounted somewhere, and the one that it is a snapshot of. Nothing of it is
/// opened: the trees are read through another mount of the file system.
///
/// # Errors
/// [`SnapshotError`] when it is no snapshot, or cannot be looked at.
pub fn of_mount(mounted: &Mounted<'_>) -> Result<BtrfsStack, SnapshotError> {
    let Mounted { here, device, .. } = *mounted;
    let others = here.iter().filter(|mount| {
        let root = mount.root.as_bytes();
        mount.device.as_bytes() == device
            && mount.fs_type.as_bytes() == b"btrfs"
            && !is_within(root, mounted.root)
    });
    for mount in others {
        let at = Path::new(OsStr::from_bytes(mount.mount_point.as_bytes()));
        // Something else may be mounted over it: then it is not of this file system.
        let Ok(anchor) = Dir::open(at) else { continue };
        let is_outside = tree_of(anchor.as_fd()).is_ok_and(|tree| tree != mounted.id);
        if is_outside && has_subvolume(&anchor, mounted.id, mounted.root)? {
            return of(anchor, mounted.id, here, device, None);
        }
    }
    Err(SnapshotError::NotMounted)
}

/// Whether the file system that `anchor` is on has this subvolume at this path: then it is the one.
fn has_subvolume(anchor: &Dir, id: u64, root: &[u8]) -> Result<bool, SnapshotError> {
    let mut trees = Trees::new(anchor);
    if trees.root(id)?.is_none() {
        return Ok(false);
    }
    let path = trees.path_of(id)?;
    Ok(path.is_some_and(|path| root.strip_prefix(b"/") == Some(&path)))
}

/// Returns the subvolume `id` and the one that it is a snapshot of, read through `anchor`; `path` is where
/// the first lies, where that is known already.
///
/// # Errors
/// [`SnapshotError`] when it is no snapshot, or the trees cannot be read.
pub fn of(
    anchor: Dir,
    id: u64,
    here: &[Mount],
    device: &[u8],
    path: Option<PathBuf>,
) -> Result<BtrfsStack, SnapshotError> {
    let mut trees = Trees::new(&anchor);
    let gone = || SnapshotError::Tree(TreeError::Gone(id));
    let root = trees.root(id)?.ok_or_else(gone)?;
    if root.parent_uuid == [0; 16] {
        return Err(SnapshotError::NoSnapshot(id));
    }
    let image = trees
        .subvolume_of(root.parent_uuid)?
        .ok_or(SnapshotError::OriginGone(id))?;
    let mut place = |id: u64| -> Result<PathBuf, SnapshotError> {
        let path = trees.path_of(id)?.unwrap_or_default();
        Ok(on_host(here, device, &path)
            .unwrap_or_else(|| PathBuf::from(format!("subvolume {id} ({})", escape(&path)))))
    };
    let image = Subvolume {
        path: place(image)?,
        id: image,
    };
    let container = Subvolume {
        path: match path {
            Some(path) => path,
            None => place(id)?,
        },
        id,
    };
    Ok(BtrfsStack {
        anchor: std::sync::Arc::new(anchor),
        container,
        injected: None,
        injected_paths: Vec::new(),
        image,
    })
}

/// Returns the path on the host of something at a path of a file system, by what is mounted where.
fn on_host(here: &[Mount], device: &[u8], path: &[u8]) -> Option<PathBuf> {
    let path = [b"/", path].concat();
    let holder = here
        .iter()
        .filter(|mount| {
            mount.device.as_bytes() == device && is_within(&path, mount.root.as_bytes())
        })
        .max_by_key(|mount| mount.root.as_bytes().len())?;
    let root = holder.root.as_bytes();
    let rest = path.get(if root == b"/" { 0 } else { root.len() }..)?;
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    let point = Path::new(OsStr::from_bytes(holder.mount_point.as_bytes()));
    Some(match rest {
        b"" => point.to_owned(),
        rest => point.join(OsStr::from_bytes(rest)),
    })
}

/// Whether a path is another one or beneath it.
fn is_within(path: &[u8], above: &[u8]) -> bool {
    above == b"/"
        || path
            .strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
}

/// Whether a directory is the root of a subvolume, by what a look at it tells.
#[must_use]
pub fn is_root(dir: &Dir) -> bool {
    dir.stat_self().is_ok_and(|stat| stat.ino == ROOT_DIRECTORY)
}
