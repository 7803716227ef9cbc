//! The extents of a file as a stream, so that a file of a million extents costs no more memory than
//! one of ten.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::fs::btrfs::decode::{EXTENT_DATA, FileExtent, Item, Place};
use crate::fs::btrfs::{Key, TreeError, Trees};

use super::device::Unreadable;

/// Extents read at once.
const BATCH: u32 = 256;

/// A file: its tree and its inode number.
pub(super) type File = (u64, u64);

/// A part of a file, from `start` up to `end`, and what it holds. What has an extent begins where that
/// does, so that `start` is its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) extent: FileExtent,
}

/// Reads a file's extents in their order, holes included.
#[derive(Debug)]
pub(super) struct Extents {
    file: File,
    size: u64,
    buffered: VecDeque<Segment>,
    /// Where the next search begins.
    next: u64,
    /// Where the next segment begins.
    at: u64,
    ended: bool,
}

impl Extents {
    pub(super) fn new(file: File, size: u64) -> Self {
        Self {
            file,
            size,
            buffered: VecDeque::new(),
            next: 0,
            at: 0,
            ended: false,
        }
    }

    /// Returns the segment that holds the byte at `offset`, which must not go backwards.
    ///
    /// # Errors
    /// [`Unreadable::Moved`] when extents overlap: the file was written to between two searches.
    pub(super) fn at(&mut self, trees: &mut Trees<'_>, offset: u64) -> Result<Segment, Unreadable> {
        loop {
            while self
                .buffered
                .front()
                .is_some_and(|segment| segment.end <= offset)
            {
                self.buffered.pop_front();
            }
            match self.buffered.front() {
                Some(segment) if segment.start <= offset => return Ok(segment.clone()),
                Some(segment) => return Ok(hole(offset, segment.start)),
                None if self.ended => return Ok(hole(offset, self.size)),
                None => self.fill(trees)?,
            }
        }
    }

    fn fill(&mut self, trees: &mut Trees<'_>) -> Result<(), Unreadable> {
        let (tree, inode) = self.file;
        let from = self.next;
        let range = ((inode, EXTENT_DATA, from), (inode, EXTENT_DATA, u64::MAX));
        let (mut odd, mut moved) = (false, false);
        self.ended = true;
        let (buffered, next, at, ended) = (
            &mut self.buffered,
            &mut self.next,
            &mut self.at,
            &mut self.ended,
        );
        let size = self.size;
        let each = |item: Item<'_>| {
            if buffered.len() >= BATCH as usize {
                *ended = false;
                return ControlFlow::Break(());
            }
            let Some(extent) = FileExtent::decode(item.data) else {
                odd = true;
                return ControlFlow::Break(());
            };
            let Some(end) = item.offset.checked_add(extent.length()) else {
                odd = true;
                return ControlFlow::Break(());
            };
            moved |= item.offset < *at;
            *at = end;
            *next = item.offset.saturating_add(1);
            if item.offset < size {
                buffered.push_back(Segment {
                    start: item.offset,
                    end: end.min(size),
                    extent,
                });
            }
            ControlFlow::Continue(())
        };
        if from == 0 {
            trees.each_near(tree, range, BATCH, each)?;
        } else {
            trees.each(tree, range, 0, BATCH, each)?;
        }
        match (odd, moved) {
            (true, _) => Err(TreeError::Undecodable(tree).into()),
            (false, true) => Err(Unreadable::Moved),
            (false, false) => Ok(()),
        }
    }
}

/// Whether the file still has the extent of a segment where it had it.
pub(super) fn is_still(
    trees: &mut Trees<'_>,
    file: File,
    segment: &Segment,
) -> Result<bool, TreeError> {
    let Some(key) = key(file, segment) else {
        return Ok(true);
    };
    let now = trees.one(file.0, key, FileExtent::decode)?;
    Ok(now.as_ref() == Some(&segment.extent))
}

/// The same, as it was when this part of the tree was read last.
pub(super) fn was_still(
    trees: &mut Trees<'_>,
    file: File,
    segment: &Segment,
) -> Result<bool, TreeError> {
    let Some(key) = key(file, segment) else {
        return Ok(true);
    };
    let mut then = None;
    trees.each_near(file.0, (key, key), 1, |item| {
        then = FileExtent::decode(item.data);
        ControlFlow::Break(())
    })?;
    Ok(then.as_ref() == Some(&segment.extent))
}

/// Returns the key of the extent of a segment. What needs no other came from its item.
fn key((_, inode): File, segment: &Segment) -> Option<Key> {
    match segment.extent.place {
        Place::Disk { .. } => Some((inode, EXTENT_DATA, segment.start)),
        Place::Inline(_) | Place::Zeros { .. } => None,
    }
}

fn hole(start: u64, end: u64) -> Segment {
    let length = end.saturating_sub(start);
    let place = Place::Zeros { length };
    Segment {
        start,
        end,
        extent: FileExtent {
            generation: 0,
            ram_bytes: length,
            compression: 0,
            place,
        },
    }
}
