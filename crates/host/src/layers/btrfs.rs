//! Which subvolume a directory entry is, found without opening it.

use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use plimsoll_syscall::btrfs::{delete_subvolume, fs_info, snapshot_read_only, tree_of};

use super::{BtrfsStack, Subvolume};
use crate::fs::Dir;
use crate::fs::btrfs::decode::Location;
use crate::fs::btrfs::{ROOT_DIRECTORY, TreeError, Trees};

/// Why an entry has no subvolume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubvolumeError {
    /// It is something else.
    #[error("{0} is not a Btrfs subvolume")]
    NotASubvolume(String),
    /// There is no such entry.
    #[error("{0} is missing")]
    Missing(String),
    /// The trees cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Where a directory is in its file system.
#[derive(Debug, Clone, Copy)]
pub struct Home {
    /// The tree that it is in.
    tree: u64,
    inode: u64,
}

impl Home {
    /// Looks where a directory is.
    ///
    /// # Errors
    /// [`SubvolumeError`] when that is no Btrfs, or cannot be asked.
    pub fn of(dir: &Dir) -> Result<Self, SubvolumeError> {
        Ok(Self {
            tree: Trees::new(dir).tree_of_anchor()?,
            inode: dir.stat_self().map_err(TreeError::Io)?.ino,
        })
    }
}

/// The subvolumes in a directory.
#[derive(Debug)]
pub struct Subvolumes<'d> {
    parent: &'d Dir,
    trees: Trees<'d>,
    home: Home,
}

impl<'d> Subvolumes<'d> {
    /// Looks where a directory is in its file system.
    ///
    /// # Errors
    /// [`SubvolumeError`] when that is no Btrfs, or cannot be asked.
    pub fn of(parent: &'d Dir) -> Result<Self, SubvolumeError> {
        Ok(Self::at(parent, Home::of(parent)?))
    }

    /// The same of a directory of which that is known.
    #[must_use]
    pub fn at(parent: &'d Dir, home: Home) -> Self {
        Self {
            parent,
            trees: Trees::new(parent),
            home,
        }
    }

    /// Returns the subvolume that is the entry `name` of the directory. `path` is kept to show.
    ///
    /// The entry itself is not opened: opening the root directory of a container raises an event in it.
    ///
    /// # Errors
    /// [`SubvolumeError`] when it is none, or the trees cannot be read.
    pub fn named(&mut self, name: &[u8], path: PathBuf) -> Result<Subvolume, SubvolumeError> {
        let shown = || plimsoll_core::model::escape(name).into_owned();
        let Home { tree, inode } = self.home;
        match self.trees.entry(tree, inode, name)? {
            None => Err(SubvolumeError::Missing(shown())),
            // What the directory shows there must be the subvolume: something may be mounted over it.
            Some(Location::Subvolume(id))
                if self.trees.hangs_in(id, tree)?.is_some()
                    && self.parent.stat(name).map_err(TreeError::Io)?.ino == ROOT_DIRECTORY =>
            {
                Ok(Subvolume { id, path })
            }
            Some(_) => Err(SubvolumeError::NotASubvolume(shown())),
        }
    }
}

/// Returns the stack of two subvolumes named by their paths, if the container's is a snapshot of the
/// image's; `None` when they are anything else, so that the two trees must be compared otherwise.
#[must_use]
pub fn stack_of_paths(image: &Path, container: &Path) -> Option<BtrfsStack> {
    let find = |path: &Path| {
        let path = std::fs::canonicalize(path).ok()?;
        let parent = Dir::open(path.parent()?).ok()?;
        let name = path.file_name()?.as_encoded_bytes();
        let found = Subvolumes::of(&parent)
            .ok()?
            .named(name, path.clone())
            .ok()?;
        Some((parent, found))
    };
    let (image_parent, image) = find(image)?;
    let (anchor, container) = find(container)?;
    // A copy of a whole file system has subvolumes of the same names and ids.
    let file_system = |dir: &Dir| fs_info(dir.as_fd()).ok().map(|info| info.id);
    let one_file_system = file_system(&image_parent)? == file_system(&anchor)?;
    let mut trees = Trees::new(&anchor);
    let image_root = trees.root(image.id).ok()??;
    let container_root = trees.root(container.id).ok()??;
    let is_snapshot = one_file_system && container_root.parent_uuid == image_root.uuid;
    is_snapshot.then_some(BtrfsStack {
        anchor: std::sync::Arc::new(anchor),
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
        let gone = || std::io::Error::other("the container's directory is no subvolume any more");
        let entry = stack.container.path.file_name().ok_or_else(gone)?;
        let source = stack.anchor.child(entry.as_bytes())?;
        if source.stat_self()?.ino != ROOT_DIRECTORY
            || tree_of(source.as_fd())? != stack.container.id
        {
            return Err(gone());
        }
        // A snapshot holds what dirty pages have reserved room for; syncfs writes out those as well that
        // were dirtied without, as a store through a pinned page is.
        rustix::fs::syncfs(&stack.anchor)?;
        let name = format!(".plimsoll-{}-{}", std::process::id(), stack.container.id).into_bytes();
        snapshot_read_only(stack.anchor.as_fd(), &name, source.as_fd())?;
        let mut snapshot = Self {
            parent: &stack.anchor,
            name,
            subvolume: stack.container.clone(),
        };
        let path = stack
            .container
            .path
            .with_file_name(String::from_utf8_lossy(&snapshot.name).as_ref());
        snapshot.subvolume = Subvolumes::of(&stack.anchor)
            .and_then(|mut subvolumes| subvolumes.named(&snapshot.name, path))
            .map_err(std::io::Error::other)?;
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
        #[expect(
            clippy::let_underscore_must_use,
            reason = "nothing can be done about it here, and its name tells what it is"
        )]
        let _ = delete_subvolume(self.parent.as_fd(), &self.name);
    }
}
