//! Whether anybody has a file open for writing, by the one call that tells: fcntl(2) `F_SETLEASE`.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::{Errno, Result};

/// `F_SETSIG` (kernel `include/uapi/asm-generic/fcntl.h`; one number on every architecture here).
const SET_SIGNAL: libc::c_int = 10;

/// Whether anybody has this file open for writing, or mapped so that stores reach it. `file` is open for
/// reading alone.
///
/// A lease for reading is granted only while there is nobody (`check_conflicting_open` in the kernel's
/// `fs/locks.c`), and is given back at once. Who opens the file for writing just then waits that long, and
/// the signal that says so is one that does nothing here.
///
/// # Errors
/// `EACCES` for a file of somebody else without `CAP_LEASE`; `EINVAL` on a file system without leases.
pub fn has_writer(file: BorrowedFd<'_>) -> Result<bool> {
    // SAFETY: these commands of fcntl(2) take an integer and touch no memory of this process.
    let control = |command: libc::c_int, argument: libc::c_int| match unsafe {
        libc::fcntl(file.as_raw_fd(), command, argument)
    } {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        _ => Ok(()),
    };
    control(SET_SIGNAL, libc::SIGURG)?;
    match control(libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => control(libc::F_SETLEASE, libc::F_UNLCK).map(|()| false),
        Err(Errno::AGAIN) => Ok(true),
        Err(errno) => Err(errno),
    }
}
