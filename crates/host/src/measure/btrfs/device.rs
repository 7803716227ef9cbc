//! The bytes of extents, read from the block devices beneath the file system.
//!
//! Opening a file of the container would raise an event that a process in it can see, and reading it
//! would move its access time. The device knows nothing of either. What is read is what was committed:
//! extents are never written to in place while two trees share them, and the caller looks afterwards
//! whether the extent is still the file's.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use plimsoll_syscall::btrfs::device_path;
use rustix::fs::{FileType, Mode, OFlags};

use super::extents::Segment;
use crate::fs::btrfs::Trees;
use crate::fs::btrfs::decode::{CHUNK_ITEM, Chunk, Place};
use crate::measure::Trouble;

/// The tree of chunks, and the object that its items hang on (`BTRFS_FIRST_CHUNK_TREE_OBJECTID`).
const CHUNK_TREE: u64 = 3;
const CHUNK_OBJECT: u64 = 256;

/// Alignment that direct reads need on every device in use.
const ALIGNMENT: u64 = 4096;

/// Largest compressed extent, and largest uncompressed one, in bytes (`BTRFS_MAX_COMPRESSED` and
/// `BTRFS_MAX_UNCOMPRESSED`).
const MAX_COMPRESSED: u64 = 128 << 10;

/// Why bytes could not be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// This way of storing them is not known here.
    NotSupported,
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
    open: HashMap<u64, OwnedFd>,
}

impl Devices {
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
                let bytes =
                    self.logical(trees, address + offset + (from - segment.start), length)?;
                Ok((bytes, length as u64))
            }
            Place::Disk {
                address,
                disk_length,
                offset,
                ..
            } => {
                if *disk_length > MAX_COMPRESSED {
                    return Err(Unreadable::NotSupported);
                }
                let stored = self.logical(trees, *address, to_usize(*disk_length)?)?;
                let bytes = decompress(extent.compression, &stored, extent.ram_bytes)?;
                Ok((
                    padded(&bytes, to_usize(*offset)? + within, length),
                    *disk_length,
                ))
            }
        }
    }

    /// Reads a range of logical addresses.
    fn logical(
        &mut self,
        trees: &mut Trees<'_>,
        address: u64,
        length: usize,
    ) -> Result<Vec<u8>, Unreadable> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = address + bytes.len() as u64;
            let (device, offset, contiguous) = self.locate(trees, at)?;
            let portion = to_usize(contiguous.min((length - bytes.len()) as u64))?;
            let fd = self.device(trees, device)?;
            read_direct(fd, offset, portion, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// Returns device and offset of a logical address, and how many bytes lie there in one piece.
    fn locate(
        &mut self,
        trees: &mut Trees<'_>,
        address: u64,
    ) -> Result<(u64, u64, u64), Unreadable> {
        let find = |chunks: &[(u64, Chunk)]| {
            let after = chunks.partition_point(|(start, _)| *start <= address);
            let (start, chunk) = chunks.get(after.checked_sub(1)?)?;
            place_in(chunk, address - start)
        };
        if let Some(place) = find(&self.chunks) {
            return place;
        }
        let mut chunks = Vec::new();
        let range = (
            (CHUNK_OBJECT, CHUNK_ITEM, 0),
            (CHUNK_OBJECT, CHUNK_ITEM, u64::MAX),
        );
        trees.each(CHUNK_TREE, range, 0, 256, |item| {
            chunks.extend(Chunk::decode(item.data).map(|chunk| (item.offset, chunk)));
            ControlFlow::Continue(())
        })?;
        self.chunks = chunks;
        find(&self.chunks).unwrap_or_else(|| {
            Err(Trouble("its extent lies in no chunk of the file system".into()).into())
        })
    }

    fn device(&mut self, trees: &Trees<'_>, id: u64) -> Result<&OwnedFd, Unreadable> {
        Ok(match self.open.entry(id) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(open_device(trees, id)?),
        })
    }
}

fn open_device(trees: &Trees<'_>, id: u64) -> Result<OwnedFd, Unreadable> {
    let path = device_path(trees.anchor().as_fd(), id)?;
    let shown = plimsoll_core::model::escape(&path).into_owned();
    let failed = |errno| {
        let why = std::io::Error::from(errno);
        Trouble(format!("the device {shown} cannot be read: {why}"))
    };
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::open(OsStr::from_bytes(&path), flags, Mode::empty()).map_err(failed)?;
    let stat = rustix::fs::fstat(&fd).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
        return Err(Trouble(format!("{shown} is no block device")).into());
    }
    Ok(fd)
}

/// Returns device and offset of a place in a chunk, and how many bytes lie there in one piece
/// (`btrfs_map_block` in `fs/btrfs/volumes.c`); `None` when the chunk does not reach so far.
fn place_in(chunk: &Chunk, at: u64) -> Option<Result<(u64, u64, u64), Unreadable>> {
    const RAID0: u64 = 1 << 3;
    const RAID10: u64 = 1 << 6;
    const RAID56: u64 = 1 << 7 | 1 << 8;
    let left = chunk.length.checked_sub(at).filter(|left| *left > 0)?;
    if chunk.profile & RAID56 != 0 {
        return Some(Err(Unreadable::NotSupported));
    }
    let count = chunk.stripes.len() as u64;
    if chunk.profile & (RAID0 | RAID10) == 0 {
        // One copy, or several whole ones: any will do.
        return chunk
            .stripes
            .first()
            .map(|(device, offset)| Ok((*device, offset + at, left)));
    }
    let copies = if chunk.profile & RAID10 != 0 {
        u64::from(chunk.sub_stripes).max(1)
    } else {
        1
    };
    let (stripe_length, across) = (chunk.stripe_length.max(1), (count / copies).max(1));
    let (stripe, within) = (at / stripe_length, at % stripe_length);
    let index = usize::try_from(stripe % across * copies).ok()?;
    let (device, offset) = chunk.stripes.get(index)?;
    Some(Ok((
        *device,
        offset + stripe / across * stripe_length + within,
        left.min(stripe_length - within),
    )))
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

/// Undoes the compression of an extent (`fs/btrfs/{zlib,lzo,zstd}.c`).
fn decompress(compression: u8, bytes: &[u8], ram_bytes: u64) -> Result<Vec<u8>, Unreadable> {
    const NONE: u8 = 0;
    const ZLIB: u8 = 1;
    const ZSTD: u8 = 3;
    let limit = ram_bytes.min(MAX_COMPRESSED);
    let mut out = Vec::new();
    let failed = |e: std::io::Error| Trouble(format!("a compressed extent cannot be read: {e}"));
    match compression {
        NONE => return Ok(bytes.to_vec()),
        ZLIB => {
            flate2::read::ZlibDecoder::new(bytes)
                .take(limit)
                .read_to_end(&mut out)
                .map_err(failed)?;
        }
        ZSTD => {
            let decoder = zstd::stream::read::Decoder::with_buffer(bytes)
                .map_err(failed)?
                .single_frame();
            decoder.take(limit).read_to_end(&mut out).map_err(failed)?;
        }
        _ => return Err(Unreadable::NotSupported),
    }
    Ok(out)
}

fn to_usize(n: u64) -> Result<usize, Unreadable> {
    usize::try_from(n).map_err(|_| Unreadable::NotSupported)
}
