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

pub use dir::{Dir, DirReader, Identity, Lasting, known_identity};
use file::read_whole;
pub use file::{Comparer, Difference, open_regular, read_at, stat_fd};
pub use owners::{IdRange, Owners};
pub use stat::Stat;

use std::io::Read as _;

use rustix::fs::{Mode, OFlags};

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
    let fd = rustix::fs::open(
        path.as_ref(),
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
    )?;
    // The kernel's files say nothing of their length, and give a page at a time.
    let mut bytes = Vec::with_capacity(4096);
    std::fs::File::from(fd)
        .take(RECORD_LIMIT as u64 + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() {
        0..=RECORD_LIMIT => Ok(bytes),
        _ => Err(too_long(RECORD_LIMIT)),
    }
}

fn too_long(limit: usize) -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        format!("longer than {limit} bytes"),
    )
}
