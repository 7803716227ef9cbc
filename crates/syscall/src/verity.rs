//! fs-verity: the digest that the kernel holds a file's content to (kernel
//! `Documentation/filesystems/fsverity.rst`).

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::{Errno, Result};

/// Longest digest: SHA-512.
const ROOM: u16 = 64;

/// `FS_IOC_MEASURE_VERITY`: `_IOWR('f', 134, struct fsverity_digest)`, the size being that of its head.
const MEASURE: libc::Ioctl = 0xc004_6686_u32 as libc::Ioctl;

/// `struct fsverity_digest` with room for the longest.
#[repr(C)]
struct Raw {
    algorithm: u16,
    length: u16,
    bytes: [u8; ROOM as usize],
}

/// Returns the hash algorithm's number and the digest that every read of this file is held to.
///
/// # Errors
/// `ENODATA` when it has none; `ENOTTY` or `EOPNOTSUPP` where the file system has no fs-verity.
pub fn measure(file: BorrowedFd<'_>) -> Result<(u16, Vec<u8>)> {
    let mut raw = Raw {
        algorithm: 0,
        length: ROOM,
        bytes: [0; ROOM as usize],
    };
    // SAFETY: the ioctl reads and writes a `struct fsverity_digest` with room for `length` bytes of
    // digest, which outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), MEASURE, &raw mut raw) };
    if result != 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    let length = usize::from(raw.length.min(ROOM));
    Ok((
        raw.algorithm,
        raw.bytes.get(..length).unwrap_or_default().into(),
    ))
}
