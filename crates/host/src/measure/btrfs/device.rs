//! The bytes of extents, read from the block devices beneath the file system.
//!
//! Opening a file of the container would raise an event that a process in it can see, and reading it
//! would move its access time. The device knows nothing of either. What is read is what was committed:
//! extents are never written to in place while two trees share them, and the caller looks afterwards
//! whether the extent is still the file's. What has checksums is held against them, and read from the
//! next copy where they do not agree, as the kernel does.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::ops::{ControlFlow, Range};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_syscall::btrfs::device_info;
use rustix::fs::{FileType, Mode, OFlags};

use super::ahead::{self, Ahead};
use super::checksums::Checksums;
use super::chunks::{Copies, copies_in};
use super::compression::{MAX_COMPRESSED, decompress};
use super::extents::Segment;
use super::reading::Reading;
use super::window::Window;
use crate::fs::btrfs::decode::{CHUNK_ITEM, Chunk, FileExtent, Place};
use crate::fs::btrfs::{TreeError, Trees};
use crate::measure::Trouble;

/// The tree of chunks, and the object that its items hang on (`BTRFS_FIRST_CHUNK_TREE_OBJECTID`).
const CHUNK_TREE: u64 = 3;
const CHUNK_OBJECT: u64 = 256;

/// The tree that says where stripes are where chunks alone do not (`BTRFS_RAID_STRIPE_TREE_OBJECTID`).
const STRIPE_TREE: u64 = 12;

/// Alignment that direct reads need on every device in use.
pub(super) const ALIGNMENT: u64 = 4096;

/// How long places are together whose checksums are read at one go.
const SUMS_MAX: u64 = 64 << 20;

/// Why bytes could not be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// This way of storing them is not known here.
    NotSupported,
    /// They are not what was written: the extent may be another one's by now, or the disk is at fault.
    Moved,
    /// Something failed.
    Trouble(Trouble),
}

impl<T: Into<Trouble>> From<T> for Unreadable {
    fn from(trouble: T) -> Self {
        Self::Trouble(trouble.into())
    }
}

/// The devices of a file system and the map from logical addresses to them, read when first needed.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// Chunks by the logical address at which they begin.
    chunks: Vec<(u64, Chunk)>,
    pub(super) open: HashMap<u64, Arc<OwnedFd>>,
    checksums: Option<Rc<Checksums>>,
    /// Checksums that were read ahead.
    sums_ahead: Ahead,
    pub(super) reading: Reading,
    /// Whether what is asked for was known before anything was read ahead: only then that tells of it.
    pub(super) is_ahead: bool,
    /// The compressed extents last read, and what they hold: parts of one are often asked for in turn.
    decompressed: Vec<(FileExtent, Vec<u8>)>,
}

/// Compressed extents remembered: those of two files, twice.
const REMEMBERED: usize = 4;

impl Devices {
    /// Devices that threads may read from.
    pub(super) fn with_threads(may_have_threads: bool) -> Self {
        let mut devices = Self::default();
        devices.reading.may_have_threads = may_have_threads;
        devices
    }

    /// No devices, beneath trees in memory.
    #[cfg(feature = "fuzzing")]
    pub(super) fn none(checksums: Checksums) -> Self {
        Self {
            checksums: Some(Rc::new(checksums)),
            ..Self::default()
        }
    }

    /// Returns the checksums of the file system.
    pub(super) fn checksums(&mut self, trees: &Trees<'_>) -> Result<Rc<Checksums>, Trouble> {
        let checksums = match &self.checksums {
            Some(checksums) => checksums,
            None => self.checksums.insert(Rc::new(Checksums::of(trees)?)),
        };
        Ok(Rc::clone(checksums))
    }

    /// Returns the checksums of a range of logical addresses, as [`Checksums::read`] does.
    pub(super) fn sums(
        &mut self,
        trees: &mut Trees<'_>,
        address: u64,
        length: u64,
    ) -> Result<Option<Vec<u8>>, Unreadable> {
        let checksums = self.checksums(trees)?;
        let range = address..address.saturating_add(length);
        let ahead = self
            .is_ahead
            .then(|| self.sums_ahead.read(&range, checksums.measure()));
        match ahead.flatten() {
            Some(sums) => Ok(Some(sums)),
            None => Ok(checksums.read(trees, address, length)?),
        }
    }

    /// Reads the checksums of many places at one go, as far as there are any.
    pub(super) fn read_checksums_ahead(
        &mut self,
        trees: &mut Trees<'_>,
        places: Vec<Range<u64>>,
    ) -> Result<(), Trouble> {
        let checksums = self.checksums(trees)?;
        let wanted = ahead::merged(places, 0, u64::MAX);
        for place in ahead::merged(wanted.clone(), checksums.span(), SUMS_MAX) {
            checksums.read_ahead(trees, place, &wanted, &mut self.sums_ahead)?;
        }
        Ok(())
    }

    /// Whether two ranges of logical addresses hold the same bytes, where those were read ahead and are what
    /// was written; `None` where that is not so.
    pub(super) fn equal_ahead(
        &mut self,
        trees: &mut Trees<'_>,
        (a, b): (u64, u64),
        length: u64,
    ) -> Result<Option<bool>, Unreadable> {
        let checksums = self.checksums(trees)?;
        let sector = checksums.sector();
        let whole = |at: u64| {
            let end = at.checked_add(length)?.checked_next_multiple_of(sector)?;
            Some(at - at % sector..end)
        };
        let (Some(range_a), Some(range_b)) = (whole(a), whole(b)) else {
            return Ok(None);
        };
        let are_there =
            |window: &Window| window.get(&range_a).is_some() && window.get(&range_b).is_some();
        if !self.is_ahead || !are_there(&self.reading.window) {
            return Ok(None);
        }
        let sums_a = self.sums(trees, range_a.start, range_a.end - range_a.start)?;
        let sums_b = self.sums(trees, range_b.start, range_b.end - range_b.start)?;
        let window = &self.reading.window;
        let (Some(bytes_a), Some(bytes_b)) = (window.get(&range_a), window.get(&range_b)) else {
            return Ok(None);
        };
        let hold = |bytes: &[u8], sums: &Option<Vec<u8>>| {
            let holds = |sums: &Vec<u8>| checksums.hold(bytes, sums);
            sums.as_ref().is_none_or(holds)
        };
        let same = bytes_a == bytes_b;
        // What holds for the one holds for the other where neither differs.
        if !hold(bytes_a, &sums_a) || !(same && sums_a == sums_b || hold(bytes_b, &sums_b)) {
            return Ok(None);
        }
        if same && a % sector == b % sector {
            return Ok(Some(true));
        }
        let part = |at: u64| -> Option<Range<usize>> {
            let skip = to_usize(at % sector).ok()?;
            Some(skip..skip.checked_add(to_usize(length).ok()?)?)
        };
        let parts = part(a)
            .and_then(|part| bytes_a.get(part))
            .zip(part(b).and_then(|part| bytes_b.get(part)));
        Ok(parts.map(|(part_a, part_b)| part_a == part_b))
    }

    /// Forgets the checksums that were read ahead, and the bytes.
    pub(super) fn forget(&mut self) {
        self.sums_ahead.clear();
        self.forget_bytes();
    }

    /// Returns the bytes of a segment from file offset `from` up to `to`, and how many bytes were read
    /// from a device for that.
    pub(super) fn read(
        &mut self,
        trees: &mut Trees<'_>,
        segment: &Segment,
        from: u64,
        to: u64,
    ) -> Result<(Vec<u8>, u64), Unreadable> {
        let within = to_usize(from - segment.start)?;
        let length = to_usize(to - from)?;
        let extent = &segment.extent;
        match &extent.place {
            Place::Zeros { .. } => Ok((vec![0; length], 0)),
            Place::Inline(bytes) => {
                let bytes = decompress(extent.compression, bytes, extent.ram_bytes)?;
                Ok((padded(&bytes, within, length), 0))
            }
            Place::Disk {
                address, offset, ..
            } if extent.compression == 0 => {
                let at = address
                    .checked_add(*offset)
                    .and_then(|at| at.checked_add(from - segment.start))
                    .ok_or(Unreadable::NotSupported)?;
                let bytes = self.logical(trees, at, length)?;
                Ok((bytes, length as u64))
            }
            Place::Disk {
                address,
                disk_length,
                offset,
                ..
            } => {
                let start = to_usize(*offset)?.checked_add(within);
                let start = start.ok_or(Unreadable::NotSupported)?;
                let known = |(known, _): &&(FileExtent, Vec<u8>)| same_compressed(known, extent);
                if let Some((_, bytes)) = self.decompressed.iter().find(known) {
                    return Ok((padded(bytes, start, length), 0));
                }
                if *disk_length > MAX_COMPRESSED {
                    return Err(Unreadable::NotSupported);
                }
                let stored = self.logical(trees, *address, to_usize(*disk_length)?)?;
                let bytes = decompress(extent.compression, &stored, extent.ram_bytes)?;
                let wanted = padded(&bytes, start, length);
                self.decompressed.truncate(REMEMBERED - 1);
                self.decompressed.insert(0, (extent.clone(), bytes));
                Ok((wanted, *disk_length))
            }
        }
    }

    /// Returns a range of logical addresses as it is on disk, held against its checksums where it has
    /// any.
    pub(super) fn logical(
        &mut self,
        trees: &mut Trees<'_>,
        address: u64,
        length: usize,
    ) -> Result<Vec<u8>, Unreadable> {
        let checksums = self.checksums(trees)?;
        // Whole sectors: extents begin and end with one.
        let sector = checksums.sector();
        let start = address - address % sector;
        let skip = to_usize(address - start)?;
        let whole = (skip as u64)
            .checked_add(length as u64)
            .and_then(|whole| whole.checked_next_multiple_of(sector))
            .ok_or(Unreadable::NotSupported)?;
        let sums = self.sums(trees, start, whole)?;
        let holds = |bytes: &[u8], from: usize| match &sums {
            None => true,
            Some(sums) => {
                let width = sums.len() / to_usize(whole / sector).unwrap_or(usize::MAX).max(1);
                let first = from as u64 / sector;
                let first = usize::try_from(first).unwrap_or(usize::MAX);
                sums.get(first.saturating_mul(width)..)
                    .is_some_and(|sums| checksums.hold(bytes, sums))
            }
        };
        let range = start..start.saturating_add(whole);
        if self.is_ahead
            && let Some(bytes) = self.reading.window.get(&range)
            && holds(bytes, 0)
        {
            return Ok(bytes.get(skip..skip + length).unwrap_or_default().to_vec());
        }
        let mut bytes = Vec::with_capacity(to_usize(whole)?);
        while (bytes.len() as u64) < whole {
            let copies = self.locate(trees, start + bytes.len() as u64)?;
            let portion = to_usize(copies.contiguous.min(whole - bytes.len() as u64))?;
            let from = bytes.len();
            let mut last = Unreadable::Moved;
            let mut found = false;
            for (device, offset) in copies.at {
                bytes.truncate(from);
                let read = opened(&mut self.open, trees, device)
                    .and_then(|fd| read_direct(fd, offset, portion, &mut bytes));
                match read {
                    Ok(()) if bytes.get(from..).is_some_and(|bytes| holds(bytes, from)) => {
                        found = true;
                        break;
                    }
                    Ok(()) => last = Unreadable::Moved,
                    Err(error) => last = error,
                }
            }
            if !found {
                // A chunk may have been moved since the map was read.
                self.chunks.clear();
                return Err(last);
            }
        }
        Ok(bytes.get(skip..skip + length).unwrap_or_default().to_vec())
    }

    /// Returns where a logical address is.
    pub(super) fn locate(
        &mut self,
        trees: &mut Trees<'_>,
        address: u64,
    ) -> Result<Copies, Unreadable> {
        let find = |chunks: &[(u64, Chunk)]| {
            let after = chunks.partition_point(|(start, _)| *start <= address);
            let (start, chunk) = chunks.get(after.checked_sub(1)?)?;
            copies_in(chunk, address - start)
        };
        if let Some(copies) = find(&self.chunks) {
            return copies;
        }
        if trees.has_tree(STRIPE_TREE)? {
            return Err(Unreadable::NotSupported);
        }
        let mut chunks = Vec::new();
        let mut odd = false;
        let range = (
            (CHUNK_OBJECT, CHUNK_ITEM, 0),
            (CHUNK_OBJECT, CHUNK_ITEM, u64::MAX),
        );
        trees.each(CHUNK_TREE, range, 0, 256, |item| {
            match Chunk::decode(item.data) {
                Some(chunk) => chunks.push((item.offset, chunk)),
                None => odd = true,
            }
            ControlFlow::Continue(())
        })?;
        if odd {
            return Err(TreeError::Undecodable(CHUNK_TREE).into());
        }
        self.chunks = chunks;
        // Not there at all: it was freed, and its chunk removed.
        find(&self.chunks).unwrap_or(Err(Unreadable::Moved))
    }
}

/// Returns a device, opened when it is first needed.
pub(super) fn opened<'o>(
    open: &'o mut HashMap<u64, Arc<OwnedFd>>,
    trees: &Trees<'_>,
    id: u64,
) -> Result<&'o Arc<OwnedFd>, Unreadable> {
    Ok(match open.entry(id) {
        Entry::Occupied(open) => open.into_mut(),
        Entry::Vacant(vacant) => vacant.insert(Arc::new(open_device(trees, id)?)),
    })
}

/// Whether two compressed extents are one and the same, wherever the parts of it are that a file uses.
fn same_compressed(a: &FileExtent, b: &FileExtent) -> bool {
    let whole = |extent: &FileExtent| match extent.place {
        Place::Disk {
            address,
            disk_length,
            ..
        } => Some((
            address,
            disk_length,
            extent.generation,
            extent.ram_bytes,
            extent.compression,
        )),
        _ => None,
    };
    whole(a).is_some() && whole(a) == whole(b)
}

fn open_device(trees: &Trees<'_>, id: u64) -> Result<OwnedFd, Unreadable> {
    let info = device_info(trees.anchor().as_fd(), id)?;
    if info.path.is_empty() {
        return Err(Trouble(format!("device {id} of the file system is missing")).into());
    }
    let shown = plimsoll_core::model::escape(&info.path).into_owned();
    let failed = |errno| {
        let why = std::io::Error::from(errno);
        Trouble(format!("the device {shown} cannot be read: {why}"))
    };
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd =
        rustix::fs::open(OsStr::from_bytes(&info.path), flags, Mode::empty()).map_err(failed)?;
    let stat = rustix::fs::fstat(&fd).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
        return Err(Trouble(format!("{shown} is no block device")).into());
    }
    if !is_device_of(&fd, id, &info.uuid)? {
        let why =
            format!("{shown} is not device {id} of this file system: another one is seen here");
        return Err(Trouble(why).into());
    }
    Ok(fd)
}

/// Whether the superblock says that this is the device looked for: the kernel knows a device by the
/// path that it had when it was found, which may lead elsewhere by now, or here.
fn is_device_of(fd: &OwnedFd, id: u64, uuid: &[u8; 16]) -> Result<bool, Unreadable> {
    const SUPERBLOCK_AT: u64 = 64 << 10;
    let mut block = Vec::new();
    read_direct(fd, SUPERBLOCK_AT, 4096, &mut block)?;
    Ok(is_superblock_of(&block, id, uuid))
}

/// Whether a block is the superblock of this device (`struct btrfs_super_block` and its `dev_item` in
/// include/uapi/linux/btrfs_tree.h).
pub(super) fn is_superblock_of(block: &[u8], id: u64, uuid: &[u8; 16]) -> bool {
    const MAGIC_AT: usize = 64;
    const DEVICE_AT: usize = 201;
    const UUID_AT: usize = DEVICE_AT + 66;
    block.get(MAGIC_AT..MAGIC_AT + 8) == Some(b"_BHRfS_M")
        && block.get(DEVICE_AT..DEVICE_AT + 8) == Some(&id.to_le_bytes())
        && block.get(UUID_AT..UUID_AT + 16) == Some(uuid)
}

/// Reads past the page cache of the device, which the file system does not keep up to date.
fn read_direct(
    fd: &OwnedFd,
    offset: u64,
    length: usize,
    out: &mut Vec<u8>,
) -> Result<(), Unreadable> {
    let start = offset / ALIGNMENT * ALIGNMENT;
    let skip = to_usize(offset - start)?;
    let alignment = to_usize(ALIGNMENT)?;
    let aligned = (skip + length).next_multiple_of(alignment);
    let mut buffer = vec![0; aligned + alignment];
    let shift = buffer.as_ptr().align_offset(alignment);
    let window = buffer
        .get_mut(shift..shift + aligned)
        .ok_or(Unreadable::NotSupported)?;
    let filled = crate::fs::read_at(fd, window, start)?;
    let bytes = window
        .get(..filled)
        .and_then(|window| window.get(skip..skip + length));
    out.extend_from_slice(bytes.ok_or_else(|| Trouble("the device ends within an extent".into()))?);
    Ok(())
}

/// Returns `length` bytes from `from` on; what lies beyond the end is zero, as in the kernel.
fn padded(bytes: &[u8], from: usize, length: usize) -> Vec<u8> {
    let have = bytes.get(from.min(bytes.len())..).unwrap_or_default();
    let mut out = have
        .get(..length.min(have.len()))
        .unwrap_or_default()
        .to_vec();
    out.resize(length, 0);
    out
}

pub(super) fn to_usize(n: u64) -> Result<usize, Unreadable> {
    usize::try_from(n).map_err(|_| Unreadable::NotSupported)
}
