//! A directory handle, and everything that is reached through one.

mod lasting;
mod list;
mod look;

pub use self::lasting::Lasting;
pub use self::list::DirReader;
pub use self::look::{Identity, MOUNT_FOR_EVER, known_identity};

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use plimsoll_core::model::FileType;
use plimsoll_syscall::xattr;
use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, StatVfsMountFlags, StatxFlags, StatxTimestamp,
};
use rustix::io::{Errno, Result};

use super::{LINK_LIMIT, Owners, Stat, XATTR_LIMIT, erofs};

const OPEN_DIR: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOATIME)
    .union(OFlags::CLOEXEC);

/// No component may be a link, and none may lead out of the directory.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// An open directory.
///
/// It is opened with `O_NOATIME`, which needs ownership or `CAP_FOWNER`: where that is missing,
/// opening fails, because a check leaves no access time behind.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// The same directory as links are read through, once one was.
    quiet: OnceLock<OwnedFd>,
    /// Options of its mount, once they mattered.
    mount_flags: OnceLock<StatVfsMountFlags>,
    /// Whether it was reached through a view of the mount that keeps no access times.
    in_view: bool,
    /// Whether the last entry of a listing says that it is the last: so it is on ext4.
    tells_end: bool,
    /// The map that owners are seen through, where there is one.
    owners: Option<Arc<Owners>>,
    /// Whether entries were read from it; held by who reads them, since the position is the handle's own.
    was_read: Mutex<bool>,
    /// The directory itself where it is one of an EROFS image: the handle is then that of the image,
    /// with which the kernel reaches nothing.
    image: Option<Box<erofs::Directory>>,
}

impl Dir {
    /// Opens a directory by a path that the operator gave, following links in it.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> Result<Self> {
        rustix::fs::open(path, OPEN_DIR.difference(OFlags::NOFOLLOW), Mode::empty()).map(Self::from)
    }

    /// Opens the root directory of the EROFS image in a file. Of it and of what is reached through it can
    /// be told what is there, and regular files can be opened; everything else fails.
    ///
    /// # Errors
    /// Those of reading it; `InvalidData` when it is no image, or has features that are not known.
    pub fn of_image(file: OwnedFd) -> std::io::Result<Self> {
        let root = erofs::Directory::root(file.try_clone()?)?;
        Ok(Self {
            image: Some(Box::new(root)),
            ..Self::from(file)
        })
    }

    /// Returns a directory of the same image as this one.
    fn in_image(&self, directory: erofs::Directory) -> Result<Self> {
        let file = rustix::io::fcntl_dupfd_cloexec(&self.fd, 0)?;
        Ok(Self {
            image: Some(Box::new(directory)),
            ..self.beneath(file)
        })
    }

    /// Whether it is a directory of an EROFS image.
    #[must_use]
    pub fn is_of_image(&self) -> bool {
        self.image.is_some()
    }

    /// Returns the directory of an EROFS image that this one is.
    pub(super) fn image(&self) -> Option<&erofs::Directory> {
        self.image.as_deref()
    }

    /// Opens a directory some levels beneath this one; `.` is this one again.
    ///
    /// # Errors
    /// Those of openat2(2): `ELOOP` for a link in the path, `EXDEV` for a path that leads out.
    pub fn open_beneath(&self, path: &[u8]) -> Result<Self> {
        if let Some(image) = &self.image {
            return self.in_image(image.beneath(path)?);
        }
        rustix::fs::openat2(
            &self.fd,
            OsStr::from_bytes(path),
            OPEN_DIR,
            Mode::empty(),
            BENEATH,
        )
        .map(|fd| self.beneath(fd))
    }

    /// Returns a directory that was reached through this one.
    fn beneath(&self, fd: OwnedFd) -> Self {
        Self {
            in_view: self.in_view,
            tells_end: self.tells_end,
            owners: self.owners.clone(),
            ..Self::from(fd)
        }
    }

    /// Returns this directory with the owners of all that is reached through it as an id-mapped mount
    /// would show them.
    #[must_use]
    pub fn with_owners(self, owners: Arc<Owners>) -> Self {
        Self {
            owners: Some(owners),
            ..self
        }
    }

    /// Returns the map that owners are seen through, where there is one.
    #[must_use]
    pub fn owners(&self) -> Option<&Arc<Owners>> {
        self.owners.as_ref()
    }

    /// Returns what an object reached through this directory is, as it is seen here.
    pub(super) fn seen(&self, stat: Stat) -> Stat {
        match &self.owners {
            Some(owners) => owners.shown(stat),
            None => stat,
        }
    }

    /// Opens a directory that is an entry of this one.
    ///
    /// # Errors
    /// Those of openat(2): `ENOTDIR` or `ELOOP` when it is none.
    pub fn child(&self, name: &[u8]) -> Result<Self> {
        debug_assert!(!name.contains(&b'/'));
        if let Some(image) = &self.image {
            return self.in_image(image.child(name)?);
        }
        rustix::fs::openat(&self.fd, OsStr::from_bytes(name), OPEN_DIR, Mode::empty())
            .map(|fd| self.beneath(fd))
    }

    /// Returns what this directory is.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn stat_self(&self) -> Result<Stat> {
        if let Some(image) = &self.image {
            return image.stat(b"").map(|stat| self.seen(stat));
        }
        super::stat_fd(&self.fd).map(|stat| self.seen(stat))
    }

    /// Returns what an entry of this directory is, without following a link.
    ///
    /// # Errors
    /// Those of statx(2): `ENOENT` when there is none.
    pub fn stat(&self, name: &[u8]) -> Result<Stat> {
        debug_assert!(!name.contains(&b'/'));
        if let Some(image) = &self.image {
            return image.stat(name).map(|stat| self.seen(stat));
        }
        let raw = rustix::fs::statx(
            &self.fd,
            OsStr::from_bytes(name),
            AtFlags::SYMLINK_NOFOLLOW,
            Stat::MASK,
        )?;
        Stat::decode(&raw)
            .map(|stat| self.seen(stat))
            .ok_or(Errno::IO)
    }

    /// Returns the target of a symbolic link that is an entry of this directory.
    ///
    /// # Errors
    /// Those of readlinkat(2); `ENAMETOOLONG` beyond [`LINK_LIMIT`]; `EPERM` without the privilege to
    /// read a link without moving its access time.
    pub fn read_link(&self, name: &[u8]) -> Result<Vec<u8>> {
        if let Some(image) = &self.image {
            return image.read_link(name);
        }
        let through = match self.rests(name)? {
            true => self.fd.as_fd(),
            false => self.quiet()?,
        };
        let name = OsStr::from_bytes(name);
        let target = rustix::fs::readlinkat(through, name, Vec::new())?;
        if target.as_bytes().len() > LINK_LIMIT {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(target.into_bytes())
    }

    /// Whether the access time of a link in this directory stays where it is when the link is read: on
    /// a mount that keeps none; and on one with `relatime`, when it is later than both other times and
    /// less than a day old (`relatime_need_update` in the kernel's `fs/inode.c`), an hour of which is
    /// left out here.
    fn rests(&self, link: &[u8]) -> Result<bool> {
        const FRESH: i64 = 23 * 60 * 60;
        if self.in_view {
            return Ok(true);
        }
        let mount = self.mount_flags()?;
        if keeps_no_access_time(mount) || !mount.contains(StatVfsMountFlags::RELATIME) {
            return Ok(keeps_no_access_time(mount));
        }
        let stat = rustix::fs::statx(
            &self.fd,
            OsStr::from_bytes(link),
            AtFlags::SYMLINK_NOFOLLOW,
            StatxFlags::ATIME | StatxFlags::MTIME | StatxFlags::CTIME,
        )?;
        let time = |time: StatxTimestamp| (time.tv_sec, time.tv_nsec);
        let read = time(stat.stx_atime);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(0));
        Ok(read > time(stat.stx_mtime)
            && read > time(stat.stx_ctime)
            && (0..FRESH).contains(&(now - read.0)))
    }

    fn mount_flags(&self) -> Result<StatVfsMountFlags> {
        if let Some(flags) = self.mount_flags.get() {
            return Ok(*flags);
        }
        let flags = rustix::fs::fstatvfs(&self.fd)?.f_flag;
        Ok(*self.mount_flags.get_or_init(|| flags))
    }

    /// Returns this directory in a view of its own of its mount, in which reading moves no access time;
    /// `None` where the mount keeps none anyway. Everything beneath is reached through the same view,
    /// but for what is mounted there.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`; `ENOSYS` before Linux 5.12.
    pub fn view(&self) -> Result<Option<Self>> {
        if keeps_no_access_time(self.mount_flags()?) {
            return Ok(None);
        }
        let view = Self::from(plimsoll_syscall::quiet::noatime(self.fd.as_fd())?);
        // The descriptor that comes with the view is one to look things up by alone.
        // Nothing is mounted in a view, so that it goes for all that is reached through it.
        Ok(Some(Self {
            in_view: true,
            tells_end: view.is_on_ext4(),
            owners: self.owners.clone(),
            ..view.open_beneath(b".")?
        }))
    }

    /// Returns this directory by a way on which reading a link leaves no access time behind.
    fn quiet(&self) -> Result<BorrowedFd<'_>> {
        if let Some(quiet) = self.quiet.get() {
            return Ok(quiet.as_fd());
        }
        let quiet = plimsoll_syscall::quiet::noatime(self.fd.as_fd())?;
        Ok(self.quiet.get_or_init(|| quiet).as_fd())
    }

    /// Reads a small regular file beneath this directory.
    ///
    /// # Errors
    /// Those of opening and reading; `InvalidData` when it is longer than `limit` bytes or is not a
    /// regular file.
    pub fn read_file(&self, path: &[u8], limit: usize) -> std::io::Result<Vec<u8>> {
        let (bytes, _) = self.read_file_of(path, limit)?;
        Ok(bytes)
    }

    /// The same, with what the file is, for [`Dir::is_still`].
    ///
    /// # Errors
    /// Those of [`Dir::read_file`].
    pub fn read_file_of(&self, path: &[u8], limit: usize) -> std::io::Result<(Vec<u8>, Stat)> {
        let (fd, stat) = self.open_file(path)?;
        Ok((super::read_whole(&fd, stat.size, limit)?, stat))
    }

    /// Opens a regular file beneath this directory to be read, without waiting for anything.
    ///
    /// # Errors
    /// Those of openat2(2); `InvalidData` when it is not a regular file.
    pub fn open_file(&self, path: &[u8]) -> std::io::Result<(OwnedFd, Stat)> {
        let flags = OFlags::RDONLY
            | OFlags::NOFOLLOW
            | OFlags::NOATIME
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(
            &self.fd,
            OsStr::from_bytes(path),
            flags,
            Mode::empty(),
            BENEATH,
        )?;
        let stat = super::stat_fd(&fd)?;
        if stat.file_type != FileType::File {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "not a regular file",
            ));
        }
        Ok((fd, stat))
    }

    /// Whether the object at a path beneath this directory is `other`. Links on the way may lead anywhere.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn leads_to(&self, path: &[u8], other: &Self) -> Result<bool> {
        let path = OsStr::from_bytes(path);
        let there = rustix::fs::statx(&self.fd, path, AtFlags::SYMLINK_NOFOLLOW, Stat::MASK)?;
        let there = Stat::decode(&there).ok_or(Errno::IO)?;
        let other = other.stat_self()?;
        Ok((there.dev, there.ino) == (other.dev, other.ino))
    }

    /// Whether the object at a path beneath this directory is on the mount of this number: then nothing is
    /// mounted on the way to it from a directory of that mount. Links on the way may lead anywhere.
    #[must_use]
    pub fn is_on_mount(&self, path: &[u8], mount: u64) -> bool {
        let path = OsStr::from_bytes(path);
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
        rustix::fs::statx(&self.fd, path, flags, StatxFlags::MNT_ID).is_ok_and(|there| {
            there.stx_mask & StatxFlags::MNT_ID.bits() != 0 && there.stx_mnt_id == mount
        })
    }

    /// Whether anything is at a path beneath this directory, which a look at it can tell.
    #[must_use]
    pub fn has(&self, path: &[u8]) -> bool {
        let path = OsStr::from_bytes(path);
        rustix::fs::statx(&self.fd, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE).is_ok()
    }

    /// Whether the object at a path beneath this directory is the one that this was told of, unchanged.
    /// Links on the way may lead anywhere: something else is never it.
    #[must_use]
    pub fn is_still(&self, path: &[u8], stat: &Stat) -> bool {
        let path = OsStr::from_bytes(path);
        rustix::fs::statx(&self.fd, path, AtFlags::SYMLINK_NOFOLLOW, Stat::MASK)
            .is_ok_and(|raw| Stat::decode(&raw).as_ref() == Some(stat))
    }

    /// Returns the names of the extended attributes of an entry, each ended by a NUL byte, in
    /// `buffer`, which is grown to [`XATTR_LIMIT`] at most. An empty `name` means this directory itself.
    ///
    /// # Errors
    /// Those of llistxattr(2). A file system without attributes has none.
    pub fn xattr_names<'b>(&self, name: &[u8], buffer: &'b mut Vec<u8>) -> Result<&'b [u8]> {
        let length = grown(buffer, |buffer| self.list_xattrs(name, buffer));
        match length {
            Ok(length) => Ok(&buffer[..length]),
            Err(Errno::OPNOTSUPP) => Ok(&[]),
            Err(errno) => Err(errno),
        }
    }

    fn list_xattrs(&self, name: &[u8], buffer: &mut [u8]) -> Result<usize> {
        if let Some(image) = &self.image {
            image.list_xattrs(name, buffer)
        } else if name.is_empty() {
            rustix::fs::flistxattr(&self.fd, buffer)
        } else {
            match self.at(name, |name| xattr::list_at(self.fd.as_fd(), name, buffer)) {
                Err(Errno::NOSYS) => rustix::fs::llistxattr(self.by_proc(name), buffer),
                length => length,
            }
        }
    }

    /// Returns the value of an extended attribute of an entry, or `None` when it has none of that
    /// name. An empty `name` means this directory itself.
    ///
    /// # Errors
    /// Those of lgetxattr(2).
    pub fn xattr(
        &self,
        name: &[u8],
        attribute: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Vec<u8>>> {
        let attribute = CString::new(attribute).map_err(|_| Errno::INVAL)?;
        let length = grown(buffer, |buffer| self.get_xattr(name, &attribute, buffer));
        match length {
            Ok(length) => Ok(Some(buffer[..length].to_vec())),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn get_xattr(&self, name: &[u8], attribute: &CStr, buffer: &mut [u8]) -> Result<usize> {
        if let Some(image) = &self.image {
            image.get_xattr(name, attribute.to_bytes(), buffer)
        } else if name.is_empty() {
            rustix::fs::fgetxattr(&self.fd, attribute, buffer)
        } else {
            let get = |name: &CStr| xattr::get_at(self.fd.as_fd(), name, attribute, buffer);
            match self.at(name, get) {
                Err(Errno::NOSYS) => rustix::fs::lgetxattr(self.by_proc(name), attribute, buffer),
                length => length,
            }
        }
    }

    /// Asks about an entry by a call that Linux has since 6.13, and no more once it was found not to be
    /// there.
    fn at(&self, name: &[u8], ask: impl FnOnce(&CStr) -> Result<usize>) -> Result<usize> {
        static MISSING: AtomicBool = AtomicBool::new(false);
        if MISSING.load(Ordering::Relaxed) {
            return Err(Errno::NOSYS);
        }
        debug_assert!(!name.contains(&b'/'));
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        let answer = ask(&name);
        if answer == Err(Errno::NOSYS) {
            MISSING.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// The path by which the `l*xattr` calls reach an entry of this directory: they take no
    /// directory handle, and opening a device or a FIFO to ask would have effects.
    fn by_proc(&self, name: &[u8]) -> Vec<u8> {
        let mut path = format!("/proc/self/fd/{}/", self.fd.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        path
    }
}

/// Reads into a buffer that is as large as most need it, and where that is too small as large as the
/// kernel allows: it takes as much memory itself as is offered.
fn grown(buffer: &mut Vec<u8>, mut read: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<usize> {
    const USUAL: usize = 1024;
    if buffer.len() < USUAL {
        buffer.resize(USUAL, 0);
    }
    match read(buffer) {
        Err(Errno::RANGE) if buffer.len() < XATTR_LIMIT => {
            buffer.resize(XATTR_LIMIT, 0);
            read(buffer)
        }
        length => length,
    }
}

fn keeps_no_access_time(mount: StatVfsMountFlags) -> bool {
    mount.intersects(StatVfsMountFlags::NOATIME | StatVfsMountFlags::RDONLY)
}

impl From<OwnedFd> for Dir {
    fn from(fd: OwnedFd) -> Self {
        Self {
            fd,
            quiet: OnceLock::new(),
            mount_flags: OnceLock::new(),
            in_view: false,
            tells_end: false,
            owners: None,
            was_read: Mutex::new(false),
            image: None,
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
