//! The identity that a file system gives to a file: its handle (name_to_handle_at(2)).

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::{Errno, Result};

/// Longest handle (`MAX_HANDLE_SZ` in the kernel's `include/linux/exportfs.h`).
const ROOM: usize = 128;

/// `struct file_handle` with the longest handle.
#[repr(C)]
struct Raw {
    length: u32,
    kind: i32,
    bytes: [u8; ROOM],
}

/// The handle of a file: on ext4, XFS and Btrfs its inode number and the generation of that number, so
/// that a number that is used again is told apart (`fs/libfs.c`, `generic_encode_ino32_fh`;
/// `fs/xfs/xfs_export.c`; `fs/btrfs/export.c`).
#[derive(Debug, Clone, Copy)]
pub struct Handle {
    kind: i32,
    length: usize,
    bytes: [u8; ROOM],
}

impl Handle {
    /// Returns the type of the handle, by which its bytes are to be read.
    #[must_use]
    pub fn kind(&self) -> i32 {
        self.kind
    }

    /// Returns its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Returns the handle of an entry of a directory, a link itself not followed; of the directory itself for
/// an empty name. Nothing is opened.
///
/// # Errors
/// `EOPNOTSUPP` where the file system has no handles, and those of looking the entry up.
pub fn at(dir: BorrowedFd<'_>, name: &CStr) -> Result<Handle> {
    let mut raw = Raw {
        length: 128,
        kind: 0,
        bytes: [0; ROOM],
    };
    let mut mount = 0_i32;
    let flags = match name.is_empty() {
        true => libc::AT_EMPTY_PATH,
        false => 0,
    };
    // SAFETY: name_to_handle_at(2) reads a NUL-terminated path, writes a `struct file_handle` of at most
    // `length` bytes and the number of a mount; all of them outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_raw_fd(),
            name.as_ptr(),
            &raw mut raw,
            &raw mut mount,
            flags,
        )
    };
    if result != 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(Handle {
        kind: raw.kind,
        length: usize::try_from(raw.length).map_or(ROOM, |length| length.min(ROOM)),
        bytes: raw.bytes,
    })
}
