//! ioctls of Btrfs (kernel `include/uapi/linux/btrfs.h`).

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::{Errno, Result};
use zerocopy::{FromBytes, IntoBytes};

// The type of a request differs between C libraries; its 32 bits do not.
const fn read_write(number: u32, size: u32) -> libc::Ioctl {
    ((3 << 30) | (size << 16) | (0x94 << 8) | number) as libc::Ioctl
}

const fn read(number: u32, size: u32) -> libc::Ioctl {
    ((2 << 30) | (size << 16) | (0x94 << 8) | number) as libc::Ioctl
}

const fn write(number: u32, size: u32) -> libc::Ioctl {
    ((1 << 30) | (size << 16) | (0x94 << 8) | number) as libc::Ioctl
}

/// The size encoded is that of `struct btrfs_ioctl_search_args_v2` without its buffer.
const TREE_SEARCH_V2: libc::Ioctl = read_write(17, 112);
const INO_LOOKUP: libc::Ioctl = read_write(18, 4096);
const DEV_INFO: libc::Ioctl = read_write(30, 4096);
const FS_INFO: libc::Ioctl = read(31, 1024);
const SNAP_CREATE_V2: libc::Ioctl = write(23, 4096);
const SNAP_DESTROY: libc::Ioctl = write(15, 4096);

/// Which items a search returns: those with `min` <= key <= `max`, where a key is (objectid, type,
/// offset), in leaves that were written in transaction `min_transid` or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchKey {
    /// The tree.
    pub tree_id: u64,
    /// Lowest key.
    pub min: (u64, u8, u64),
    /// Highest key.
    pub max: (u64, u8, u64),
    /// Lowest transaction.
    pub min_transid: u64,
    /// Items wanted at most.
    pub max_items: u32,
}

/// Words of the argument before the buffer: the key's 13 and the size of the buffer.
const HEADER_WORDS: usize = 14;

/// The memory of buffers that were let go of, for the next ones: fresh memory would be filled with zeros each
/// time. Not one for each thread: what ends with a thread is noted in memory of the C library's, which a check
/// needs for nothing else.
static SPARE: Mutex<Vec<Vec<u64>>> = Mutex::new(Vec::new());

/// Most buffers that are kept: about as many threads have one at a time.
const SPARE_MAX: usize = 8;

fn spare() -> MutexGuard<'static, Vec<Vec<u64>>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The argument of a search, with its buffer, to be used again and again.
#[derive(Debug)]
pub struct SearchBuffer {
    words: Vec<u64>,
}

impl Default for SearchBuffer {
    fn default() -> Self {
        Self {
            words: spare().pop().unwrap_or_default(),
        }
    }
}

impl Drop for SearchBuffer {
    fn drop(&mut self) {
        let mut spare = spare();
        if spare.len() < SPARE_MAX {
            spare.push(std::mem::take(&mut self.words));
        }
    }
}

impl SearchBuffer {
    /// Searches a tree of the file system that `fd` is on, whichever subvolume `fd` itself is in, with
    /// room for `space` bytes of items and their headers, and returns how many items were found.
    /// [`SearchBuffer::items`] has them, in the order of their keys; none found means that there are no
    /// more. The kernel touches all of the room, so what is not needed costs as well.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`, `ENOENT` when there is no such tree, `ENOTTY` when this is not
    /// Btrfs, `EOVERFLOW` when not even one item fits.
    pub fn search(&mut self, fd: BorrowedFd<'_>, key: &SearchKey, space: usize) -> Result<u32> {
        let words = space / 8;
        if self.words.len() < HEADER_WORDS + words {
            self.words.resize(HEADER_WORDS + words, 0);
        }
        let space = words * 8;
        let types = u64::from(key.min.1) | u64::from(key.max.1) << 32;
        let header = [
            key.tree_id,
            key.min.0,
            key.max.0,
            key.min.2,
            key.max.2,
            key.min_transid,
            u64::MAX,
            types,
            u64::from(key.max_items),
            0,
            0,
            0,
            0,
            space as u64,
        ];
        self.words[..HEADER_WORDS].copy_from_slice(&header);
        // SAFETY: the kernel reads and writes a `struct btrfs_ioctl_search_args_v2`, whose `buf_size`
        // says how many bytes follow it; the vector has at least as many, and lives on.
        let result =
            unsafe { libc::ioctl(fd.as_raw_fd(), TREE_SEARCH_V2, self.words.as_mut_ptr()) };
        check(result)?;
        Ok(u32::try_from(self.words[8] & u64::from(u32::MAX)).unwrap_or(0))
    }

    /// Returns the bytes of the items last found, and whatever lay in the buffer after them: a header
    /// (`struct btrfs_ioctl_search_header`) before each item.
    #[must_use]
    pub fn items(&self) -> &[u8] {
        self.words[HEADER_WORDS..].as_bytes()
    }
}

/// Returns the id of the tree (the subvolume) that a directory is in.
///
/// # Errors
/// `ENOTTY` when this is not Btrfs.
pub fn tree_of(fd: BorrowedFd<'_>) -> Result<u64> {
    const FIRST_FREE_OBJECTID: u64 = 256;
    let mut argument = [0u64; 512];
    argument[1] = FIRST_FREE_OBJECTID;
    // SAFETY: the kernel reads and writes a `struct btrfs_ioctl_ino_lookup_args` of 4096 bytes.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), INO_LOOKUP, argument.as_mut_ptr()) };
    check(result)?;
    Ok(argument[0])
}

/// One block device of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// What its superblock calls it.
    pub uuid: [u8; 16],
    /// Its path as the kernel was told it, without the NUL; empty while the device is missing.
    pub path: Vec<u8>,
}

/// Returns what the file system knows of the block device with this number within it.
///
/// # Errors
/// `ENODEV` when there is none.
pub fn device_info(fd: BorrowedFd<'_>, device: u64) -> Result<DeviceInfo> {
    const UUID_AT: usize = 8;
    const PATH_AT: usize = 3072;
    let mut argument = [0u64; 512];
    argument[0] = device;
    // SAFETY: the kernel reads and writes a `struct btrfs_ioctl_dev_info_args` of 4096 bytes.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), DEV_INFO, argument.as_mut_ptr()) };
    check(result)?;
    let bytes = argument.as_bytes();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&bytes[UUID_AT..UUID_AT + 16]);
    let path = bytes[PATH_AT..].iter().copied().take_while(|b| *b != 0);
    Ok(DeviceInfo {
        uuid,
        path: path.collect(),
    })
}

/// What a file system says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsInfo {
    /// What tells it from every other file system.
    pub id: [u8; 16],
    /// Bytes of one block of a tree.
    pub node_size: u32,
    /// Bytes that one checksum covers.
    pub sector_size: u32,
    /// Checksum algorithm: 0 CRC-32C, 1 xxHash64, 2 SHA-256, 3 BLAKE2b.
    pub checksum_type: u16,
    /// Bytes of one checksum.
    pub checksum_size: u16,
}

/// Returns sizes and checksum algorithm of the file system.
///
/// # Errors
/// `ENOTTY` when this is not Btrfs.
pub fn fs_info(fd: BorrowedFd<'_>) -> Result<FsInfo> {
    const FLAG_CSUM_INFO: u64 = 1;
    let mut argument = [0u64; 128];
    // max_id, num_devices, fsid[16], nodesize+sectorsize, clone_alignment+csum_type+csum_size, flags
    argument[6] = FLAG_CSUM_INFO;
    // SAFETY: the kernel reads and writes a `struct btrfs_ioctl_fs_info_args` of 1024 bytes.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), FS_INFO, argument.as_mut_ptr()) };
    check(result)?;
    let bytes = argument.as_bytes();
    let half = |at: usize| u16::read_from_bytes(&bytes[at..at + 2]).unwrap_or(0);
    let word = |at: usize| u32::read_from_bytes(&bytes[at..at + 4]).unwrap_or(0);
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[16..32]);
    Ok(FsInfo {
        id,
        node_size: word(32),
        sector_size: word(36),
        checksum_type: half(44),
        checksum_size: half(46),
    })
}

/// Makes a read-only snapshot of a subvolume as the entry `name` of a directory. This writes.
///
/// # Errors
/// Those of the ioctl; `ENAMETOOLONG` for a name of more than 255 bytes.
pub fn snapshot_read_only(
    parent: BorrowedFd<'_>,
    name: &[u8],
    subvolume: BorrowedFd<'_>,
) -> Result<()> {
    const FLAG_READ_ONLY: u64 = 1 << 1;
    const NAME_AT: usize = 56;
    let mut argument = [0u64; 512];
    argument[0] = u64::try_from(subvolume.as_raw_fd()).map_err(|_| Errno::BADF)?;
    argument[2] = FLAG_READ_ONLY;
    put_name(&mut argument, NAME_AT, name)?;
    // SAFETY: the kernel reads a `struct btrfs_ioctl_vol_args_v2` of 4096 bytes.
    check(unsafe { libc::ioctl(parent.as_raw_fd(), SNAP_CREATE_V2, argument.as_ptr()) })
}

/// Deletes the subvolume that is the entry `name` of a directory. This writes.
///
/// # Errors
/// Those of the ioctl; `ENAMETOOLONG` for a name of more than 255 bytes.
pub fn delete_subvolume(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    const NAME_AT: usize = 8;
    let mut argument = [0u64; 512];
    put_name(&mut argument, NAME_AT, name)?;
    // SAFETY: the kernel reads a `struct btrfs_ioctl_vol_args` of 4096 bytes.
    check(unsafe { libc::ioctl(parent.as_raw_fd(), SNAP_DESTROY, argument.as_ptr()) })
}

fn put_name(argument: &mut [u64; 512], at: usize, name: &[u8]) -> Result<()> {
    if name.len() > 255 {
        return Err(Errno::NAMETOOLONG);
    }
    argument.as_mut_bytes()[at..at + name.len()].copy_from_slice(name);
    Ok(())
}

fn check(result: libc::c_int) -> Result<()> {
    if result >= 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}
