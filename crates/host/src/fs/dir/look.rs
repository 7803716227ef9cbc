//! Looking through a directory without looking into it, and as another process sees it.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};
use rustix::io::{Errno, Result};

use super::{BENEATH, Dir, OPEN_DIR};
use crate::fs::{Stat, stat_fd};

/// A directory to look through, not into: opening it so raises no event and needs no right to read it.
const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// `STATX_MNT_ID_UNIQUE` of Linux 6.8: asks for a number of the mount that no other one ever has.
pub const MOUNT_FOR_EVER: StatxFlags = StatxFlags::from_bits_retain(0x4000);

impl Dir {
    /// Opens a directory to look through alone, following links: its own entries cannot be listed by it.
    /// Nobody who watches the directory can tell.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn look(path: &Path) -> Result<Self> {
        rustix::fs::open(path, LOOK.union(OFlags::DIRECTORY), Mode::empty()).map(Self::from)
    }

    /// Returns device, inode and mount of this directory as the kernel has them already: the file system is
    /// not asked, which may be one that a process in a container answers for, or does not.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn known_identity(&self) -> Result<Identity> {
        identity_at(&self.fd, "", AtFlags::EMPTY_PATH)
    }

    /// Returns the number of the mount that this directory is the root of, the one that is never used again:
    /// `None` where it is none, where something is mounted over it, or where the kernel does not tell (before
    /// Linux 6.8).
    #[must_use]
    pub fn mount_at_top(&self) -> Option<u64> {
        // As its own root, the directory above it is itself, or what is mounted over it. A file system that a
        // process answers for is not asked who may look through it: where the kernel does not know, nothing is.
        let resolve = ResolveFlags::IN_ROOT
            .union(ResolveFlags::NO_XDEV)
            .union(ResolveFlags::CACHED);
        let flags = LOOK.union(OFlags::DIRECTORY);
        let itself = rustix::fs::openat2(&self.fd, "..", flags, Mode::empty(), resolve).ok()?;
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = rustix::fs::statx(&itself, "", flags, MOUNT_FOR_EVER).ok()?;
        let is_told = stat.stx_mask & MOUNT_FOR_EVER.bits() != 0;
        let is_root = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        (is_told && is_root).then_some(stat.stx_mnt_id)
    }

    /// Whether a process, not the kernel, answers for the file system of this directory (FUSE). Asking that
    /// asks the process.
    ///
    /// # Errors
    /// Those of fstatfs(2).
    pub fn is_answered_by_a_process(&self) -> Result<bool> {
        /// `FUSE_SUPER_MAGIC`.
        const FUSE: u64 = 0x6573_5546;
        let kind = rustix::fs::fstatfs(&self.fd)?.f_type;
        Ok(u64::try_from(kind).is_ok_and(|kind| kind & 0xffff_ffff == FUSE))
    }

    /// Whether the file system of this directory is one of ext4, or of what was before it.
    pub(super) fn is_on_ext4(&self) -> bool {
        /// `EXT4_SUPER_MAGIC`.
        const EXT4: u64 = 0xef53;
        rustix::fs::fstatfs(&self.fd).is_ok_and(|of| u64::try_from(of.f_type) == Ok(EXT4))
    }

    /// Looks at anything beneath this directory, on the same mount.
    ///
    /// # Errors
    /// Those of openat2(2) and statx(2): `ELOOP` for a link in the path, `EXDEV` for a path that leads out
    /// or onto another mount.
    pub fn stat_beneath(&self, path: &[u8]) -> Result<Stat> {
        let resolve = BENEATH.union(ResolveFlags::NO_XDEV);
        let flags = LOOK.union(OFlags::NOFOLLOW);
        let path = OsStr::from_bytes(path);
        stat_fd(rustix::fs::openat2(
            &self.fd,
            path,
            flags,
            Mode::empty(),
            resolve,
        )?)
    }

    /// Returns when an entry of this directory was made, as seconds and nanoseconds; an empty `name` means
    /// this directory itself. `None` where the file system does not keep it, or there is no such entry.
    #[must_use]
    pub fn birth(&self, name: &[u8]) -> Option<(i64, u32)> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let name = OsStr::from_bytes(name);
        let stat = rustix::fs::statx(&self.fd, name, flags, StatxFlags::BTIME).ok()?;
        let known = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        known.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec))
    }

    /// Returns the id of the file system that this directory is on (`f_fsid` of fstatfs(2)).
    ///
    /// # Errors
    /// Those of fstatfs(2).
    pub fn file_system_id(&self) -> Result<u64> {
        Ok(rustix::fs::fstatvfs(&self.fd)?.f_fsid)
    }

    /// Opens a directory by a path as a process sees it that has this directory as its root, following
    /// links as it would.
    ///
    /// # Errors
    /// Those of openat2(2).
    pub fn open_as_root(&self, path: &[u8]) -> Result<Self> {
        rustix::fs::openat2(
            &self.fd,
            OsStr::from_bytes(path),
            OPEN_DIR.difference(OFlags::NOFOLLOW),
            Mode::empty(),
            ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS),
        )
        .map(Self::from)
    }
}

/// Which directory of which mount something is: two roots with the same one show the same tree. The inode is
/// 0 where the kernel does not tell it: then any two directories of one mount are taken for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    device: (u32, u32),
    inode: u64,
    /// The number of the mount.
    pub mount: u64,
}

impl Identity {
    /// Whether both are the same directory, through whichever mounts.
    #[must_use]
    pub fn is_directory_of(self, other: Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// Returns what the kernel knows of a directory at a path, links followed.
///
/// # Errors
/// Those of statx(2).
pub fn known_identity(path: &Path) -> Result<Identity> {
    identity_at(rustix::fs::CWD, path, AtFlags::empty())
}

fn identity_at(
    dir: impl AsFd,
    path: impl rustix::path::Arg + Copy,
    flags: AtFlags,
) -> Result<Identity> {
    let flags = flags | AtFlags::STATX_DONT_SYNC;
    let look = |mask| rustix::fs::statx(&dir, path, flags, mask);
    let (stat, inode) = match look(StatxFlags::INO | StatxFlags::MNT_ID) {
        // Of a user's file system in a program the kernel tells others where it is, and that when nothing is
        // asked (`fuse_getattr` in `fs/fuse/dir.c`).
        Err(Errno::ACCESS) => (look(StatxFlags::empty())?, 0),
        stat => stat.map(|stat| (stat, stat.stx_ino))?,
    };
    Ok(Identity {
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        inode,
        mount: stat.stx_mnt_id,
    })
}
