//! FS_IOC_FIEMAP: where a file's bytes lie (kernel `include/uapi/linux/fiemap.h`).

use std::os::fd::BorrowedFd;

use rustix::io::Result;
use rustix::ioctl::{Updater, ioctl, opcode};

/// Write dirty pages out first, so that no extent is hidden behind delayed allocation.
pub const FLAG_SYNC: u32 = 1;

/// The last extent of the file.
pub const EXTENT_LAST: u32 = 0x1;

/// Extents that one call returns at most.
pub const BATCH: usize = 128;

/// One extent (`struct fiemap_extent`).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file, in bytes.
    pub logical: u64,
    /// Offset on the device, in bytes.
    pub physical: u64,
    /// Length, in bytes.
    pub length: u64,
    reserved64: [u64; 2],
    /// `FIEMAP_EXTENT_*`.
    pub flags: u32,
    reserved: [u32; 3],
}

/// `struct fiemap` with room for [`BATCH`] extents.
#[repr(C)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; BATCH],
}

/// The size that FS_IOC_FIEMAP encodes is that of `struct fiemap` without extents.
const FS_IOC_FIEMAP: u32 = opcode::read_write::<[u64; 4]>(b'f', 11);

/// Returns up to [`BATCH`] extents of the file from `start` on.
///
/// # Errors
/// Those of the ioctl: `EOPNOTSUPP` where the file system has no such map.
pub fn extents(fd: BorrowedFd<'_>, start: u64, flags: u32) -> Result<Vec<Extent>> {
    let mut request = Request {
        start,
        length: u64::MAX - start,
        flags,
        mapped: 0,
        count: BATCH as u32,
        reserved: 0,
        extents: [Extent::default(); BATCH],
    };
    // SAFETY: the kernel reads and writes a `struct fiemap` followed by at most `count` extents
    // (`ioctl_fiemap` in fs/ioctl.c); `Request` has that layout with room for `BATCH` of them.
    let updater = unsafe { Updater::<FS_IOC_FIEMAP, Request>::new(&mut request) };
    // SAFETY: the opcode above is FS_IOC_FIEMAP, and the argument is what it takes.
    unsafe { ioctl(fd, updater)? };
    let mapped = (request.mapped as usize).min(BATCH);
    Ok(request.extents[..mapped].to_vec())
}
