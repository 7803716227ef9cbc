//! What the kernel tells of a process by a descriptor of it, without `/proc` (kernel
//! `include/uapi/linux/pidfd.h`, Linux 6.11).

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::{Errno, Result};

/// `PIDFD_GET_USER_NAMESPACE`.
const USER_NAMESPACE: libc::Ioctl = ((0xff << 8) | 9) as libc::Ioctl;

/// Returns the user namespace that a process is in.
///
/// # Errors
/// `ENOTTY` or `EINVAL` before Linux 6.11; `EACCES` when the process may not be looked at.
pub fn user_namespace(process: BorrowedFd<'_>) -> Result<OwnedFd> {
    // SAFETY: the request takes no argument, and reads and writes nothing.
    let result = unsafe { libc::ioctl(process.as_raw_fd(), USER_NAMESPACE, 0) };
    if result < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    // SAFETY: it is a new descriptor, which nobody else knows of; the kernel opens it to be closed on execve.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    use super::*;

    #[test]
    fn of_this_process() {
        let process = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let listed = rustix::fs::stat("/proc/self/ns/user").unwrap();
        match user_namespace(process.as_fd()) {
            Ok(namespace) => {
                assert_eq!(rustix::fs::fstat(namespace).unwrap().st_ino, listed.st_ino);
            }
            // An older kernel.
            Err(errno) => assert!(matches!(errno, Errno::NOTTY | Errno::INVAL), "{errno}"),
        }
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(user_namespace(file.as_fd()).is_err());
    }
}
