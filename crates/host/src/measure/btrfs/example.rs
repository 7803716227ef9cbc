//! The subvolume that a runtime put between image and container, held against that of another container on
//! the same image, in which nothing was found but what the runtime makes.
//!
//! All that such a subvolume has of its own is in blocks that are newer than the snapshot of the image that it
//! began as; the rest it shares with the image. So what a comparison tells of it follows from what is new in
//! these blocks, and from the image. One that has the very same there, whenever and in whichever order it was
//! made, is told the same way: every block that is new is looked through still, and only what that means is
//! not worked out again.
//!
//! Of a directory that was inherited, what is in these blocks may be all of its entries, hundreds of them. Each
//! new one has a higher index than the last one that was inherited, as long as that is there: the kernel counts
//! on from the highest (`btrfs_set_inode_index` in `fs/btrfs/inode.c`). So where none went away the entries from
//! that one on are read, that one included, which tells by its transaction that it was there all along. That no
//! other went away follows from the directory's size, which counts the bytes of each name twice
//! (`btrfs_add_link`): it is larger than in the image by just the new ones. Where a few went away from many, it
//! is looked whether these did; where others, all are read.

mod reader;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plimsoll_core::model::RuntimePath;

use self::reader::{
    Attributes, Directory, Entry, LISTED_MAX, Layer, Reader, Strange, add_attributes,
};
use super::BATCH;
use crate::fs::Dir;
use crate::fs::btrfs::decode::{DIR_INDEX, XATTR_ITEM};
use crate::fs::btrfs::{TreeError, Trees};

/// Entries of one directory that are kept.
const ENTRIES_MAX: usize = 512;

/// Entries of a directory from which on it costs less to begin another search behind them.
const MANY: usize = 8;

/// Such a subvolume, of which nothing is told.
#[derive(Debug)]
pub(super) struct Example {
    /// A directory of its file system, the very handle.
    pub(super) anchor: Arc<Dir>,
    /// The image's tree, and the transaction that it was of.
    pub(super) image: u64,
    pub(super) generation: u64,
    /// What it may hold.
    pub(super) expected: Vec<RuntimePath>,
    layer: Layer,
    /// What is passed over of directories.
    known: Vec<Directory>,
    /// How many items, of how many bytes, there are up to each of them that is passed over, and behind.
    stretches: Vec<(u32, usize)>,
    /// The earliest transaction of which it is known that nothing in the image is later.
    quiet: AtomicU64,
}

impl Example {
    /// Reads a subvolume, that became a snapshot of `image` in transaction `base`, before it is compared with
    /// that; `None` when it has what no runtime makes.
    pub(super) fn read(
        trees: &mut Trees<'_>,
        anchor: &Arc<Dir>,
        (image, generation): (u64, u64),
        (injected, base): (u64, u64),
        expected: &[RuntimePath],
    ) -> Result<Option<Self>, TreeError> {
        let mut first = Reader::new(base, None);
        let Ok(()) = first.read(trees, injected)? else {
            return Ok(None);
        };
        let mut known = Vec::new();
        for number in first.touched() {
            let theirs: Vec<&Entry> = (first.listed.iter())
                .filter_map(|(dir, entry)| (*dir == number).then_some(entry))
                .collect();
            let mut entries = entries_of(trees, image, number)?;
            let count = theirs.len();
            let is_missing = |entry: &&Entry| !theirs.contains(entry);
            let gone = entries.iter().filter(is_missing);
            let mut missing: Vec<u64> = gone.map(|(index, _)| *index).collect();
            let last_is_there = entries.last().is_some_and(|last| theirs.contains(&last));
            let is_worth_it = missing.is_empty() || missing.len() * MANY < entries.len();
            match last_is_there && is_worth_it && entries.len() > 1 {
                true => drop(entries.drain(..entries.len() - 1)),
                false => missing.clear(),
            }
            if entries.len() > ENTRIES_MAX {
                return Ok(None);
            }
            known.push(Directory {
                number,
                is_large: !entries.is_empty() && count >= MANY,
                entries,
                missing,
            });
        }
        for (number, count) in &first.inherited {
            if *count >= MANY && first.touched().all(|touched| touched != *number) {
                known.push(Directory {
                    number: *number,
                    entries: Vec::new(),
                    missing: Vec::new(),
                    is_large: true,
                });
            }
        }
        known.sort_unstable_by_key(|directory| directory.number);
        let mut reader = Reader::new(base, Some(&known));
        let Ok(()) = reader.read(trees, injected)? else {
            return Ok(None);
        };
        let Some(sizes) = reader.sizes(trees, image)? else {
            return Ok(None);
        };
        let stretches = std::mem::take(&mut reader.stretches);
        let Ok(layer) = reader.finish() else {
            return Ok(None);
        };
        for ((number, object), size) in layer.touched.iter().zip(sizes) {
            if object.item.0 != size || object.attributes != attributes(trees, image, *number)? {
                return Ok(None);
            }
        }
        Ok(Some(Self {
            anchor: Arc::clone(anchor),
            image,
            generation,
            expected: expected.to_vec(),
            layer,
            known,
            stretches,
            quiet: AtomicU64::new(u64::MAX),
        }))
    }

    /// Whether a subvolume that became a snapshot of the image in transaction `base` is as this one.
    pub(super) fn is_as(
        &self,
        trees: &mut Trees<'_>,
        injected: u64,
        base: u64,
    ) -> Result<bool, TreeError> {
        if !self.is_quiet(trees, base)? {
            return Ok(false);
        }
        let mut reader = Reader::new(base, Some(&self.known));
        reader.expected = &self.stretches;
        Ok(match reader.read(trees, injected)? {
            Ok(()) => reader.finish().is_ok_and(|layer| layer == self.layer),
            Err(Strange) => false,
        })
    }

    /// Whether nothing in the image is later than a transaction.
    fn is_quiet(&self, trees: &mut Trees<'_>, base: u64) -> Result<bool, TreeError> {
        if base >= self.generation || base >= self.quiet.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let is_quiet = !trees.touched_since(self.image, base)?;
        if is_quiet {
            self.quiet.fetch_min(base, Ordering::Relaxed);
        }
        Ok(is_quiet)
    }
}

/// Returns the entries of a directory, in the order in which they were made.
fn entries_of(trees: &mut Trees<'_>, tree: u64, number: u64) -> Result<Vec<Entry>, TreeError> {
    let mut entries = Vec::new();
    let range = ((number, DIR_INDEX, 0), (number, DIR_INDEX, u64::MAX));
    trees.each(tree, range, 0, BATCH, |item| {
        entries.push((item.offset, item.data.into()));
        match entries.len() > LISTED_MAX {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    Ok(entries)
}

/// Returns the extended attributes of an inode, sorted.
fn attributes(trees: &mut Trees<'_>, tree: u64, number: u64) -> Result<Attributes, TreeError> {
    let mut found = Attributes::new();
    let mut odd = false;
    let range = ((number, XATTR_ITEM, 0), (number, XATTR_ITEM, u64::MAX));
    trees.each(tree, range, 0, BATCH, |item| {
        odd |= add_attributes(&mut found, item.data).is_err();
        ControlFlow::Continue(())
    })?;
    found.sort_unstable();
    match odd {
        true => Err(TreeError::Undecodable(tree)),
        false => Ok(found),
    }
}
