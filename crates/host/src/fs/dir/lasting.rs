//! What a file system keeps of an entry that no process can put back once it was touched.

use std::ffi::{CString, OsStr};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

use plimsoll_core::model::Timestamp;
use plimsoll_syscall::handle;
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, StatxTimestamp};
use rustix::io::{Errno, Result};

use super::Dir;

/// What a file system keeps of an entry: what it is, its identity, and when it was last touched.
#[derive(Debug, Clone)]
pub struct Lasting {
    /// All of it in bytes, of one length for each kind of handle: equal bytes are an entry that nothing
    /// was done to but reading, so long as the clock was not set back.
    pub bytes: Vec<u8>,
    /// Time of the last change of the inode.
    pub ctime: Timestamp,
    /// Device number of the file system that holds it.
    pub dev: (u32, u32),
    /// File type and mode.
    pub mode: u16,
    /// Whether reads of it are held to a digest by fs-verity.
    pub has_verity: bool,
}

impl Dir {
    /// Returns what the file system keeps of an entry of this directory, without following a link or
    /// opening anything. An empty `name` means this directory itself.
    ///
    /// The change time moves with each change of content, attributes, extended attributes and names
    /// (`file_update_time`, `setattr_copy` and their kin in the kernel's `fs/inode.c` and `fs/attr.c`), and
    /// no call sets it. The handle tells an inode apart that took another's number.
    ///
    /// # Errors
    /// Those of statx(2) and name_to_handle_at(2): `EOPNOTSUPP` where the file system has no handles.
    pub fn lasting(&self, name: &[u8]) -> Result<Lasting> {
        debug_assert!(!name.contains(&b'/'));
        let flags = match name {
            b"" => AtFlags::EMPTY_PATH,
            _ => AtFlags::SYMLINK_NOFOLLOW,
        };
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let raw = rustix::fs::statx(&self.fd, OsStr::from_bytes(name), flags, wanted)?;
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        let handle = handle::at(self.fd.as_fd(), &name)?;
        let mut bytes = Vec::with_capacity(192);
        bytes.extend_from_slice(&raw.stx_mode.to_le_bytes());
        for number in [
            raw.stx_nlink,
            raw.stx_uid,
            raw.stx_gid,
            raw.stx_rdev_major,
            raw.stx_rdev_minor,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [raw.stx_ino, raw.stx_size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let time = |time: StatxTimestamp| (time.tv_sec, time.tv_nsec);
        let born = match raw.stx_mask & StatxFlags::BTIME.bits() {
            0 => (0, 0),
            _ => time(raw.stx_btime),
        };
        for (seconds, nanoseconds) in [time(raw.stx_mtime), time(raw.stx_ctime), born] {
            bytes.extend_from_slice(&seconds.to_le_bytes());
            bytes.extend_from_slice(&nanoseconds.to_le_bytes());
        }
        let flags = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND | StatxAttributes::VERITY;
        let set = raw.stx_attributes & flags;
        bytes.extend_from_slice(&set.bits().to_le_bytes());
        bytes.extend_from_slice(&handle.kind().to_le_bytes());
        bytes.extend_from_slice(handle.bytes());
        Ok(Lasting {
            bytes,
            ctime: Timestamp {
                seconds: raw.stx_ctime.tv_sec,
                nanoseconds: raw.stx_ctime.tv_nsec,
            },
            dev: (raw.stx_dev_major, raw.stx_dev_minor),
            mode: raw.stx_mode,
            has_verity: set.contains(StatxAttributes::VERITY),
        })
    }
}
