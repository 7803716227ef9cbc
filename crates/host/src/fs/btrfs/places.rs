//! Which subvolume has an identifier, and where a subvolume hangs.

use std::ops::ControlFlow;

use super::decode::{self, ROOT_BACKREF};
use super::search::{Name, ROOT_TREE};
use super::{ROOT_DIRECTORY, TreeError, Trees};

/// The tree that leads from identifiers to subvolumes (`BTRFS_UUID_TREE_OBJECTID`).
const UUID_TREE: u64 = 9;

/// Type of its items for subvolumes (`BTRFS_UUID_KEY_SUBVOL`).
const UUID_KEY_SUBVOL: u8 = 251;

/// The top-level subvolume (`BTRFS_FS_TREE_OBJECTID`).
const TOP_LEVEL: u64 = 5;

/// Directories on the way from a subvolume to the top level, at most. Names on disk can lead round in a
/// ring.
const DEPTH_MAX: usize = 256;

impl Trees<'_> {
    /// Returns the subvolume with this identifier; `None` when there is none (any more).
    ///
    /// The item of the identifier holds the numbers of its subvolumes (kernel `fs/btrfs/uuid-tree.c`): one,
    /// but for what a crash left. What it says is held against the subvolume's own root item.
    pub(crate) fn subvolume_of(&mut self, uuid: [u8; 16]) -> Result<Option<u64>, TreeError> {
        let (low, high) = uuid.split_at(8);
        let [low, high] =
            [low, high].map(|half| u64::from_le_bytes(half.try_into().unwrap_or_default()));
        let key = (low, UUID_KEY_SUBVOL, high);
        let mut ids = Vec::new();
        self.each(UUID_TREE, (key, key), 0, 1, |item| {
            let (numbers, _) = item.data.as_chunks::<8>();
            ids = numbers.iter().map(|n| u64::from_le_bytes(*n)).collect();
            ControlFlow::Break(())
        })?;
        for id in ids {
            if self.root(id)?.is_some_and(|root| root.uuid == uuid) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Returns the path of a subvolume from the top level of its file system, without a slash before it;
    /// `None` when it hangs nowhere.
    pub(crate) fn path_of(&mut self, subvolume: u64) -> Result<Option<Vec<u8>>, TreeError> {
        let mut parts: Vec<Box<[u8]>> = Vec::new();
        let mut tree = subvolume;
        while tree != TOP_LEVEL {
            let Some((parent, (mut dir, name))) = self.parent_of(tree)? else {
                return Ok(None);
            };
            parts.push(name);
            tree = parent;
            while dir != ROOT_DIRECTORY {
                // A directory has one name.
                let Some((above, name)) = self.names(tree, dir)?.into_iter().next() else {
                    return Ok(None);
                };
                parts.push(name);
                dir = above;
                if parts.len() > DEPTH_MAX {
                    return Ok(None);
                }
            }
            if parts.len() > DEPTH_MAX {
                return Ok(None);
            }
        }
        parts.reverse();
        Ok(Some(parts.join(&b'/')))
    }

    /// Returns the subvolume that another one hangs in, and where.
    fn parent_of(&mut self, child: u64) -> Result<Option<(u64, Name)>, TreeError> {
        let mut found = None;
        let range = ((child, ROOT_BACKREF, 0), (child, ROOT_BACKREF, u64::MAX));
        self.each(ROOT_TREE, range, 0, 1, |item| {
            found =
                decode::root_ref(item.data).map(|(dir, name)| (item.offset, (dir, name.into())));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }
}
