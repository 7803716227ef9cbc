//! Which subvolume a directory entry is, found without opening it.

use std::path::{Path, PathBuf};

use super::{BtrfsStack, Subvolume};
use crate::fs::Dir;
use crate::fs::btrfs::decode::Location;
use crate::fs::btrfs::{ROOT_DIRECTORY, TreeError, Trees};

/// Why an entry has no subvolume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubvolumeError {
    /// It is something else, or nothing at all.
    #[error("{0} is not a Btrfs subvolume")]
    NotASubvolume(String),
    /// The trees cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Returns the subvolume that is the entry `name` of a directory. `path` is kept to show.
///
/// The entry itself is not opened: opening the root directory of a container raises an event in it.
///
/// # Errors
/// [`SubvolumeError`] when it is none, or the trees cannot be read.
pub fn subvolume(parent: &Dir, name: &[u8], path: PathBuf) -> Result<Subvolume, SubvolumeError> {
    let none = || SubvolumeError::NotASubvolume(plimsoll_core::model::escape(name).into_owned());
    let mut trees = Trees::new(parent);
    let tree = trees.tree_of_anchor()?;
    let dir = parent.stat_self().map_err(TreeError::Io)?.ino;
    match trees.entry(tree, dir, name)? {
        Some(Location::Subvolume(id)) if trees.is_nested_in(id, tree)? => {
            Ok(Subvolume { id, path })
        }
        _ => Err(none()),
    }
}

/// Returns the stack of two subvolumes named by their paths, if the container's is a snapshot of the
/// image's; `None` when they are anything else, so that the two trees must be compared otherwise.
#[must_use]
pub fn stack_of_paths(image: &Path, container: &Path) -> Option<BtrfsStack> {
    let find = |path: &Path| {
        let path = std::fs::canonicalize(path).ok()?;
        let parent = Dir::open(path.parent()?).ok()?;
        let found = subvolume(&parent, path.file_name()?.as_encoded_bytes(), path.clone()).ok()?;
        Some((parent, found))
    };
    let (image_parent, image) = find(image)?;
    let (anchor, container) = find(container)?;
    let image_root = Trees::new(&image_parent).root(image.id).ok()??;
    let container_root = Trees::new(&anchor).root(container.id).ok()??;
    let is_snapshot = container_root.parent_uuid == image_root.uuid;
    is_snapshot.then_some(BtrfsStack {
        anchor,
        container,
        injected: None,
        injected_paths: Vec::new(),
        image,
    })
}

/// A read-only snapshot of a subvolume, deleted on drop.
#[derive(Debug)]
pub struct Snapshot<'s> {
    parent: &'s Dir,
    name: Vec<u8>,
    subvolume: Subvolume,
}

impl<'s> Snapshot<'s> {
    /// Takes a read-only snapshot of the container's subvolume beside it. This writes, and opens the
    /// root directory of the container.
    ///
    /// # Errors
    /// Those of opening it and of the ioctl, and [`SubvolumeError`].
    pub fn take(stack: &'s BtrfsStack) -> std::io::Result<Self> {
        let source = Dir::open(&stack.container.path)?;
        if source.stat_self()?.ino != ROOT_DIRECTORY {
            return Err(std::io::Error::other(
                "the container's directory is no subvolume any more",
            ));
        }
        let name = format!(".plimsoll-{}-{}", std::process::id(), stack.container.id).into_bytes();
        use std::os::fd::AsFd as _;
        plimsoll_syscall::btrfs::snapshot_read_only(stack.anchor.as_fd(), &name, source.as_fd())?;
        let mut snapshot = Self {
            parent: &stack.anchor,
            name,
            subvolume: stack.container.clone(),
        };
        let path = stack
            .container
            .path
            .with_file_name(String::from_utf8_lossy(&snapshot.name).as_ref());
        snapshot.subvolume =
            subvolume(&stack.anchor, &snapshot.name, path).map_err(std::io::Error::other)?;
        Ok(snapshot)
    }

    /// Returns the snapshot.
    #[must_use]
    pub fn subvolume(&self) -> &Subvolume {
        &self.subvolume
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        use std::os::fd::AsFd as _;
        #[expect(
            clippy::let_underscore_must_use,
            reason = "nothing can be done about it here, and its name tells what it is"
        )]
        let _ = plimsoll_syscall::btrfs::delete_subvolume(self.parent.as_fd(), &self.name);
    }
}
