//! Extended attributes of an entry of a directory, by the directory's handle (kernel
//! `fs/xattr.c`, Linux 6.13): the older calls take a path alone.

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::{Errno, Result};

/// `struct xattr_args` (kernel `include/uapi/linux/xattr.h`).
#[repr(C)]
struct Arguments {
    value: u64,
    size: u32,
    flags: u32,
}

// One number on every architecture (kernel `scripts/syscall.tbl`).
const GETXATTRAT: libc::c_long = 464;
const LISTXATTRAT: libc::c_long = 465;

/// Lists the names of the attributes of an entry, a link itself not followed, and returns their length
/// in bytes.
///
/// # Errors
/// Those of llistxattr(2); `ENOSYS` before Linux 6.13.
pub fn list_at(dir: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: listxattrat(2) reads a NUL-terminated path and writes at most `len` bytes to the buffer;
    // both outlive the call.
    let length = unsafe {
        libc::syscall(
            LISTXATTRAT,
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    };
    check(length, buffer.len())
}

/// Reads the value of an attribute of an entry, a link itself not followed, and returns its length in
/// bytes.
///
/// # Errors
/// Those of lgetxattr(2); `ENOSYS` before Linux 6.13.
pub fn get_at(
    dir: BorrowedFd<'_>,
    name: &CStr,
    attribute: &CStr,
    buffer: &mut [u8],
) -> Result<usize> {
    let arguments = Arguments {
        value: buffer.as_mut_ptr() as u64,
        size: u32::try_from(buffer.len()).unwrap_or(u32::MAX),
        flags: 0,
    };
    // SAFETY: getxattrat(2) reads two NUL-terminated strings and a `struct xattr_args` of the length
    // given, and writes at most `size` bytes to `value`; all of them outlive the call.
    let length = unsafe {
        libc::syscall(
            GETXATTRAT,
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            attribute.as_ptr(),
            &raw const arguments,
            size_of::<Arguments>(),
        )
    };
    check(length, buffer.len())
}

/// Takes what a call returned for a length, which is never more than there is room for.
fn check(length: libc::c_long, room: usize) -> Result<usize> {
    match usize::try_from(length) {
        Ok(length) => Ok(length.min(room)),
        Err(_) => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}
