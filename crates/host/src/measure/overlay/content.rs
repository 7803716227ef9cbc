//! Whether a copied-up file still has the bytes of its original.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plimsoll_syscall::fiemap::{self, Extent};

use super::node::Leaf;
use crate::fs::{Comparer, Stat};
use crate::measure::{Confirm, Content, Trouble};

/// Tries to compare a file that holds still meanwhile.
const TRIES: usize = 5;

/// Whether copy-up shares extents on this file system, so that an untouched copy can be told without
/// reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// XFS and Btrfs clone on copy-up.
    Possible,
    /// Nothing is shared, or it turned out that the map cannot be read.
    No,
}

impl Sharing {
    fn of(file: impl AsFd) -> Self {
        const XFS: i64 = 0x5846_5342;
        const BTRFS: i64 = 0x9123_683e;
        match rustix::fs::fstatfs(file) {
            Ok(fs) if [XFS, BTRFS].contains(&fs.f_type) => Self::Possible,
            _ => Self::No,
        }
    }
}

/// Opens the regular file that a leaf is.
pub(super) fn open(leaf: &Leaf) -> Result<(OwnedFd, Stat), Trouble> {
    let (fd, stat) = crate::fs::open_regular(&leaf.parent, &leaf.name)?;
    if (stat.ino, stat.dev) != (leaf.stat.ino, leaf.stat.dev) {
        return Err(Trouble(
            "it was replaced while it was being looked at".into(),
        ));
    }
    Ok((fd, stat))
}

/// Compares contents of files, one pair after the other.
#[derive(Debug)]
pub(super) struct Contents {
    confirm: Confirm,
    /// Of the upper layer's file system, once a file of it was open.
    sharing: Option<Sharing>,
    comparer: Comparer,
}

impl Contents {
    pub(super) fn new(confirm: Confirm) -> Self {
        Self {
            confirm,
            sharing: None,
            comparer: Comparer::default(),
        }
    }

    /// Compares two files of equal size, and returns how many bytes were read for it.
    pub(super) fn compare(
        &mut self,
        image: &Leaf,
        container: &Leaf,
    ) -> Result<(Content, u64), Trouble> {
        let same_inode =
            (image.stat.dev, image.stat.ino) == (container.stat.dev, container.stat.ino);
        if same_inode || container.stat.size == 0 && image.stat.size == 0 {
            return Ok((Content::Same, 0));
        }
        let one_fs = image.stat.dev == container.stat.dev;
        if self.confirm == Confirm::Never
            && !(one_fs && self.sharing(&*container.parent) == Sharing::Possible)
        {
            return Ok((Content::Undecided, 0));
        }
        let (image_fd, image_stat) = open(image)?;
        let (container_fd, mut stat) = open(container)?;
        if self.confirm != Confirm::Always
            && one_fs
            && self.sharing(&container_fd) == Sharing::Possible
        {
            match share_all(image_fd.as_fd(), container_fd.as_fd(), stat.size) {
                Ok(true) => return Ok((Content::Same, 0)),
                Ok(false) => {}
                Err(_) => self.sharing = Some(Sharing::No),
            }
        }
        if self.confirm == Confirm::Never {
            return Ok((Content::Undecided, 0));
        }
        let mut bytes_read = 0;
        for _ in 0..TRIES {
            if stat.size != image_stat.size {
                return Ok((Content::Different, bytes_read));
            }
            let difference = self
                .comparer
                .compare(&image_fd, &container_fd, stat.size)
                .map(|difference| {
                    bytes_read += difference.bytes_read;
                    difference.differs
                });
            match difference {
                Ok(true) => return Ok((Content::Different, bytes_read)),
                Ok(false) | Err(rustix::io::Errno::STALE) => {}
                Err(errno) => return Err(errno.into()),
            }
            let now = stat_of(&container_fd)?;
            let still = (now.ctime, now.mtime, now.size) == (stat.ctime, stat.mtime, stat.size);
            if still && difference.is_ok() {
                return Ok((Content::Same, bytes_read));
            }
            stat = now;
        }
        Err(Trouble(
            "it was written to each time while it was being compared".into(),
        ))
    }

    /// Returns whether copy-up shares extents where this file lies.
    fn sharing(&mut self, file: impl AsFd) -> Sharing {
        *self.sharing.get_or_insert_with(|| Sharing::of(file))
    }
}

fn stat_of(fd: &OwnedFd) -> Result<Stat, Trouble> {
    crate::fs::stat_fd(fd).map_err(Trouble::from)
}

/// Whether both files have the same extents up to `size`, so that their bytes are the same ones.
///
/// Dirty pages are written out first, since until then a file shows the extents that it is about to
/// leave. Extents that are not plain (inline, encoded, unwritten, delayed ..) prove nothing: Btrfs
/// reports every inline extent at the same place.
fn share_all(a: BorrowedFd<'_>, b: BorrowedFd<'_>, size: u64) -> rustix::io::Result<bool> {
    let extents = |fd, at| fiemap::extents(fd, at, fiemap::FLAG_SYNC);
    all_same(size, |at| Ok((extents(a, at)?, extents(b, at)?)))
}

/// Whether two files have the same extents up to `size`; `extents` returns the next ones of both from
/// an offset on, [`fiemap::BATCH`] at most.
pub(super) fn all_same(
    size: u64,
    mut extents: impl FnMut(u64) -> rustix::io::Result<(Vec<Extent>, Vec<Extent>)>,
) -> rustix::io::Result<bool> {
    const MERGED: u32 = 0x1000;
    const SHARED: u32 = 0x2000;
    let plain = |extent: &Extent| extent.flags & !(fiemap::EXTENT_LAST | MERGED | SHARED) == 0;
    let mut at = 0;
    while at < size {
        let (in_a, in_b) = extents(at)?;
        let (Some(last), Some(last_in_b), true) =
            (in_a.last(), in_b.last(), in_a.len() == in_b.len())
        else {
            // No extent left on either side: the rest is a hole in both.
            return Ok(in_a.is_empty() && in_b.is_empty());
        };
        let same = in_a.iter().zip(&in_b).all(|(a, b)| {
            plain(a)
                && plain(b)
                && (a.logical, a.physical, a.length) == (b.logical, b.physical, b.length)
        });
        if !same {
            return Ok(false);
        }
        // The last one of both: where a portion ends, the other file may go on.
        if last.flags & last_in_b.flags & fiemap::EXTENT_LAST != 0 {
            return Ok(true);
        }
        let next = last.logical.saturating_add(last.length);
        if next <= at {
            // No file system says so; it proves nothing, and would be asked for ever.
            return Ok(false);
        }
        at = next;
    }
    Ok(true)
}
