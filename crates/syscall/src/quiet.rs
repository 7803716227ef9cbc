//! A view of a directory through which reading leaves no access time behind.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::mount::{OpenTreeFlags, open_tree};

/// Returns the directory again, through a private copy of its mount that is attached nowhere and has
/// `noatime` set.
///
/// `O_NOATIME` covers what is read through an open file; reading a symbolic link opens nothing, and
/// moves the link's access time unless its mount says otherwise (`atime_needs_update` in the kernel's
/// `fs/inode.c`). The copy is in no mount namespace, so no list of mounts shows it, and it goes with
/// the descriptor.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`; `ENOSYS` before Linux 5.12.
pub fn noatime(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(dir, "", flags)?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOATIME,
        attr_clr: libc::MOUNT_ATTR__ATIME,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: mount_setattr(2) reads a NUL-terminated path and `size` bytes of a `struct mount_attr`;
    // both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(tree)
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}
