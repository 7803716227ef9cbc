//! Whether a container's tree stood still while it was compared.
//!
//! The search ioctl reads blocks one after the other, of a tree that goes on living: it shows a rename
//! when the old name is gone and the new one not yet there, which no process ever sees. And content that
//! was written after the flush is not in the tree yet, while a mode that was set after it is. So what
//! was read holds for sure only of inodes that did not change from before the flush until after the
//! comparison.

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use plimsoll_core::model::{ChangeKind, RootPath, Timestamp};

use super::BtrfsPair;
use crate::fs::btrfs::decode::{INODE_ITEM, Inode, Location, Root};
use crate::fs::btrfs::{ROOT_DIRECTORY, TreeError, Trees};
use crate::measure::Trouble;

/// How far the clock that change times are taken from may lag behind: it moves once a tick, of which
/// there are 100 a second at least (`CONFIG_HZ`).
const TICK: Duration = Duration::from_millis(20);

/// Inodes that are kept at most: beyond, everything is taken to have moved.
const MOVED_MAX: usize = 100_000;

/// The state of a container's tree when the comparison began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// Last transaction that changed the tree, once what was pending was written out.
    pub(super) generation: u64,
    /// When the flush began, if it wrote out something of this tree: an inode that was written to during
    /// the flush may have content that is not in the tree yet.
    flushed: Option<Timestamp>,
}

impl Start {
    /// Flushes, by `flush`, and notes the state of a subvolume's tree. Returns its root as well, where it
    /// (still) has one.
    pub(super) fn flush(
        trees: &mut Trees<'_>,
        subvolume: u64,
        flush: impl FnOnce() -> rustix::io::Result<()>,
    ) -> Result<(Self, Option<Root>), Trouble> {
        let generation = |root: &Option<Root>| root.as_ref().map_or(0, |root| root.generation);
        let before = generation(&trees.root(subvolume)?);
        let now = SystemTime::now() - TICK;
        flush()?;
        let root = trees.root(subvolume)?;
        let after = generation(&root);
        let since = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let now = Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: since.subsec_nanos(),
        };
        let start = Self {
            generation: after,
            flushed: (before != after).then_some(now),
        };
        Ok((start, root))
    }

    /// The state of a tree that nothing is pending for, since that was written out before.
    pub(super) fn flushed(root: &Root) -> Self {
        Self {
            generation: root.generation,
            flushed: None,
        }
    }
}

/// Inodes that changed while the container was compared.
#[derive(Debug, Default)]
pub struct Moved {
    /// Sorted.
    inodes: Vec<u64>,
    /// Whether there are more than are kept.
    more: bool,
    /// The directory that was resolved last, and its number.
    parent: Option<(RootPath, Option<u64>)>,
}

impl Moved {
    /// Whether nothing moved.
    pub fn is_empty(&self) -> bool {
        self.inodes.is_empty()
    }

    fn has(&self, inode: u64) -> bool {
        self.inodes.binary_search(&inode).is_ok()
    }
}

impl BtrfsPair<'_> {
    /// Returns which inodes changed meanwhile that this comparison is about: those that the container
    /// has from its image, and those that stand in the place of one.
    ///
    /// # Errors
    /// [`Trouble`] when the tree cannot be read.
    pub fn moved(&mut self) -> Result<Moved, Trouble> {
        let Start {
            generation,
            flushed,
        } = self.start;
        let tree = self.container;
        let everything = ((0, 0, 0), (u64::MAX, u8::MAX, u64::MAX));
        // An operation that is under way has written a block already, but perhaps not yet the inodes that
        // it changes: a commit waits for it.
        let touched = self.trees.touched_since(tree, generation)?;
        let mut found = Moved::default();
        self.trees.refresh();
        if touched {
            rustix::fs::syncfs(self.anchor)?;
        } else if flushed.is_none() {
            return Ok(found);
        }
        let mut undecodable = false;
        let from = match flushed {
            Some(_) => generation,
            None => generation + 1,
        };
        let (base, replaced) = (self.base, &self.replaced);
        self.trees.each(tree, everything, from, u32::MAX, |item| {
            if item.kind != INODE_ITEM {
                return ControlFlow::Continue(());
            }
            let Some(inode) = Inode::decode(item.data) else {
                undecodable = true;
                return ControlFlow::Break(());
            };
            let moved = inode.transid > generation
                || inode.transid == generation && flushed.is_some_and(|start| inode.ctime >= start);
            let told = inode.generation <= base || replaced.contains(&item.objectid);
            if moved && told {
                found.inodes.push(item.objectid);
            }
            found.more = found.inodes.len() >= MOVED_MAX;
            match found.more {
                false => ControlFlow::Continue(()),
                true => ControlFlow::Break(()),
            }
        })?;
        if undecodable {
            return Err(TreeError::Undecodable(tree).into());
        }
        // As they come; but who knows what a damaged tree gives.
        found.inodes.sort_unstable();
        Ok(found)
    }

    /// Whether what was told of a path may not be of one moment: what is there moved meanwhile, or is
    /// something else now; and of a path where nothing was, the directory moved.
    pub fn touches(&mut self, moved: &mut Moved, path: &RootPath, kind: ChangeKind) -> bool {
        let Some(parent) = path.parent() else {
            return moved.more || moved.has(ROOT_DIRECTORY);
        };
        let known = moved.parent.take().filter(|(path, _)| *path == parent);
        let number = known.map_or_else(|| self.directory(&parent), |(_, number)| number);
        moved.parent = Some((parent, number));
        let (Some(dir), false) = (number, moved.more) else {
            return true;
        };
        if kind == ChangeKind::Deleted {
            return moved.has(dir);
        }
        let name = path.components().last().unwrap_or_default();
        let number = match self.trees.entry(self.container, dir, name) {
            Ok(Some(Location::Inode(number))) => number,
            // It went away, or is another tree, of which nothing is known here.
            _ => return true,
        };
        let looked_at = match self.trees.inode(self.container, number) {
            Ok(Some(inode)) => inode.generation <= self.base || self.replaced.contains(&number),
            _ => false,
        };
        !looked_at || moved.has(number)
    }

    fn directory(&mut self, path: &RootPath) -> Option<u64> {
        let mut number = ROOT_DIRECTORY;
        for name in path.components() {
            match self.trees.entry(self.container, number, name) {
                Ok(Some(Location::Inode(next))) => number = next,
                _ => return None,
            }
        }
        Some(number)
    }
}
