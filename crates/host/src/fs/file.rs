//! The content of regular files.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use plimsoll_core::model::FileType;
use rustix::fs::{Advice, AtFlags, Mode, OFlags, SeekFrom};
use rustix::io::{Errno, Result};

use super::{Dir, Stat, too_long};

/// Opens a regular file that is an entry of a directory, without following a link, waiting for
/// anything or leaving an access time behind, and returns it with what it is.
///
/// # Errors
/// Those of openat(2); `ESTALE` when the entry is no regular file any more.
pub fn open_regular(dir: &Dir, name: &[u8]) -> Result<(OwnedFd, Stat)> {
    if let Some(image) = dir.image() {
        let (file, stat) = image.open_regular(name)?;
        return Ok((file, dir.seen(stat)));
    }
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, OsStr::from_bytes(name), flags, Mode::empty())?;
    let stat = stat_fd(&fd)?;
    if stat.file_type != FileType::File {
        return Err(Errno::STALE);
    }
    Ok((fd, dir.seen(stat)))
}

/// Returns what an open file is.
///
/// # Errors
/// Those of statx(2).
pub fn stat_fd(fd: impl AsFd) -> Result<Stat> {
    let raw = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, Stat::MASK)?;
    Stat::decode(&raw).ok_or(Errno::IO)
}

/// Fills `buffer` from `offset` on, as far as the file reaches, and returns how much that was.
///
/// # Errors
/// Those of pread(2).
pub fn read_at(fd: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(&fd, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

/// Reads a regular file of `size` bytes, as it was told just before, in one read; more where it became
/// longer meanwhile.
///
/// # Errors
/// Those of pread(2); `InvalidData` when it is longer than `limit` bytes.
pub(super) fn read_whole(fd: impl AsFd, size: u64, limit: usize) -> std::io::Result<Vec<u8>> {
    let expected = usize::try_from(size).unwrap_or(usize::MAX);
    let mut bytes = vec![0; expected.min(limit) + 1];
    let mut filled = 0;
    loop {
        match rustix::io::pread(&fd, &mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        if filled > limit {
            return Err(too_long(limit));
        }
        if filled == expected {
            break;
        }
        if filled == bytes.len() {
            bytes.resize((2 * filled).min(limit + 1), 0);
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The outcome of [`Comparer::compare`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Whether any byte differs.
    pub differs: bool,
    /// Bytes read from both files together.
    pub bytes_read: u64,
}

/// Bytes read from each file at a time: those of both fit into the caches of a processor.
const PORTION: usize = 64 << 10;

/// From how many bytes on a file is looked through for holes, and read ahead.
const LARGE: u64 = 128 << 10;

/// Compares files, with buffers that serve for one pair after the other.
#[derive(Debug, Default)]
pub struct Comparer {
    buffers: [Vec<u8>; 2],
}

impl Comparer {
    /// Compares the first `size` bytes of two files. Holes on both sides are stepped over, so a sparse
    /// file costs what it holds, not what it claims.
    ///
    /// # Errors
    /// Those of lseek(2) and pread(2); `ESTALE` when one of them became shorter meanwhile.
    pub fn compare(&mut self, a: impl AsFd, b: impl AsFd, size: u64) -> Result<Difference> {
        let mut result = Difference {
            differs: false,
            bytes_read: 0,
        };
        if size > LARGE {
            for fd in [a.as_fd(), b.as_fd()] {
                // Advice only: where it is refused, reading is merely slower.
                #[expect(clippy::let_underscore_must_use, reason = "advice only")]
                let _ = rustix::fs::fadvise(fd, 0, None, Advice::Sequential);
            }
        }
        let mut offset = 0;
        while offset < size {
            if size > LARGE {
                let next =
                    next_data(a.as_fd(), offset, size)?.min(next_data(b.as_fd(), offset, size)?);
                if next >= size {
                    break;
                }
                offset = next;
            }
            let want = usize::try_from(size - offset)
                .unwrap_or(PORTION)
                .min(PORTION);
            let [in_a, in_b] = self.buffers.each_mut().map(|buffer| {
                if buffer.len() < want {
                    buffer.resize(want, 0);
                }
                buffer.get_mut(..want).unwrap_or_default()
            });
            let read = read_at(&a, in_a, offset)? + read_at(&b, in_b, offset)?;
            result.bytes_read += read as u64;
            if read != 2 * want {
                return Err(Errno::STALE);
            }
            if in_a != in_b {
                result.differs = true;
                break;
            }
            offset += want as u64;
        }
        Ok(result)
    }
}

/// Returns where the next data begins at or after `offset`; `size` when only a hole is left.
fn next_data(fd: impl AsFd, offset: u64, size: u64) -> Result<u64> {
    match rustix::fs::seek(fd, SeekFrom::Data(offset)) {
        Ok(at) => Ok(at),
        Err(Errno::NXIO) => Ok(size),
        Err(Errno::INVAL) => Ok(offset),
        Err(errno) => Err(errno),
    }
}
