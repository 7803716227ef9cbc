//! statmount(2): what the kernel says of one mount, where the list of all of them may be long (Linux
//! 6.8, kernel `include/uapi/linux/mount.h`).

use rustix::io::{Errno, Result};

// One number on every architecture (kernel `scripts/syscall.tbl`).
const STATMOUNT: libc::c_long = 457;

/// `struct mnt_id_req`, in its first form.
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    wanted: u64,
}

/// Fields that are asked for (`STATMOUNT_SB_BASIC`, `STATMOUNT_MNT_ROOT`, `STATMOUNT_MNT_POINT`).
const WANTED: u64 = 0x1 | 0x8 | 0x10;

/// Words of `struct statmount` before its strings, and of the room for those.
const FIXED_WORDS: usize = 64;
const STRING_WORDS: usize = 1024;

/// Where in `struct statmount` a field is, in words of 32 bits.
const DEVICE_AT: usize = 4;
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
/// longer than 8 KiB.
pub fn place(mount: u64) -> Result<Place> {
    let request = Request {
        size: 24,
        spare: 0,
        mount,
        wanted: WANTED,
    };
    let mut answer = [0u64; FIXED_WORDS + STRING_WORDS];
    // SAFETY: statmount(2) reads a `struct mnt_id_req` of the size it names, and writes at most as many
    // bytes as it is told that the buffer has.
    let result = unsafe {
        libc::syscall(
            STATMOUNT,
            &raw const request,
            answer.as_mut_ptr(),
            size_of_val(&answer),
            0,
        )
    };
    if result != 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    let words: Vec<u32> = answer
        .iter()
        .take(FIXED_WORDS)
        .flat_map(|word| {
            let bytes = word.to_ne_bytes();
            let (low, high) = bytes.split_at(4);
            [low, high].map(|half| u32::from_ne_bytes(half.try_into().unwrap_or_default()))
        })
        .collect();
    let strings = zerocopy::IntoBytes::as_bytes(&answer[FIXED_WORDS..]);
    let word = |at: usize| words.get(at).copied().ok_or(Errno::IO);
    let string = |at: usize| -> Result<Vec<u8>> {
        let from = usize::try_from(word(at)?).map_err(|_| Errno::IO)?;
        let rest = strings.get(from..).ok_or(Errno::IO)?;
        let end = rest.iter().position(|b| *b == 0).ok_or(Errno::IO)?;
        Ok(rest.get(..end).unwrap_or_default().to_vec())
    };
    Ok(Place {
        device: (word(DEVICE_AT)?, word(DEVICE_AT + 1)?),
        root: string(ROOT_AT)?,
        point: string(POINT_AT)?,
    })
}
