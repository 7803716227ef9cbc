//! Whether two files have the same bytes: by their extents, then by checksums, and only where neither
//! decides by reading just the ranges that are not shared.

use std::ops::Range;

use super::compression::MAX_COMPRESSED;
use super::device::{Devices, Unreadable};
use super::extents::{Extents, File, Segment, is_still};
use crate::fs::btrfs::Trees;
use crate::fs::btrfs::decode::{FileExtent, Place};
use crate::measure::{Confirm, Content, Trouble};

/// Bytes compared at a time.
const PORTION: u64 = 128 << 10;

/// Ranges of a file that are kept to be compared later.
const A_FEW: usize = 16;

/// Tries to compare a file that holds still meanwhile.
const TRIES: usize = 5;

/// A comparison of two files.
pub(super) struct Comparison<'c, 's> {
    pub(super) trees: &'c mut Trees<'s>,
    pub(super) devices: &'c mut Devices,
    pub(super) confirm: Confirm,
    pub(super) bytes_read: &'c mut u64,
}

/// A range of two files of equal size that they hold in different places.
#[derive(Debug)]
pub(super) struct Apart {
    pub(super) image: Segment,
    pub(super) container: Segment,
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Apart {
    /// Returns how many bytes of either file it is.
    pub(super) fn length(&self) -> u64 {
        self.to - self.from
    }

    /// Whether more than the items of the two files has to be read to compare it.
    pub(super) fn is_on_disk(&self) -> bool {
        on_disk(&self.image) || on_disk(&self.container)
    }

    /// Returns the logical addresses where it lies.
    pub(super) fn places(&self) -> impl Iterator<Item = Range<u64>> {
        self.places_of(self.from..self.to)
    }

    /// Returns the logical addresses where a part of it lies: in the image, and in the container.
    pub(super) fn places_of(&self, part: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        [&self.image, &self.container]
            .into_iter()
            .filter_map(move |segment| match address(segment, part.start) {
                Some(at) => Some(at..at.checked_add(part.end - part.start)?),
                None => whole_place(segment),
            })
    }

    /// Whether its parts can be read by themselves: not where one side is compressed.
    pub(super) fn has_parts(&self) -> bool {
        [&self.image, &self.container]
            .iter()
            .all(|segment| whole_place(segment).is_none() || address(segment, self.from).is_some())
    }
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
        let mut undecided = false;
        let mut ranges = Ranges::new(image, container, size);
        while let Some(apart) = ranges.next(self.trees, self.confirm)? {
            let content = self.range(&apart, size)?;
            // What was found is about these files only if the extents are still theirs.
            if content != Content::Undecided
                && !(is_still(self.trees, image, &apart.image)?
                    && is_still(self.trees, container, &apart.container)?)
            {
                return Err(Unreadable::Moved);
            }
            match content {
                Content::Different => return Ok(Content::Different),
                Content::Undecided | Content::Pending(_) => undecided = true,
                Content::Same => {}
            }
        }
        Ok(match undecided {
            true => Content::Undecided,
            false => Content::Same,
        })
    }

    /// Returns all ranges that two files of `size` bytes hold in different places; `None` when they are
    /// more than a few, or longer than `longest` bytes together.
    pub(super) fn apart(
        &mut self,
        image: File,
        container: File,
        size: u64,
        longest: u64,
    ) -> Result<Option<Vec<Apart>>, Unreadable> {
        let mut found: Vec<Apart> = Vec::new();
        let mut length = 0;
        let mut ranges = Ranges::new(image, container, size);
        while let Some(apart) = ranges.next(self.trees, self.confirm)? {
            length += apart.length();
            if found.len() >= A_FEW || length > longest {
                return Ok(None);
            }
            found.push(apart);
        }
        Ok(Some(found))
    }

    /// Compares a part of a range of two files, where checksums do not tell. Whether the extents are still
    /// theirs is for the caller to see.
    pub(super) fn part(&mut self, apart: &Apart, part: Range<u64>) -> Result<Content, Unreadable> {
        self.by_bytes(&apart.image, &apart.container, part)
    }

    /// Reads the checksums of all that lies there, to be asked for until they are forgotten.
    pub(super) fn read_checksums_ahead(&mut self, places: Vec<Range<u64>>) -> Result<(), Trouble> {
        self.devices.read_checksums_ahead(self.trees, places)
    }

    /// Compares a range of two files of `size` bytes as far as that takes no reading of its bytes; `None` when
    /// it takes that.
    pub(super) fn range_unread(
        &mut self,
        apart: &Apart,
        size: u64,
    ) -> Result<Option<Content>, Unreadable> {
        if self.confirm != Confirm::Always {
            match self.by_checksums(apart, size)? {
                Content::Undecided | Content::Pending(_) => {}
                decided => return Ok(Some(decided)),
            }
        }
        let is_refused = self.confirm == Confirm::Never && apart.is_on_disk();
        Ok(is_refused.then_some(Content::Undecided))
    }

    /// Compares a range that two files of `size` bytes hold in different places.
    fn range(&mut self, apart: &Apart, size: u64) -> Result<Content, Unreadable> {
        if let Some(content) = self.range_unread(apart, size)? {
            return Ok(content);
        }
        self.by_bytes(&apart.image, &apart.container, apart.from..apart.to)
    }

    /// Compares the bytes of two segments in a range.
    fn by_bytes(
        &mut self,
        a: &Segment,
        b: &Segment,
        range: Range<u64>,
    ) -> Result<Content, Unreadable> {
        let (mut at, to) = (range.start, range.end);
        while at < to {
            let end = to.min(at + PORTION);
            if let Some(same) = self.ahead(a, b, at..end)? {
                *self.bytes_read += 2 * (end - at);
                if !same {
                    return Ok(Content::Different);
                }
                at = end;
                continue;
            }
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

    /// Whether two plain segments have the same bytes in a range, where those were read ahead.
    fn ahead(
        &mut self,
        a: &Segment,
        b: &Segment,
        range: Range<u64>,
    ) -> Result<Option<bool>, Unreadable> {
        let (Some(at_a), Some(at_b)) = (address(a, range.start), address(b, range.start)) else {
            return Ok(None);
        };
        let length = range.end - range.start;
        self.devices.equal_ahead(self.trees, (at_a, at_b), length)
    }

    /// Compares the checksums of a range that both files have on disk in the same form.
    ///
    /// Of plain extents, checksums that differ prove that the bytes do, for sectors that lie wholly
    /// inside the file: the last one may hold what was there before. Equal ones prove that they are
    /// the same only where nobody can forge them. Of compressed extents, one content has many forms,
    /// so that only equal ones say something.
    fn by_checksums(&mut self, apart: &Apart, size: u64) -> Result<Content, Unreadable> {
        let (a, b) = (&apart.image, &apart.container);
        let (from, to) = (apart.from, apart.to);
        if !on_disk(a) || !on_disk(b) {
            return Ok(Content::Undecided);
        }
        let checksums = self.devices.checksums(self.trees)?;
        let sector = checksums.sector();
        if let Some((at_a, at_b, length)) = same_form(a, b) {
            let same = checksums.are_proof()
                && match (
                    self.devices.sums(self.trees, at_a, length)?,
                    self.devices.sums(self.trees, at_b, length)?,
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
                self.devices.sums(self.trees, at_a + done, length)?,
                self.devices.sums(self.trees, at_b + done, length)?,
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
        *self.bytes_read += 2 * length as u64;
        Ok(if stored_a? == stored_b? {
            Content::Same
        } else {
            Content::Undecided
        })
    }

    /// Returns the bytes of a segment from `from` up to `to`.
    fn read(&mut self, segment: &Segment, from: u64, to: u64) -> Result<Vec<u8>, Unreadable> {
        let (bytes, read) = self.devices.read(self.trees, segment, from, to)?;
        *self.bytes_read += read;
        Ok(bytes)
    }
}

/// The ranges that two files of equal size hold in different places, in their order.
struct Ranges {
    image: Extents,
    container: Extents,
    size: u64,
    at: u64,
}

impl Ranges {
    fn new(image: File, container: File, size: u64) -> Self {
        Self {
            image: Extents::new(image, size),
            container: Extents::new(container, size),
            size,
            at: 0,
        }
    }

    /// Returns the next one; with [`Confirm::Always`] also those that are in one place.
    fn next(
        &mut self,
        trees: &mut Trees<'_>,
        confirm: Confirm,
    ) -> Result<Option<Apart>, Unreadable> {
        while self.at < self.size {
            let from = self.at;
            let (image, container) = (self.image.at(trees, from)?, self.container.at(trees, from)?);
            let to = image.end.min(container.end);
            if to <= from {
                return Err(Unreadable::Moved);
            }
            self.at = to;
            if !same_place(&image, &container, from)
                || confirm == Confirm::Always && !both_zero(&image, &container)
            {
                return Ok(Some(Apart {
                    image,
                    container,
                    from,
                    to,
                }));
            }
        }
        Ok(None)
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

/// Returns the logical addresses of the whole extent of a segment, where it has one.
fn whole_place(segment: &Segment) -> Option<Range<u64>> {
    match segment.extent.place {
        Place::Disk {
            address,
            disk_length,
            ..
        } => Some(address..address.checked_add(disk_length)?),
        _ => None,
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
