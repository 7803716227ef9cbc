//! The checksums that the file system keeps of what is on disk: to compare two extents without reading
//! them, and to know that what was read is what was written.

use std::cell::Cell;
use std::ops::{ControlFlow, Range};
use std::os::fd::AsFd as _;

use blake2::digest::consts::U32;
use plimsoll_syscall::btrfs::{FsInfo, fs_info};
use sha2::Digest as _;

use super::ahead::Ahead;
use crate::fs::btrfs::decode::EXTENT_CSUM;
use crate::fs::btrfs::{TreeError, Trees};

/// The checksum tree, and the object that its items hang on (`BTRFS_EXTENT_CSUM_OBJECTID`).
const CSUM_TREE: u64 = 7;
const CSUM_OBJECT: u64 = u64::MAX - 9;

/// Algorithms (`enum btrfs_csum_type`).
const CRC32C: u16 = 0;
const XXHASH64: u16 = 1;
const SHA256: u16 = 2;
const BLAKE2B: u16 = 3;

/// The checksums of one file system.
#[derive(Debug, Clone)]
pub(super) struct Checksums {
    info: FsInfo,
    /// Where checksums were found lately: an address, and how many tries it took there.
    found: Cell<[(u64, usize); 2]>,
    /// Whether the item that was looked for last among many began far before what it covers.
    is_far: Cell<bool>,
}

/// How far before an address to look for the item that holds its checksum, as a part of what one item
/// can cover at most, and how many items to ask for at once. In a file of many fragments items are
/// short, and most begin where their extents do; those of an image, written in one go, are long.
const WAYS: [(Option<u64>, u32); 4] = [(None, 2), (Some(256), 64), (Some(16), 64), (Some(1), 64)];

impl Checksums {
    pub(super) fn of(trees: &Trees<'_>) -> Result<Self, TreeError> {
        let info = fs_info(trees.anchor().as_fd()).map_err(TreeError::Io)?;
        if info.sector_size == 0 || info.checksum_size == 0 {
            return Err(TreeError::NotBtrfs);
        }
        Ok(Self::with(info))
    }

    /// Returns those of a file system that says this of itself.
    pub(super) fn with(info: FsInfo) -> Self {
        Self {
            info,
            found: Cell::default(),
            is_far: Cell::default(),
        }
    }

    /// Returns the number of bytes that one checksum covers.
    pub(super) fn sector(&self) -> u64 {
        u64::from(self.info.sector_size)
    }

    /// Whether equal checksums prove equal bytes: only where nobody can make a collision.
    pub(super) fn are_proof(&self) -> bool {
        [SHA256, BLAKE2B].contains(&self.info.checksum_type)
    }

    /// Returns the checksums of a range of logical addresses that begins at a sector; `None` where one
    /// is missing, as for files that are not copied on write.
    pub(super) fn read(
        &self,
        trees: &mut Trees<'_>,
        address: u64,
        length: u64,
    ) -> Result<Option<Vec<u8>>, TreeError> {
        // The item that holds the first one begins earlier by less than a block of checksums covers.
        let span = self.span();
        let Some(end) = address.checked_add(length) else {
            return Ok(None);
        };
        let lately = self.found.get();
        let near = usize::from(lately[1].0.abs_diff(address) < lately[0].0.abs_diff(address));
        let (_, first_way) = lately[near];
        let others = (0..WAYS.len()).filter(|way| *way != first_way);
        for way in std::iter::once(first_way).chain(others) {
            let Some((part, batch)) = WAYS.get(way) else {
                continue;
            };
            let first = address.saturating_sub(part.map_or(0, |part| span / part));
            if let Some(sums) = self.read_from(trees, first, address..end, *batch)? {
                let mut found = lately;
                // The one of the two that was of use is kept while the other one is replaced.
                let place = if way == first_way { near } else { 1 - near };
                found[place] = (address, way);
                self.found.set(found);
                return Ok(Some(sums));
            }
        }
        Ok(None)
    }

    /// Returns how many addresses a checksum is for, and how many bytes it has.
    pub(super) fn measure(&self) -> (u64, usize) {
        (self.sector(), usize::from(self.info.checksum_size))
    }

    /// Returns how many bytes one item can hold the checksums of: a block of them at most.
    pub(super) fn span(&self) -> u64 {
        let (sector, width) = self.measure();
        u64::from(self.info.node_size) / width as u64 * sector
    }

    /// Reads the items that hold the checksums of a range of addresses, and keeps those of the places in it
    /// that are wanted, which are in their order.
    pub(super) fn read_ahead(
        &self,
        trees: &mut Trees<'_>,
        range: Range<u64>,
        wanted: &[Range<u64>],
        ahead: &mut Ahead,
    ) -> Result<(), TreeError> {
        let (sector, width) = self.measure();
        let span = self.span();
        let last = (CSUM_OBJECT, EXTENT_CSUM, range.end.saturating_sub(1));
        let start = range.start - range.start % sector;
        let near = span / 256;
        // Short items begin near; where the first one found begins later, a longer one holds it. Neighbours are
        // alike.
        let ways = match self.is_far.get() {
            true => &[span][..],
            false => &[near, span],
        };
        for &before in ways {
            let mut begins = start;
            let first = (CSUM_OBJECT, EXTENT_CSUM, range.start.saturating_sub(before));
            trees.each(CSUM_TREE, (first, last), 0, u32::MAX, |item| {
                ahead.add_wanted(item.offset, item.data, wanted, (sector, width));
                if item.offset <= start {
                    begins = item.offset;
                }
                // Another search would find nothing behind it.
                let covers = (item.data.len() / width) as u64 * sector;
                match item.offset.saturating_add(covers) >= range.end {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })?;
            if ahead
                .read(&(start..start + sector), (sector, width))
                .is_some()
            {
                self.is_far.set(start - begins > near);
                break;
            }
        }
        Ok(())
    }

    /// Returns the checksums of a range, if all are in items that begin at `first` or later.
    fn read_from(
        &self,
        trees: &mut Trees<'_>,
        first: u64,
        wanted: Range<u64>,
        batch: u32,
    ) -> Result<Option<Vec<u8>>, TreeError> {
        let (sector, width) = self.measure();
        let (mut next, end) = (wanted.start, wanted.end);
        let range = (
            (CSUM_OBJECT, EXTENT_CSUM, first),
            (CSUM_OBJECT, EXTENT_CSUM, end.saturating_sub(1)),
        );
        let mut sums = Vec::new();
        trees.each(CSUM_TREE, range, 0, batch, |item| {
            let covered = (item.data.len() / width) as u64 * sector;
            if item.offset.saturating_add(covered) <= next {
                return ControlFlow::Continue(());
            }
            if item.offset > next {
                return ControlFlow::Break(());
            }
            let index = |sectors: u64| usize::try_from(sectors).unwrap_or(usize::MAX);
            let skip = index((next - item.offset) / sector).saturating_mul(width);
            let wanted = index((end - next).div_ceil(sector)).saturating_mul(width);
            let have = item.data.get(skip..).unwrap_or_default();
            // Whole ones: what is left of a torn item would shift all that follow.
            let whole = have.len() / width * width;
            let have = have.get(..wanted.min(whole)).unwrap_or_default();
            sums.extend_from_slice(have);
            next += (have.len() / width) as u64 * sector;
            if next >= end {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        Ok((next >= end).then_some(sums))
    }

    /// Whether whole sectors have these checksums. True where the algorithm is not known here: then it
    /// is not known to be wrong.
    pub(super) fn hold(&self, sectors: &[u8], sums: &[u8]) -> bool {
        let width = usize::from(self.info.checksum_size);
        let sector = usize::try_from(self.info.sector_size).unwrap_or(usize::MAX);
        sectors
            .chunks(sector)
            .zip(sums.chunks(width))
            .all(|(sector, sum)| match self.info.checksum_type {
                CRC32C => crc32c::crc32c(sector).to_le_bytes() == sum,
                XXHASH64 => twox_hash::XxHash64::oneshot(0, sector).to_le_bytes() == sum,
                SHA256 => sha2::Sha256::digest(sector)[..] == *sum,
                BLAKE2B => blake2::Blake2b::<U32>::digest(sector)[..] == *sum,
                _ => true,
            })
    }
}
