//! The names in a directory, in bounded portions.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{MutexGuard, PoisonError};

use rustix::fs::{RawDir, SeekFrom};
use rustix::io::Result;

use super::Dir;
use crate::fs::erofs;

impl Dir {
    /// Returns a reader of this directory's entries, starting at `offset`: 0, or what
    /// [`DirReader::offset`] gave. The position is the handle's own: there is one reader at a time, and another
    /// thread waits for it to be let go of.
    ///
    /// # Errors
    /// Those of lseek(2).
    pub fn reader(&self, offset: u64) -> Result<DirReader<'_>> {
        let image = self.image();
        let mut was_read = self.was_read.lock().unwrap_or_else(PoisonError::into_inner);
        let moves = std::mem::replace(&mut *was_read, true) || offset != 0;
        if image.is_none() && moves {
            rustix::fs::seek(&self.fd, SeekFrom::Start(offset))?;
        }
        Ok(DirReader {
            fd: self.fd.as_fd(),
            image,
            offset,
            tells_end: self.tells_end,
            portion: Vec::new(),
            _alone: was_read,
        })
    }
}

/// Reads the entries of a directory in bounded portions.
#[derive(Debug)]
pub struct DirReader<'a> {
    fd: BorrowedFd<'a>,
    image: Option<&'a erofs::Directory>,
    offset: u64,
    tells_end: bool,
    /// Room for a portion. Not on the stack, where every page of it would be touched for a few names.
    portion: Vec<u8>,
    _alone: MutexGuard<'a, bool>,
}

impl DirReader<'_> {
    /// Bytes of one portion, in two parts: about a hundred names, which is more than most directories have, and
    /// about a thousand.
    const FIRST: usize = 4 << 10;
    const PORTION: usize = 32 << 10;
    /// Bytes of an entry beside its name (`struct linux_dirent64` with the byte that ends the name, and what
    /// fills it up to eight), and of the longest entry.
    const ENTRY: usize = 27;
    const LONGEST: usize = Self::ENTRY + 255;
    const NAMES: usize = 1000;

    /// The position behind the last entry of a directory of ext4 (`EXT4_HTREE_EOF_64BIT` in the kernel's
    /// `fs/ext4/ext4.h`): no entry has it, for its hash is never that (`ext4fs_dirhash` in `hash.c`), and a
    /// listing from there on gives nothing (`ext4_dx_readdir` in `dir.c`). It is told with the last entry. A
    /// portion that is not full proves nothing: a signal ends it early.
    const END: u64 = i64::MAX.unsigned_abs();

    /// Gives each name of the next portion to `each`, `.` and `..` left out, and returns whether
    /// there may be more.
    ///
    /// # Errors
    /// Those of getdents64(2).
    pub fn next_portion(&mut self, mut each: impl FnMut(&[u8])) -> Result<bool> {
        if let Some(image) = self.image {
            let given = image.names(self.offset, Self::NAMES, each)?;
            self.offset += given;
            return Ok(given > 0);
        }
        let mut any = false;
        for room in [Self::FIRST, Self::PORTION] {
            self.portion.reserve(room);
            let space = self.portion.spare_capacity_mut();
            let mut entries = RawDir::new(self.fd, space.get_mut(..room).unwrap_or_default());
            let mut used = 0;
            while let Some(entry) = entries.next() {
                let entry = entry?;
                any = true;
                self.offset = entry.next_entry_cookie();
                let name = entry.file_name().to_bytes();
                used += Self::ENTRY + name.len();
                if name != b"." && name != b".." {
                    each(name);
                }
                if entries.is_buffer_empty() {
                    break;
                }
            }
            if self.tells_end && self.offset == Self::END {
                return Ok(false);
            }
            // It was not the room that was too short for the next one.
            if used + Self::LONGEST <= room {
                break;
            }
        }
        Ok(any)
    }

    /// Returns the position after the last name given, for [`Dir::reader`].
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}
