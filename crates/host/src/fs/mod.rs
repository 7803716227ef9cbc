//! Every access to a file: beneath a directory handle, no link followed, no access time left
//! behind, sizes bounded.

pub(crate) mod bolt;
pub mod btrfs;
mod dir;
pub(crate) mod erofs;
mod file;
mod owners;
mod source;
mod stat;

pub use dir::{Dir, DirReader, Identity, Lasting, MOUNT_FOR_EVER, known_identity};
use file::read_whole;
pub use file::{Comparer, Difference, open_regular, read_at, stat_fd};
pub use owners::{IdRange, Owners};
pub use stat::Stat;

use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// Largest record of a runtime or of the kernel that is read into memory, in bytes.
pub const RECORD_LIMIT: usize = 16 << 20;

/// Largest extended attribute, and largest list of their names, in bytes (`XATTR_SIZE_MAX` and
/// `XATTR_LIST_MAX` in the kernel's `include/uapi/linux/limits.h`).
pub const XATTR_LIMIT: usize = 65_536;

/// Longest target of a symbolic link, in bytes (`PATH_MAX`).
pub const LINK_LIMIT: usize = 4096;

/// Reads a small text of the kernel's own (`/proc`, `/sys`) or of the operator's.
///
/// # Errors
/// Those of opening and reading; `InvalidData` when it is not UTF-8 or longer than
/// [`RECORD_LIMIT`].
pub fn read_small(path: impl AsRef<std::path::Path>) -> std::io::Result<String> {
    let bytes = read_small_bytes(path)?;
    String::from_utf8(bytes)
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "not UTF-8"))
}

/// Reads a small file of the kernel's own (`/proc`, `/sys`) or of the operator's, as bytes.
///
/// # Errors
/// Those of opening and reading; `InvalidData` when it is longer than [`RECORD_LIMIT`].
pub fn read_small_bytes(path: impl AsRef<std::path::Path>) -> std::io::Result<Vec<u8>> {
    read_small_at(CWD, path.as_ref())
}

/// The same by a path that begins at a directory.
///
/// # Errors
/// Those of [`read_small_bytes`].
pub fn read_small_at(dir: impl AsFd, path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    /// The kernel's files say nothing of their length, and give a page at a time.
    const PAGE: usize = 4096;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::openat(dir, path, flags, Mode::empty())?;
    let mut bytes = Vec::with_capacity(PAGE);
    loop {
        if bytes.capacity() - bytes.len() < PAGE / 4 {
            bytes.reserve(PAGE);
        }
        match rustix::io::read(&fd, spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) if bytes.len() > RECORD_LIMIT => return Err(too_long(RECORD_LIMIT)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn too_long(limit: usize) -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        format!("longer than {limit} bytes"),
    )
}
