//! Whether two files have the same bytes: by their extents, then by checksums, and only where neither
//! decides by reading just the ranges that are not shared.

use super::compression::MAX_COMPRESSED;
use super::device::{Devices, Unreadable};
use super::extents::{Extents, File, Segment, is_still};
use crate::fs::btrfs::Trees;
use crate::fs::btrfs::decode::{FileExtent, Place};
use crate::measure::{Confirm, Content, Trouble};

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

impl Comparison<'_, '_> {
    /// Compares two files of `size` bytes.
    pub(super) fn compare(
        &mut self,
        image: File,
        container: File,
        size: u64,
    ) -> Result<Content, Trouble> {
        for _ in 0..TRIES {
            match self.attempt(image, container, size) {
                Ok(content) => return Ok(content),
                Err(Unreadable::Moved) => self.trees.refresh(),
                Err(Unreadable::NotSupported) => return Ok(Content::Undecided),
                Err(Unreadable::Trouble(trouble)) => return Err(trouble),
            }
        }
        Err(Trouble(
            "its extents moved each time while they were read, or the disk does not give back what \
             was written to it"
                .into(),
        ))
    }

    fn attempt(&mut self, image: File, container: File, size: u64) -> Result<Content, Unreadable> {
        let (mut left, mut right) = (Extents::new(image, size), Extents::new(container, size));
        let mut undecided = false;
        let mut at = 0;
        while at < size {
            let (a, b) = (left.at(self.trees, at)?, right.at(self.trees, at)?);
            let end = a.end.min(b.end);
            if end <= at {
                return Err(Unreadable::Moved);
            }
            if !same_place(&a, &b, at) || self.confirm == Confirm::Always && !both_zero(&a, &b) {
                let content = self.range(&a, &b, at, end, size)?;
                // What was found is about these files only if the extents are still theirs.
                if content != Content::Undecided
                    && !(is_still(self.trees, image, &a)? && is_still(self.trees, container, &b)?)
                {
                    return Err(Unreadable::Moved);
                }
                match content {
                    Content::Different => return Ok(Content::Different),
                    Content::Undecided | Content::Pending(_) => undecided = true,
                    Content::Same => {}
                }
            }
            at = end;
        }
        Ok(if undecided {
            Content::Undecided
        } else {
            Content::Same
        })
    }

    /// Compares a range that two segments hold in different places.
    fn range(
        &mut self,
        a: &Segment,
        b: &Segment,
        from: u64,
        to: u64,
        size: u64,
    ) -> Result<Content, Unreadable> {
        if self.confirm != Confirm::Always {
            match self.by_checksums(a, b, from, to, size)? {
                Content::Undecided | Content::Pending(_) => {}
                decided => return Ok(decided),
            }
        }
        if self.confirm == Confirm::Never && (on_disk(a) || on_disk(b)) {
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
                Err(Unreadable::NotSupported) => return self.as_stored(a, b),
                Err(error) => return Err(error),
            }
            at = end;
        }
        Ok(Content::Same)
    }

    /// Compares the checksums of a range that both files have on disk in the same form.
    ///
    /// Of plain extents, checksums that differ prove that the bytes do, for sectors that lie wholly
    /// inside the file: the last one may hold what was there before. Equal ones prove that they are
    /// the same only where nobody can forge them. Of compressed extents, one content has many forms,
    /// so that only equal ones say something.
    fn by_checksums(
        &mut self,
        a: &Segment,
        b: &Segment,
        from: u64,
        to: u64,
        size: u64,
    ) -> Result<Content, Unreadable> {
        if !on_disk(a) || !on_disk(b) {
            return Ok(Content::Undecided);
        }
        let checksums = self.devices.checksums(self.trees)?;
        let sector = checksums.sector();
        if let Some((at_a, at_b, length)) = same_form(a, b) {
            let same = checksums.are_proof()
                && match (
                    checksums.read(self.trees, at_a, length)?,
                    checksums.read(self.trees, at_b, length)?,
                ) {
                    (Some(sums_a), Some(sums_b)) => sums_a == sums_b,
                    _ => false,
                };
            return Ok(if same {
                Content::Same
            } else {
                Content::Undecided
            });
        }
        let (Some(at_a), Some(at_b)) = (address(a, from), address(b, from)) else {
            return Ok(Content::Undecided);
        };
        if !at_a.is_multiple_of(sector) || !at_b.is_multiple_of(sector) {
            return Ok(Content::Undecided);
        }
        let whole = (to.min(size - size % sector)).saturating_sub(from) / sector * sector;
        let mut done = 0;
        while done < whole {
            let length = (whole - done).min(PORTION * 8);
            let (Some(sums_a), Some(sums_b)) = (
                checksums.read(self.trees, at_a + done, length)?,
                checksums.read(self.trees, at_b + done, length)?,
            ) else {
                return Ok(Content::Undecided);
            };
            if sums_a != sums_b {
                return Ok(Content::Different);
            }
            done += length;
        }
        let proof = checksums.are_proof() && whole == to - from;
        Ok(if proof {
            Content::Same
        } else {
            Content::Undecided
        })
    }

    /// Compares two extents as they are stored, in a form that cannot be undone here.
    fn as_stored(&mut self, a: &Segment, b: &Segment) -> Result<Content, Unreadable> {
        let Some((at_a, at_b, length)) = same_form(a, b) else {
            return Ok(Content::Undecided);
        };
        if length > MAX_COMPRESSED {
            return Ok(Content::Undecided);
        }
        let length = usize::try_from(length).map_err(|_| Unreadable::NotSupported)?;
        let stored = [at_a, at_b].map(|at| self.devices.logical(self.trees, at, length));
        let [stored_a, stored_b] = stored;
        self.bytes_read += 2 * length as u64;
        Ok(if stored_a? == stored_b? {
            Content::Same
        } else {
            Content::Undecided
        })
    }

    /// Returns the bytes of a segment from `from` up to `to`.
    fn read(&mut self, segment: &Segment, from: u64, to: u64) -> Result<Vec<u8>, Unreadable> {
        let (bytes, read) = self.devices.read(self.trees, segment, from, to)?;
        self.bytes_read += read;
        Ok(bytes)
    }
}

/// Returns where two compressed extents are and their length on disk, when they are stored in one form
/// and the files use the same part of them.
fn same_form(a: &Segment, b: &Segment) -> Option<(u64, u64, u64)> {
    let form = |segment: &Segment| match segment.extent.place {
        Place::Disk {
            address,
            disk_length,
            offset,
            ..
        } if segment.extent.compression != 0 => Some((
            address,
            (
                segment.extent.compression,
                segment.extent.ram_bytes,
                disk_length,
                i128::from(offset) - i128::from(segment.start),
            ),
        )),
        _ => None,
    };
    let ((at_a, form_a), (at_b, form_b)) = (form(a)?, form(b)?);
    (form_a == form_b).then_some((at_a, at_b, form_a.2))
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
/// never goes into a shared extent, and one place means the same bytes. The generation tells one place
/// from the same place used again.
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

/// Returns the logical address of a byte of a segment that is not compressed.
fn address(segment: &Segment, at: u64) -> Option<u64> {
    match segment.extent.place {
        Place::Disk {
            address, offset, ..
        } if segment.extent.compression == 0 => {
            address.checked_add(offset)?.checked_add(at - segment.start)
        }
        _ => None,
    }
}
