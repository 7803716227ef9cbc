//! statmount(2): what the kernel says of one mount, where the list of all of them may be long (Linux
//! 6.8, kernel `include/uapi/linux/mount.h`).

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::{Errno, Result};

// One number on every architecture (kernel `scripts/syscall.tbl`).
const STATMOUNT: libc::c_long = 457;

/// `NS_GET_MNTNS_ID` (kernel `include/uapi/linux/nsfs.h`).
const NAMESPACE_ID: libc::Ioctl = ((2 << 30) | (8 << 16) | (0xb7 << 8) | 5) as libc::Ioctl;

/// `struct mnt_id_req`, with a namespace in its second form.
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    wanted: u64,
    namespace: u64,
}

/// Bytes of the two forms of a request.
const SIZE_ALONE: u32 = 24;
const SIZE_WITH_NAMESPACE: u32 = 32;

/// Fields that can be asked for: `STATMOUNT_SB_BASIC`, `STATMOUNT_MNT_ROOT`, `STATMOUNT_MNT_POINT`,
/// `STATMOUNT_FS_TYPE`, `STATMOUNT_MNT_OPTS`.
const DEVICE: u64 = 0x1;
const ROOT: u64 = 0x8;
const POINT: u64 = 0x10;
const FS_TYPE: u64 = 0x20;
const OPTIONS: u64 = 0x80;

/// Bytes of `struct statmount` before its strings.
const FIXED: usize = 512;

/// Room for an answer: mostly the first is enough.
const ROOMS: [usize; 2] = [4 << 10, 64 << 10];

/// Where in `struct statmount` a field is, in words of 32 bits.
const OPTIONS_AT: usize = 1;
const TOLD_AT: usize = 2;
const DEVICE_AT: usize = 4;
const FS_TYPE_AT: usize = 9;
const ROOT_AT: usize = 26;
const POINT_AT: usize = 27;

/// Where a mount is, and what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Major and minor number of its file system.
    pub device: (u32, u32),
    /// The path within that file system that it shows.
    pub root: Vec<u8>,
    /// Where it is mounted, as this process sees it.
    pub point: Vec<u8>,
}

/// Returns where the mount with this number is: the one that is never used again
/// (`STATX_MNT_ID_UNIQUE`).
///
/// # Errors
/// `ENOSYS` before Linux 6.8; `ENOENT` when there is no such mount here; `EOVERFLOW` when its paths are
/// longer than 63 KiB.
pub fn place(mount: u64) -> Result<Place> {
    let answer = Answer::to(mount, None, DEVICE | ROOT | POINT)?;
    Ok(Place {
        device: answer.device()?,
        root: answer.text(ROOT_AT)?,
        point: answer.text(POINT_AT)?,
    })
}

/// What is mounted by a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Major and minor number of its file system.
    pub device: (u32, u32),
    /// The path within that file system that it shows.
    pub root: Vec<u8>,
    /// The type of the file system, without what a FUSE adds to it.
    pub fs_type: Vec<u8>,
    /// Options of the file system as mountinfo has them, but for `rw` or `ro` and those of every file system
    /// (`sync`, `lazytime`).
    pub options: Vec<u8>,
}

/// Returns what the mount with this number shows, in the mount namespace with this number.
///
/// # Errors
/// `ENOSYS` or `EINVAL` before Linux 6.11, and where the file system has no options; `ENOENT` when there is no
/// such mount there; `EPERM` without `CAP_SYS_ADMIN` over the namespace; `EOVERFLOW` when it is longer than 63
/// KiB.
pub fn shown(mount: u64, namespace: u64) -> Result<Shown> {
    let answer = Answer::to(mount, Some(namespace), DEVICE | ROOT | FS_TYPE | OPTIONS)?;
    Ok(Shown {
        device: answer.device()?,
        root: answer.text(ROOT_AT)?,
        fs_type: answer.text(FS_TYPE_AT)?,
        options: answer.text(OPTIONS_AT)?,
    })
}

/// Returns the number of a mount namespace, by a file that is one (`/proc/PID/ns/mnt`): no other one ever has
/// it.
///
/// # Errors
/// `ENOTTY` before Linux 6.11, and for any other file.
pub fn namespace(file: BorrowedFd<'_>) -> Result<u64> {
    let mut number = 0_u64;
    // SAFETY: the request writes 64 bits, or is refused.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), NAMESPACE_ID, &raw mut number) };
    match result {
        0 => Ok(number),
        _ => Err(last_error()),
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// A `struct statmount` with its strings.
struct Answer(Vec<u8>);

impl Answer {
    /// Asks about a mount; with a namespace, about one in there. Every field that is wanted is in the answer.
    fn to(mount: u64, namespace: Option<u64>, wanted: u64) -> Result<Self> {
        let request = Request {
            size: namespace.map_or(SIZE_ALONE, |_| SIZE_WITH_NAMESPACE),
            spare: 0,
            mount,
            wanted,
            namespace: namespace.unwrap_or_default(),
        };
        let mut result = Err(Errno::OVERFLOW);
        for room in ROOMS {
            result = Self::within(room, &request);
            if !matches!(result, Err(Errno::OVERFLOW)) {
                break;
            }
        }
        let answer = result?;
        let told = u64::from(answer.word(TOLD_AT)?) | u64::from(answer.word(TOLD_AT + 1)?) << 32;
        // Those of 64 bits lie as the machine has them.
        let told = match cfg!(target_endian = "big") {
            true => told.rotate_left(32),
            false => told,
        };
        match told & wanted == wanted {
            true => Ok(answer),
            false => Err(Errno::NOSYS),
        }
    }

    fn within(room: usize, request: &Request) -> Result<Self> {
        let mut answer = vec![0_u8; room];
        // SAFETY: statmount(2) reads a `struct mnt_id_req` of the size it names, and writes at most as many
        // bytes as it is told that the buffer has.
        let result = unsafe {
            libc::syscall(
                STATMOUNT,
                std::ptr::from_ref(request),
                answer.as_mut_ptr(),
                answer.len(),
                0,
            )
        };
        if result != 0 {
            return Err(last_error());
        }
        Ok(Self(answer))
    }

    fn word(&self, at: usize) -> Result<u32> {
        let bytes = self.0.get(4 * at..).and_then(|rest| rest.first_chunk());
        bytes.copied().map(u32::from_ne_bytes).ok_or(Errno::IO)
    }

    fn device(&self) -> Result<(u32, u32)> {
        Ok((self.word(DEVICE_AT)?, self.word(DEVICE_AT + 1)?))
    }

    /// Returns the string of which the place among the strings is told there.
    fn text(&self, at: usize) -> Result<Vec<u8>> {
        let from = usize::try_from(self.word(at)?).map_err(|_| Errno::IO)?;
        let strings = self.0.get(FIXED..).and_then(|strings| strings.get(from..));
        let strings = strings.ok_or(Errno::IO)?;
        let end = strings.iter().position(|b| *b == 0).ok_or(Errno::IO)?;
        Ok(strings.get(..end).unwrap_or_default().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn what_is_no_namespace_and_no_mount() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(namespace(file.as_fd()), Err(Errno::NOTTY));
        assert!(place(u64::MAX).is_err());
        assert!(shown(u64::MAX, u64::MAX).is_err());
    }
}
