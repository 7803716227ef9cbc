//! Whether the image's subvolume, which Docker leaves writable, still is what the container was made
//! from.

use std::ops::ControlFlow;

use plimsoll_core::model::{FileType, Timestamp};

use super::{BATCH, BtrfsPair};
use crate::fs::btrfs::decode::{EXTENT_DATA, FileExtent};
use crate::measure::{Content, Trouble};

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
        let Some(now) = self.node(self.image, number)? else {
            return Ok(true);
        };
        if now.item.generation > self.base {
            return Ok(true);
        }
        let inherited = self.node(self.container, number)?;
        match inherited.filter(|inode| inode.item.transid <= self.base) {
            // The container still has the inode as it was then. A store that was under way when the
            // snapshot was made may have moved nothing but the extents since, and so may defragmenting
            // and deduplicating have.
            Some(then) if then.item.generation == now.item.generation => {
                if !now.item.same_but_read(&then.item) {
                    return Ok(true);
                }
                Ok(now.file_type == FileType::File
                    && self.has_newer_extents(number)?
                    && self.content_now(
                        (now.tree, now.number),
                        (then.tree, then.number),
                        now.item.size,
                    )? != Content::Same)
            }
            // A read moves the access time alone, everything else the change time, which nobody can set.
            // The two clocks compared here may be a tick apart.
            _ => Ok(now.item.ctime >= later(self.made, TICK_NANOSECONDS)
                || self.has_newer_extents(number)?),
        }
    }

    fn has_newer_extents(&mut self, number: u64) -> Result<bool, Trouble> {
        let mut newer = false;
        let range = ((number, EXTENT_DATA, 0), (number, EXTENT_DATA, u64::MAX));
        let (image, base) = (self.image, self.base);
        self.trees
            .each(image, range, base.saturating_add(1), BATCH, |item| {
                newer = FileExtent::decode(item.data).is_none_or(|extent| extent.generation > base);
                match newer {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })?;
        Ok(newer)
    }
}
