//! Reading an EROFS image that is mounted nowhere that can be reached: composefs keeps the metadata of
//! a layer so, and what files hold elsewhere.
//!
//! Nothing in the image is believed: every bound is checked, what is read has an end, and each directory
//! has one place. What the kernel would show is shown, and what is not known is an error.

mod decode;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use plimsoll_core::model::FileType;
use rustix::fs::MemfdFlags;
use rustix::io::{Errno, Result};

use self::decode::{
    DAMAGED, EXTENDED, Entries, Inode, SUPERBLOCK_AT, SUPERBLOCK_LENGTH, Superblock, XATTR_HEAD,
    Xattr, XattrHead,
};
use super::source::Source;
use super::{LINK_LIMIT, Stat};

/// Longest directory, in bytes: more than a million names.
const DIRECTORY_MAX: u64 = 64 << 20;

/// Longest file whose bytes are in the image itself: what belongs there is small.
const FILE_MAX: u64 = 1 << 20;

/// Device numbers of images: no file system has this major number.
const MAJOR: u32 = u32::MAX;

/// An image.
#[derive(Debug)]
struct Image {
    source: Box<dyn Source + Send + Sync>,
    length: u64,
    superblock: Superblock,
    dev: (u32, u32),
}

impl Image {
    fn open(source: Box<dyn Source + Send + Sync>, length: u64) -> std::io::Result<Arc<Self>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut raw = [0; SUPERBLOCK_LENGTH];
        let read = source.read_at(&mut raw, SUPERBLOCK_AT)?;
        let refused = |why| std::io::Error::new(std::io::ErrorKind::InvalidData, why);
        if read != raw.len() {
            return Err(refused("it is no EROFS image"));
        }
        Ok(Arc::new(Self {
            superblock: Superblock::decode(&raw).map_err(refused)?,
            source,
            length,
            dev: (MAJOR, NEXT.fetch_add(1, Ordering::Relaxed)),
        }))
    }

    /// Reads what must be there.
    fn read(&self, at: u64, length: u64) -> Result<Vec<u8>> {
        let end = at.checked_add(length);
        if end.is_none_or(|end| end > self.length) {
            return Err(DAMAGED);
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| DAMAGED)?];
        match self.source.read_at(&mut bytes, at)? {
            read if read == bytes.len() => Ok(bytes),
            _ => Err(DAMAGED),
        }
    }

    fn inode(&self, number: u64) -> Result<Inode> {
        let at = self.superblock.inode_at(number)?;
        let left = self.length.saturating_sub(at);
        let raw = self.read(at, left.min(EXTENDED as u64))?;
        let mut inode = Inode::decode(&self.superblock, number, at, &raw)?;
        inode.stat.dev = self.dev;
        Ok(inode)
    }

    /// Reads the content of an inode, if it is no longer than `limit`.
    fn content(&self, inode: &Inode, limit: u64) -> Result<Vec<u8>> {
        if inode.stat.size > limit {
            return Err(Errno::FBIG);
        }
        let mut content = Vec::new();
        for run in inode.content(&self.superblock)? {
            if run.length > 0 {
                content.append(&mut self.read(run.at, run.length)?);
            }
        }
        Ok(content)
    }

    /// Returns the attributes of an inode, each name once: the kernel takes the first one.
    fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let (at, length) = inode.xattrs;
        let (mut all, shared) = decode::xattrs(&self.read(at, length as u64)?)?;
        for id in shared {
            let at = self.superblock.shared_xattr_at(id);
            let head = XattrHead::decode(&self.read(at, XATTR_HEAD as u64)?)?;
            let rest = self.read(at + XATTR_HEAD as u64, head.length() as u64)?;
            all.extend(head.follow(&rest)?);
        }
        let mut names = std::collections::HashSet::new();
        let known: Vec<bool> = all.iter().map(|one| names.insert(&one.name)).collect();
        let mut known = known.into_iter();
        all.retain(|_| known.next().unwrap_or_default());
        Ok(all)
    }
}

/// A directory of an image.
#[derive(Debug)]
pub(super) struct Directory {
    image: Arc<Image>,
    inode: Inode,
    parent: u64,
    entries: OnceLock<Entries>,
}

impl Directory {
    /// Opens the root directory of the image in a file.
    ///
    /// # Errors
    /// Those of reading; `InvalidData` when it is none, or has features that are not known.
    pub(super) fn root(file: OwnedFd) -> std::io::Result<Self> {
        let length = super::stat_fd(&file)?.size;
        Self::root_of(Image::open(Box::new(file), length)?)
    }

    fn root_of(image: Arc<Image>) -> std::io::Result<Self> {
        let number = image.superblock.root();
        Ok(Self::open(&image, number, number)?)
    }

    fn open(image: &Arc<Image>, number: u64, parent: u64) -> Result<Self> {
        let inode = image.inode(number)?;
        match inode.stat.file_type {
            FileType::Directory => Ok(Self {
                image: Arc::clone(image),
                inode,
                parent,
                entries: OnceLock::new(),
            }),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn entries(&self) -> Result<&Entries> {
        if let Some(entries) = self.entries.get() {
            return Ok(entries);
        }
        let content = self.image.content(&self.inode, DIRECTORY_MAX)?;
        let number = self.inode.stat.ino;
        let entries = Entries::decode(&self.image.superblock, content, number, self.parent)?;
        Ok(self.entries.get_or_init(|| entries))
    }

    fn entry(&self, name: &[u8]) -> Result<Inode> {
        let number = self.entries()?.inode(name).ok_or(Errno::NOENT)?;
        self.image.inode(number)
    }

    /// An entry; the directory itself without a name.
    fn named(&self, name: &[u8]) -> Result<Inode> {
        match name {
            b"" => Ok(self.inode),
            name => self.entry(name),
        }
    }

    /// Opens a directory that is an entry of this one.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`; `EUCLEAN` when it has another place as well.
    pub(super) fn child(&self, name: &[u8]) -> Result<Self> {
        let number = self.entry(name)?.stat.ino;
        let child = Self::open(&self.image, number, self.inode.stat.ino)?;
        if self.entries()?.names_of(number) != 1 {
            return Err(DAMAGED);
        }
        // Whose entries say where it belongs.
        child.entries()?;
        Ok(child)
    }

    /// Opens a directory some levels beneath this one; `.` is this one again.
    ///
    /// # Errors
    /// Those of [`Directory::child`]; `EXDEV` for a path that leads out.
    pub(super) fn beneath(&self, path: &[u8]) -> Result<Self> {
        let mut at = Self::open(&self.image, self.inode.stat.ino, self.parent)?;
        for name in path.split(|b| *b == b'/') {
            at = match name {
                b"" | b"." => continue,
                b".." => return Err(Errno::XDEV),
                name => at.child(name)?,
            };
        }
        Ok(at)
    }

    /// Returns what an entry is; the directory itself without a name.
    ///
    /// # Errors
    /// `ENOENT`.
    pub(super) fn stat(&self, name: &[u8]) -> Result<Stat> {
        Ok(self.named(name)?.stat)
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` when it is none.
    pub(super) fn read_link(&self, name: &[u8]) -> Result<Vec<u8>> {
        let inode = self.entry(name)?;
        match inode.stat.file_type {
            FileType::Symlink => self.image.content(&inode, LINK_LIMIT as u64),
            _ => Err(Errno::INVAL),
        }
    }

    /// Fills `buffer` with the names of the attributes of an entry, each ended by a NUL byte.
    ///
    /// # Errors
    /// `ERANGE` when they do not fit.
    pub(super) fn list_xattrs(&self, name: &[u8], buffer: &mut [u8]) -> Result<usize> {
        let mut names = Vec::new();
        for xattr in self.image.xattrs(&self.named(name)?)? {
            names.extend_from_slice(&xattr.name);
            names.push(0);
        }
        fill(buffer, &names)
    }

    /// Fills `buffer` with the value of an attribute of an entry.
    ///
    /// # Errors
    /// `ENODATA` when it has none of that name; `ERANGE` when it does not fit.
    pub(super) fn get_xattr(&self, name: &[u8], of: &[u8], buffer: &mut [u8]) -> Result<usize> {
        let xattrs = self.image.xattrs(&self.named(name)?)?;
        let found = xattrs.iter().find(|xattr| xattr.name == of);
        fill(buffer, &found.ok_or(Errno::NODATA)?.value)
    }

    /// Gives the names from the one with this number on to `each`, so many at most, and returns how many
    /// there were.
    ///
    /// # Errors
    /// Those of reading the directory.
    pub(super) fn names(&self, from: u64, most: usize, each: impl FnMut(&[u8])) -> Result<u64> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let given = self.entries()?.names(from).take(most).map(each).count();
        Ok(given as u64)
    }

    /// Returns a file with the bytes of a regular one, and what that is.
    ///
    /// # Errors
    /// `ESTALE` when it is none; `EOPNOTSUPP` when its bytes are not in the image.
    pub(super) fn open_regular(&self, name: &[u8]) -> Result<(OwnedFd, Stat)> {
        let inode = self.entry(name)?;
        if inode.stat.file_type != FileType::File {
            return Err(Errno::STALE);
        }
        let content = self.image.content(&inode, FILE_MAX)?;
        let file = rustix::fs::memfd_create("erofs", MemfdFlags::CLOEXEC)?;
        let mut written = 0;
        while let Some(rest) = content.get(written..).filter(|rest| !rest.is_empty()) {
            written += rustix::io::pwrite(&file, rest, written as u64)?;
        }
        Ok((file, inode.stat))
    }
}

fn fill(buffer: &mut [u8], bytes: &[u8]) -> Result<usize> {
    let room = buffer.get_mut(..bytes.len()).ok_or(Errno::RANGE)?;
    room.copy_from_slice(bytes);
    Ok(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `mkcomposefs` 1.0.8 made of a small tree, the same that a fuzzer begins with.
    const IMAGE: &[u8] = include_bytes!("../../../../../fuzz/corpus/erofs/composefs-1");

    fn root(image: Vec<u8>) -> std::io::Result<Directory> {
        let length = image.len() as u64;
        Directory::root_of(Image::open(Box::new(image), length)?)
    }

    fn replaced(from: &[u8], to: &[u8]) -> Vec<u8> {
        let mut image = IMAGE.to_vec();
        let mut places = 0;
        for at in 0..image.len() - from.len() {
            if image[at..].starts_with(from) {
                image[at..at + to.len()].copy_from_slice(to);
                places += 1;
            }
        }
        assert!(places > 0);
        image
    }

    #[test]
    fn what_is_there() {
        let root = root(IMAGE.to_vec()).unwrap();
        let inner = root.beneath(b"d/./e/").unwrap();
        let told = inner.stat(b"").unwrap();
        assert_eq!(told.mtime.nanoseconds, 700_000_000);
        assert_eq!(told, root.child(b"d").unwrap().stat(b"e").unwrap());
        assert_eq!(root.read_link(b"link").unwrap(), b"target");
        assert_eq!(root.stat(b"out").unwrap().uid, 70_000);
        let mut buffer = [0; 100];
        assert_eq!(root.get_xattr(b"d", b"user.a", &mut buffer), Ok(1));
        assert_eq!(buffer[0], b'b');
        let (file, stat) = root.child(b"d").unwrap().open_regular(b"inline").unwrap();
        assert_eq!(stat.size, 5);
        assert_eq!(super::super::read_at(&file, &mut buffer, 0), Ok(5));
        assert_eq!(&buffer[..5], b"tiny\n");
    }

    #[test]
    fn what_is_not_there() {
        let root = root(IMAGE.to_vec()).unwrap();
        let mut buffer = [0; 1];
        assert_eq!(root.stat(b"none").unwrap_err(), Errno::NOENT);
        assert_eq!(root.child(b"link").unwrap_err(), Errno::NOTDIR);
        assert_eq!(root.beneath(b"d/../d").unwrap_err(), Errno::XDEV);
        assert_eq!(root.read_link(b"out"), Err(Errno::INVAL));
        assert_eq!(root.open_regular(b"f").unwrap_err(), Errno::STALE);
        assert_eq!(root.list_xattrs(b"d", &mut buffer), Err(Errno::RANGE));
        let none = root.get_xattr(b"d", b"user.none", &mut buffer);
        assert_eq!(none, Err(Errno::NODATA));
        // Its bytes are elsewhere.
        assert!(root.open_regular(b"out").is_err());
    }

    /// A tree that has no end would never be seen whole.
    #[test]
    fn directories_that_are_in_two_places() {
        let good = root(IMAGE.to_vec()).unwrap();
        let number = |dir: &Directory| dir.inode.stat.ino.to_le_bytes();
        let (outer, inner) = (good.child(b"d").unwrap(), good.beneath(b"d/e").unwrap());
        for (from, to) in [(&inner, &good), (&inner, &outer), (&outer, &inner)] {
            let bad = root(replaced(&number(from), &number(to)));
            assert!(bad.and_then(|bad| Ok(bad.beneath(b"d/e")?)).is_err());
        }
    }

    #[test]
    fn images_that_are_cut_short() {
        for length in [0, 1024, 1151, 1152, 2048, 9000, IMAGE.len() - 1] {
            let image = IMAGE.get(..length).unwrap();
            let read = root(image.to_vec()).and_then(|root| Ok(root.beneath(b"d/e")?));
            assert!(read.is_err() || length > 4096, "{length}");
        }
    }
}
