//! Whether two files have the same bytes: by their extents, then by checksums, and only where neither
//! decides by reading just the ranges that are not shared.

use std::ops::ControlFlow;
use std::os::fd::AsFd as _;

use plimsoll_syscall::btrfs::{FsInfo, fs_info};

use super::device::{Devices, Unreadable};
use super::extents::{Extents, File, Segment};
use crate::fs::btrfs::Trees;
use crate::fs::btrfs::decode::{EXTENT_CSUM, FileExtent, Place};
use crate::measure::{Confirm, Content, Trouble};

/// The checksum tree, and the object that its items hang on (`BTRFS_EXTENT_CSUM_OBJECTID`).
const CSUM_TREE: u64 = 7;
const CSUM_OBJECT: u64 = u64::MAX - 9;

/// Bytes that one item of checksums covers at most: a leaf of 64 KiB of 4-byte checksums.
const CSUM_ITEM_SPAN: u64 = 64 << 20;

/// Bytes compared at a time.
const PORTION: u64 = 128 << 10;

/// Tries to compare a file that holds still meanwhile.
const TRIES: usize = 5;

/// A comparison of two files.
pub(super) struct Comparison<'c, 's> {
    pub(super) trees: &'c mut Trees<'s>,
    pub(super) devices: &'c mut Devices,
    pub(super) confirm: Confirm,
    pub(super) bytes_read: u64,
}

/// What became of one attempt.
enum Attempt {
    Done(Content),
    /// An extent was replaced between looking it up and reading it.
    Moved,
}

impl Comparison<'_, '_> {
    /// Compares two files of `size` bytes.
    pub(super) fn compare(
        &mut self,
        image: File,
        container: File,
        size: u64,
    ) -> Result<Content, Trouble> {
        for _ in 0..TRIES {
            if let Attempt::Done(content) = self.attempt(image, container, size)? {
                return Ok(content);
            }
        }
        Err(Trouble(
            "it was written to each time while it was being compared".into(),
        ))
    }

    fn attempt(&mut self, image: File, container: File, size: u64) -> Result<Attempt, Trouble> {
        let (mut left, mut right) = (Extents::new(image, size), Extents::new(container, size));
        let mut undecided = false;
        let mut at = 0;
        while at < size {
            let (a, b) = (left.at(self.trees, at)?, right.at(self.trees, at)?);
            let end = a.end.min(b.end);
            if end <= at {
                return Err(Trouble(
                    "its extents are of a form that is not known".into(),
                ));
            }
            if !same_place(&a, &b, at) || self.confirm == Confirm::Always && !both_zero(&a, &b) {
                match self.range(&a, &b, at, end, size)? {
                    Content::Different => return Ok(Attempt::Done(Content::Different)),
                    Content::Undecided | Content::Pending(_) => undecided = true,
                    Content::Same => {
                        // What was read was theirs only if it still is.
                        if on_disk(&a) || on_disk(&b) {
                            let (mut a_now, mut b_now) =
                                (Extents::new(image, size), Extents::new(container, size));
                            a_now.skip_to(at);
                            b_now.skip_to(at);
                            let (a_now, b_now) =
                                (a_now.at(self.trees, at)?, b_now.at(self.trees, at)?);
                            if !same_extent(&a, &a_now) || !same_extent(&b, &b_now) {
                                return Ok(Attempt::Moved);
                            }
                        }
                    }
                }
            }
            at = end;
        }
        Ok(Attempt::Done(if undecided {
            Content::Undecided
        } else {
            Content::Same
        }))
    }

    /// Compares a range that two segments hold in different places.
    fn range(
        &mut self,
        a: &Segment,
        b: &Segment,
        from: u64,
        to: u64,
        size: u64,
    ) -> Result<Content, Trouble> {
        if let (Place::Disk { .. }, Place::Disk { .. }) = (&a.extent.place, &b.extent.place)
            && a.extent.compression == 0
            && b.extent.compression == 0
            && self.confirm != Confirm::Always
        {
            match self.by_checksums(a, b, from, to, size)? {
                Content::Undecided | Content::Pending(_) => {}
                decided => return Ok(decided),
            }
        }
        let in_items = |segment: &Segment| !on_disk(segment);
        if self.confirm == Confirm::Never && !(in_items(a) && in_items(b)) {
            return Ok(Content::Undecided);
        }
        let mut at = from;
        while at < to {
            let end = to.min(at + PORTION);
            let read = self
                .read(a, at, end)
                .and_then(|a| Ok((a, self.read(b, at, end)?)));
            match read {
                Ok((a, b)) if a == b => {}
                Ok(_) => return Ok(Content::Different),
                Err(Unreadable::NotSupported) => return Ok(Content::Undecided),
                Err(Unreadable::Trouble(trouble)) => return Err(trouble),
            }
            at = end;
        }
        Ok(Content::Same)
    }

    /// Compares the checksums of a range that both files have on disk, as it is.
    ///
    /// Checksums that differ prove that the bytes do, for sectors that lie wholly inside the file: the
    /// last one may hold what was there before. Equal ones prove it only where nobody can forge them.
    fn by_checksums(
        &mut self,
        a: &Segment,
        b: &Segment,
        from: u64,
        to: u64,
        size: u64,
    ) -> Result<Content, Trouble> {
        const SHA256: u16 = 2;
        const BLAKE2: u16 = 3;
        let info = fs_info(self.trees.anchor().as_fd())?;
        let sector = u64::from(info.sector_size);
        if sector == 0 || !from.is_multiple_of(sector) {
            return Ok(Content::Undecided);
        }
        let whole = (to.min(size - size % sector)).saturating_sub(from) / sector * sector;
        let (Some(at_a), Some(at_b)) = (address(a, from), address(b, from)) else {
            return Ok(Content::Undecided);
        };
        let mut done = 0;
        while done < whole {
            let length = (whole - done).min(PORTION * 8);
            let (Some(sums_a), Some(sums_b)) = (
                self.checksums(info, at_a + done, length)?,
                self.checksums(info, at_b + done, length)?,
            ) else {
                return Ok(Content::Undecided);
            };
            if sums_a != sums_b {
                return Ok(Content::Different);
            }
            done += length;
        }
        let proof = [SHA256, BLAKE2].contains(&info.checksum_type) && whole == to - from;
        Ok(if proof {
            Content::Same
        } else {
            Content::Undecided
        })
    }

    /// Returns the checksums of a range of logical addresses; `None` where some are missing.
    fn checksums(
        &mut self,
        info: FsInfo,
        address: u64,
        length: u64,
    ) -> Result<Option<Vec<u8>>, Trouble> {
        let (sector, width) = (u64::from(info.sector_size), usize::from(info.checksum_size));
        if width == 0 {
            return Ok(None);
        }
        let mut sums = Vec::new();
        let mut next = address;
        let end = address + length;
        let first = (
            CSUM_OBJECT,
            EXTENT_CSUM,
            address.saturating_sub(CSUM_ITEM_SPAN),
        );
        self.trees.each(
            CSUM_TREE,
            (first, (CSUM_OBJECT, EXTENT_CSUM, end - 1)),
            0,
            64,
            |item| {
                let covered = (item.data.len() / width) as u64 * sector;
                if item.offset.saturating_add(covered) <= next {
                    return ControlFlow::Continue(());
                }
                if item.offset > next {
                    return ControlFlow::Break(());
                }
                let skip = usize::try_from((next - item.offset) / sector)
                    .unwrap_or(usize::MAX)
                    .saturating_mul(width);
                let wanted = usize::try_from((end - next).div_ceil(sector))
                    .unwrap_or(usize::MAX)
                    .saturating_mul(width);
                let have = item.data.get(skip..).unwrap_or_default();
                let have = have.get(..wanted.min(have.len())).unwrap_or_default();
                sums.extend_from_slice(have);
                next += (have.len() / width) as u64 * sector;
                if next >= end {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        )?;
        Ok((next >= end).then_some(sums))
    }

    /// Returns the bytes of a segment from `from` up to `to`.
    fn read(&mut self, segment: &Segment, from: u64, to: u64) -> Result<Vec<u8>, Unreadable> {
        let (bytes, read) = self.devices.read(self.trees, segment, from, to)?;
        self.bytes_read += read;
        Ok(bytes)
    }
}

fn on_disk(segment: &Segment) -> bool {
    matches!(segment.extent.place, Place::Disk { .. })
}

fn both_zero(a: &Segment, b: &Segment) -> bool {
    matches!(
        (&a.extent.place, &b.extent.place),
        (Place::Zeros { .. }, Place::Zeros { .. })
    )
}

/// Whether two segments are parts of one and the same extent.
fn same_extent(a: &Segment, b: &Segment) -> bool {
    let plain = |extent: &FileExtent| (extent.generation, extent.ram_bytes, extent.compression);
    let first_byte = |segment: &Segment| match segment.extent.place {
        Place::Disk {
            address,
            disk_length,
            offset,
            ..
        } => Some((
            address,
            disk_length,
            i128::from(offset) - i128::from(segment.start),
        )),
        _ => None,
    };
    match (first_byte(a), first_byte(b)) {
        (Some(place_a), Some(place_b)) => {
            place_a == place_b && plain(&a.extent) == plain(&b.extent)
        }
        (None, None) => true,
        _ => false,
    }
}

/// Whether two segments hold the bytes at one offset in the same place, or hold the same bytes in
/// their items.
///
/// The image holds a reference to its extents, and the container started as its snapshot: so a write
/// never goes into a shared extent, and one place means the same bytes, whatever its generation is.
fn same_place(a: &Segment, b: &Segment, at: u64) -> bool {
    match (&a.extent.place, &b.extent.place) {
        (Place::Zeros { .. }, Place::Zeros { .. }) => true,
        (Place::Inline(x), Place::Inline(y)) => {
            a.start == b.start
                && x == y
                && a.extent.compression == b.extent.compression
                && at == a.start
        }
        (Place::Disk { .. }, Place::Disk { .. }) => same_extent(a, b),
        _ => false,
    }
}

/// Returns the logical address of a byte of an uncompressed segment.
fn address(segment: &Segment, at: u64) -> Option<u64> {
    match segment.extent.place {
        Place::Disk {
            address, offset, ..
        } => address.checked_add(offset)?.checked_add(at - segment.start),
        _ => None,
    }
}
