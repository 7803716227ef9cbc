//! What statx tells about one object.

use plimsoll_core::model::{Attributes, Bytes, Device, FileType, Timestamp};
use rustix::fs::{Statx, StatxAttributes, StatxFlags, StatxTimestamp};

/// What statx tells about one object, without following a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// File type.
    pub file_type: FileType,
    /// Permission bits, the lower 12 of `st_mode`.
    pub mode: u16,
    /// Numeric user id, as on disk.
    pub uid: u32,
    /// Numeric group id, as on disk.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Timestamp,
    /// Time of the last change of the inode; no process can set it.
    pub ctime: Timestamp,
    /// Number of names.
    pub links: u32,
    /// Numbers of a device node.
    pub device: Option<Device>,
    /// Inode number.
    pub ino: u64,
    /// Device number of the file system that holds it.
    pub dev: (u32, u32),
    /// The inode flag *immutable*.
    pub immutable: bool,
    /// The inode flag *append-only*.
    pub append_only: bool,
}

impl Stat {
    /// The fields asked of the kernel.
    pub(super) const MASK: StatxFlags = StatxFlags::BASIC_STATS;

    /// Decodes the kernel's answer; `None` for a file type that Linux does not have.
    pub(super) fn decode(raw: &Statx) -> Option<Self> {
        let file_type = FileType::from_mode(u32::from(raw.stx_mode))?;
        let device =
            matches!(file_type, FileType::CharDevice | FileType::BlockDevice).then_some(Device {
                major: raw.stx_rdev_major,
                minor: raw.stx_rdev_minor,
            });
        Some(Self {
            file_type,
            mode: raw.stx_mode & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            size: raw.stx_size,
            mtime: time(raw.stx_mtime),
            ctime: time(raw.stx_ctime),
            links: raw.stx_nlink,
            device,
            ino: raw.stx_ino,
            dev: (raw.stx_dev_major, raw.stx_dev_minor),
            immutable: raw.stx_attributes.contains(StatxAttributes::IMMUTABLE),
            append_only: raw.stx_attributes.contains(StatxAttributes::APPEND),
        })
    }

    /// Whether it is the character device 0:0, the first form of an overlay whiteout.
    #[must_use]
    pub fn is_whiteout_device(&self) -> bool {
        self.file_type == FileType::CharDevice && self.device == Some(Device { major: 0, minor: 0 })
    }

    /// Returns what the model keeps of it. `target` is a symbolic link's.
    #[must_use]
    pub fn attributes(&self, target: Option<Bytes>) -> Attributes {
        let sized = matches!(self.file_type, FileType::File | FileType::Symlink);
        Attributes {
            file_type: self.file_type,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            size: if sized { self.size } else { 0 },
            mtime: self.mtime,
            links: self.links,
            device: self.device,
            target,
            immutable: self.immutable,
            append_only: self.append_only,
        }
    }
}

fn time(raw: StatxTimestamp) -> Timestamp {
    Timestamp {
        seconds: raw.tv_sec,
        nanoseconds: raw.tv_nsec,
    }
}
