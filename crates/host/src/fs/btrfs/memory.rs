//! Trees in memory, searched as the kernel searches those of a file system.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};

use plimsoll_core::fuzzing::Input;
use plimsoll_syscall::btrfs::SearchKey;
use rustix::io::{Errno, Result};

use super::Trees;
use super::decode::HEADER;
use super::search::{Key, Search};
use crate::fs::Dir;

/// Longest item: a leaf of the largest node size.
const ITEM_MAX: usize = 64 << 10;

/// The items of any number of trees.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// By tree, and in it by key: the transaction of the leaf, and the bytes.
    trees: BTreeMap<u64, BTreeMap<Key, (u64, Vec<u8>)>>,
    found: Vec<u8>,
}

impl Memory {
    /// Reads items: for each the number of its tree, and then what a search returns of it, a
    /// `struct btrfs_ioctl_search_header` and its bytes. What is cut off is padded with zeros.
    pub(crate) fn parse(data: &[u8]) -> Self {
        let mut memory = Self::default();
        let mut input = Input::new(data);
        while !input.is_empty() {
            let (tree, transid, objectid) = (input.u64(), input.u64(), input.u64());
            let (offset, kind, length) = (input.u64(), input.u32(), input.u32());
            let length = usize::try_from(length).unwrap_or(0).min(ITEM_MAX);
            let key = (objectid, (kind & 0xff) as u8, offset);
            memory.insert(tree, key, transid, input.take(length));
        }
        memory
    }

    /// Adds an item, in the place of one of the same key.
    pub(crate) fn insert(&mut self, tree: u64, key: Key, transid: u64, data: &[u8]) {
        let items = self.trees.entry(tree).or_default();
        items.insert(key, (transid, data.to_vec()));
    }

    /// Returns how many items a tree has.
    pub(crate) fn len(&self, tree: u64) -> usize {
        self.trees.get(&tree).map_or(0, BTreeMap::len)
    }

    /// Puts a copy of one tree in the place of another.
    pub(crate) fn copy(&mut self, from: u64, to: u64) {
        if let Some(items) = self.trees.get(&from) {
            self.trees.insert(to, items.clone());
        }
    }

    /// Returns a directory that is none, to stand where that of a file system is wanted.
    pub(crate) fn anchor() -> Dir {
        #[expect(clippy::expect_used, reason = "every Linux has it")]
        let file = std::fs::File::open("/dev/null").expect("/dev/null");
        OwnedFd::from(file).into()
    }

    /// Returns a way to read these trees.
    pub(crate) fn trees(self, anchor: &Dir) -> Trees<'_> {
        Trees::over(anchor, Box::new(self))
    }
}

impl Search for Memory {
    fn search(&mut self, _: BorrowedFd<'_>, key: &SearchKey, space: usize) -> Result<u32> {
        self.found.clear();
        let items = self.trees.get(&key.tree_id).ok_or(Errno::NOENT)?;
        let mut count = 0;
        if key.min > key.max {
            return Ok(count);
        }
        for (at, (transid, data)) in items
            .range(key.min..=key.max)
            .filter(|(_, (transid, _))| *transid >= key.min_transid)
        {
            if count == key.max_items {
                break;
            }
            if self.found.len() + HEADER + data.len() > space {
                if count == 0 {
                    return Err(Errno::OVERFLOW);
                }
                break;
            }
            for number in [*transid, at.0, at.2] {
                self.found.extend(number.to_le_bytes());
            }
            self.found.extend(u32::from(at.1).to_le_bytes());
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            self.found.extend(length.to_le_bytes());
            self.found.extend(data);
            count += 1;
        }
        Ok(count)
    }

    fn items(&self) -> &[u8] {
        &self.found
    }
}
