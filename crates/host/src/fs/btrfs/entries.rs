//! The entries of a directory, many of them at one go.

use std::ops::ControlFlow;

use super::decode::{self, DirEntry, Item};
use super::runs::{MANY, Run};
use super::{TreeError, Trees};

/// Items that are read of a directory at most, to be kept: all of one of some hundred entries, each of which
/// has two.
const DIRECTORY: u32 = 256;

/// A directory whose size is that many times the items that are read is taken to be too large for that: the
/// size counts the bytes of each name twice (kernel `fs/btrfs/inode.c`, `btrfs_add_link`), and each has two items.
const LONG_NAME: u64 = 32;

/// Items that a search could give in the time that it takes by itself.
const SEARCH: u64 = 8;

impl Trees<'_> {
    /// Reads the entries of a directory of this size at one go, unless they were read already or are too many:
    /// who asks for one asks for others. The first kind and the last one: those by which a name is found
    /// ([`decode::DIR_ITEM`]), then those in the order in which they were made ([`decode::DIR_INDEX`]).
    fn read_directory(
        &mut self,
        tree: u64,
        (dir, size): (u64, u64),
        (first, last): (u8, u8),
    ) -> Result<(), TreeError> {
        let from = (dir, first, 0);
        let is_large = size > u64::from(DIRECTORY) * LONG_NAME;
        if is_large || self.runs(tree).has_directory(tree, from) {
            return Ok(());
        }
        let last = (dir, last, u64::MAX);
        let mut run = Run::new(tree, from);
        let mut full = true;
        self.each(tree, (from, last), 0, DIRECTORY, |item| {
            run.push(&item);
            full = run.len() >= DIRECTORY as usize;
            match full {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        // All that there is up to there, but where it was too much.
        if !full || run.len() == 0 {
            run.reach(last);
        }
        self.runs_mut(tree).add_directory(run);
        Ok(())
    }

    /// Has the entries of a directory of this size read at one go where so many of its names are looked up next
    /// that this costs less; where it is `listed` afterwards, what that takes as well. What is known of a tree that
    /// stands still serves others too.
    pub(crate) fn expect_lookups(
        &mut self,
        tree: u64,
        (dir, size): (u64, u64),
        lookups: usize,
        listed: bool,
    ) -> Result<(), TreeError> {
        // Names have a dozen bytes, mostly.
        let entries = size / 24;
        let serves_others = listed && self.stands_still(tree);
        if serves_others || lookups as u64 * SEARCH > entries + SEARCH {
            let last = match listed {
                true => decode::DIR_INDEX,
                false => decode::DIR_ITEM,
            };
            self.read_directory(tree, (dir, size), (decode::DIR_ITEM, last))?;
        }
        Ok(())
    }

    /// Gives the entries of a directory of this size from index `from` on, in the order in which they were
    /// made, until `each` breaks.
    pub(crate) fn entries(
        &mut self,
        tree: u64,
        (dir, size): (u64, u64),
        from: u64,
        batch: u32,
        mut each: impl FnMut(u64, DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), TreeError> {
        let mut odd = false;
        let range = (
            (dir, decode::DIR_INDEX, from),
            (dir, decode::DIR_INDEX, u64::MAX),
        );
        let mut each = |item: Item<'_>| {
            for entry in decode::dir_entries(item.data) {
                match entry {
                    Some(entry) => each(item.offset, entry)?,
                    None => odd = true,
                }
            }
            ControlFlow::Continue(())
        };
        if self.runs(tree).find(tree, range.0, range.1).is_none() {
            let first = match self.stands_still(tree) {
                true => decode::DIR_ITEM,
                false => decode::DIR_INDEX,
            };
            self.read_directory(tree, (dir, size), (first, decode::DIR_INDEX))?;
        }
        if self.stands_still(tree) && self.runs(tree).find(tree, range.0, range.1).is_none() {
            self.read_run(tree, range.0, MANY)?;
        }
        match self.runs(tree).find(tree, range.0, range.1) {
            Some(run) => {
                for item in run.items(range.0, range.1) {
                    if each(item).is_break() {
                        break;
                    }
                }
            }
            None => self.each(tree, range, 0, batch, each)?,
        }
        if odd {
            Err(TreeError::Undecodable(tree))
        } else {
            Ok(())
        }
    }
}
