//! Whether the image's subvolume, which Docker leaves writable, still is what the container was made
//! from.

use std::ops::ControlFlow;

use plimsoll_core::model::Timestamp;

use super::{BATCH, BtrfsPair};
use crate::fs::btrfs::decode::{EXTENT_DATA, FileExtent};
use crate::measure::{Content, Pair as _, Trouble};

/// Longest time between two ticks of the kernel's coarse clock, which stamps new subvolumes.
const TICK_NANOSECONDS: u32 = 10_000_000;

fn later(time: Timestamp, nanoseconds: u32) -> Timestamp {
    let sum = time.nanoseconds.saturating_add(nanoseconds);
    Timestamp {
        seconds: time.seconds.saturating_add(i64::from(sum / 1_000_000_000)),
        nanoseconds: sum % 1_000_000_000,
    }
}

impl BtrfsPair<'_> {
    /// Returns the number of inodes of the image's subvolume that changed after the container was made
    /// from it, reads aside: the reference is then not what the container started from. Of some paths
    /// alone, only the inodes on the way to them count.
    ///
    /// # Errors
    /// [`Trouble`] when one cannot be read.
    pub fn reference_moved(&mut self) -> Result<usize, Trouble> {
        let mut moved = 0;
        let mut numbers = std::mem::take(&mut self.moved);
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            if self.has_moved(number)? {
                moved += 1;
            }
        }
        Ok(moved)
    }

    /// Whether an inode of the image's subvolume is another one now, or has other content or attributes,
    /// than when the container was made.
    fn has_moved(&mut self, number: u64) -> Result<bool, Trouble> {
        let Some(now) = self.trees.inode(self.image, number)? else {
            return Ok(true);
        };
        let inherited = self
            .trees
            .inode(self.container, number)?
            .filter(|inode| inode.transid <= self.base);
        let only_read = match inherited {
            // The container still has the inode as it was then.
            Some(then) => now.same_but_read(&then),
            // A read moves the access time alone, everything else the change time, which nobody can
            // set. The two clocks compared here may be a tick apart.
            None => now.ctime < later(self.made, TICK_NANOSECONDS),
        };
        if now.generation > self.base || !only_read {
            return Ok(true);
        }
        // A store that was under way when the snapshot was made moves nothing but the extents, as do
        // defragmenting and deduplicating. Where the container still has what it started with, a
        // comparison tells them apart.
        let newer = |extent: &FileExtent| extent.generation > self.base;
        let mut moved = false;
        let range = ((number, EXTENT_DATA, 0), (number, EXTENT_DATA, u64::MAX));
        self.trees
            .each(self.image, range, self.base + 1, BATCH, |item| {
                moved = FileExtent::decode(item.data).is_none_or(|extent| newer(&extent));
                match moved {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })?;
        if !moved {
            return Ok(false);
        }
        let (image, container) = (
            self.node(self.image, number)?,
            self.node(self.container, number)?,
        );
        Ok(match (image, container) {
            (Some(image), Some(container))
                if self.one_inode(&image, &container)
                    && container.item.transid <= self.base
                    && image.item.size == container.item.size =>
            {
                self.same_content(&image, &container)? != Content::Same
            }
            _ => true,
        })
    }
}
