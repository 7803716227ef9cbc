//! What an overlay that is mounted says of directories that may be its layers.
//!
//! An overlay shows the inode numbers of its layers (kernel `Documentation/filesystems/overlayfs.rst`,
//! "Inode properties"): its root has that of the upper directory, a file that of the file in the layer that
//! it comes from, also when it was copied up; and a directory that of the topmost one beneath the upper
//! layer, where all layers lie on one file system. All are looked up by handles that raise no event.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use plimsoll_core::model::FileType;
use rustix::io::Errno;

use super::super::{Layer, OverlayStack};
use super::Mounted;
use crate::fs::{Dir, Stat};

/// Files of a layer that are looked for in the mount, at most.
const WITNESSES: usize = 24;

/// Entries of a layer that are looked at for such files, at most.
const LOOKED_AT: usize = 96;

/// Entries of one directory that are looked at: what proving costs does not follow the size of a layer.
const OF_ONE: usize = 8;

/// Levels of directories that are gone down for them.
const DEPTH: usize = 8;

/// Bits of an inode number that are the file's own: with `xino` the top ones tell the layer, of which
/// there are 500 at most (`OVL_MAX_STACK` in the kernel's `fs/overlayfs/params.h`).
const OWN_BITS: u64 = u64::MAX >> 10;

/// What the mount says of one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// It is the layer.
    Confirmed,
    /// Neither this nor that.
    Silent,
    /// It is not the layer.
    Refuted,
}

/// Layers that are held against a mount.
pub(super) struct Proof<'p> {
    mounted: &'p Mounted,
    stack: &'p OverlayStack,
    /// All layers beneath the upper one, top first.
    lowers: Vec<&'p Layer>,
    /// When it was mounted, where that is known.
    since: Option<(i64, u32)>,
    /// Whether all layers lie on one file system.
    one_file_system: bool,
    /// Directories that were asked about before: whether looking them up writes nothing.
    harmless: RefCell<HashMap<Vec<u8>, bool>>,
}

/// An entry of a layer.
struct Witness {
    path: Vec<u8>,
    is_directory: bool,
    /// The number that the mount shows at its path.
    seen: Option<u64>,
}

impl<'p> Proof<'p> {
    pub(super) fn new(
        mounted: &'p Mounted,
        stack: &'p OverlayStack,
        since: Option<(i64, u32)>,
    ) -> Self {
        let image = stack.image.iter().map(AsRef::as_ref);
        let lowers: Vec<&Layer> = stack.injected.iter().chain(image).collect();
        let device = |layer: &Layer| layer.dir.stat_self().ok().map(|stat| stat.dev);
        let upper = device(&stack.upper);
        Self {
            mounted,
            stack,
            since,
            one_file_system: lowers.iter().all(|layer| device(layer) == upper),
            lowers,
            harmless: RefCell::default(),
        }
    }

    /// Whether the upper directory is the one that is mounted.
    pub(super) fn upper(&self) -> Evidence {
        let upper = &self.stack.upper.dir;
        let (Ok(merged), Ok(found)) = (self.mounted.merged.stat_self(), upper.stat_self()) else {
            return Evidence::Silent;
        };
        if self.mounted.options.uuid
            && let Some(same) = self.same_uuid(upper)
            && !same
        {
            return Evidence::Refuted;
        }
        if is_same(merged.ino, found.ino) {
            return Evidence::Confirmed;
        }
        // Where the layers lie on several file systems, old kernels give the root a number of its own.
        match self.one_file_system {
            true => Evidence::Refuted,
            false => self.by_age(upper),
        }
    }

    /// What is younger than the mount is none of its layers. Asked only where nothing else tells: a clock
    /// that was set back in between makes everything young.
    fn by_age(&self, dir: &Dir) -> Evidence {
        match self.since.zip(dir.birth(b"")) {
            Some((since, born)) if born > since => Evidence::Refuted,
            _ => Evidence::Silent,
        }
    }

    /// Returns the name of a mark. A stack with those of fuse-overlayfs is none that the kernel mounted, and
    /// is not held against a mount of its.
    fn mark(&self, mark: &[u8]) -> Vec<u8> {
        [self.stack.marks.prefix().unwrap_or_default(), mark].concat()
    }

    /// Whether the id of the mounted file system is the one that the upper directory keeps (`uuid=on`,
    /// since Linux 6.6); `None` where that cannot be known.
    fn same_uuid(&self, upper: &Dir) -> Option<bool> {
        let mut buffer = Vec::new();
        let name = self.mark(b"uuid");
        let uuid = upper.xattr(b"", &name, &mut buffer).ok()??;
        let (low, high) = uuid.split_at_checked(8)?;
        let [low, high] = [low, high].map(|half| half.try_into().map(u64::from_le_bytes));
        // As `uuid_to_fsid` in the kernel's `include/linux/statfs.h` folds it.
        Some(self.mounted.merged.file_system_id().ok()? == low.ok()? ^ high.ok()?)
    }

    /// Returns the first lower layer that is not the one that is mounted.
    pub(super) fn refuted_lower(&self) -> Option<&'p Layer> {
        let at = (0..self.lowers.len()).find(|at| self.lower(*at) == Evidence::Refuted)?;
        self.lowers.get(at).copied()
    }

    /// Whether a lower directory is the one that is mounted.
    ///
    /// One entry of it with the same number in the mount confirms that. What is seen there of no entry of
    /// it, although no layer above has anything in its place, is not of this directory.
    fn lower(&self, at: usize) -> Evidence {
        let Some(layer) = self.lowers.get(at) else {
            return Evidence::Silent;
        };
        let mut missing = Vec::new();
        let mut confirmed = false;
        // Most layers have the directories of others, and files of their own.
        let mut directories: Vec<(Vec<u8>, Stat)> = Vec::new();
        let mut check = |path: &[u8], found: &Stat| {
            if found.file_type == FileType::Directory {
                if self.one_file_system && directories.len() < WITNESSES {
                    directories.push((path.to_vec(), *found));
                }
                return true;
            }
            confirmed |= self.shows(path, found, &mut missing);
            !confirmed && missing.len() < WITNESSES
        };
        let budget = Cell::new(LOOKED_AT);
        entries(&layer.dir, &mut Vec::new(), DEPTH, &budget, &mut check);
        let mut rest = directories.iter();
        if confirmed || rest.any(|(path, found)| self.shows(path, found, &mut missing)) {
            return Evidence::Confirmed;
        }
        let above = self.lowers.get(..at).unwrap_or_default();
        let should_be_seen = |witness: &Witness| {
            above
                .iter()
                .all(|layer| self.is_open(&layer.dir, witness, false))
                && self.is_open(&self.stack.upper.dir, witness, true)
        };
        match missing.iter().any(should_be_seen) {
            true => Evidence::Refuted,
            false => self.by_age(&layer.dir),
        }
    }

    /// Whether the mount shows this entry of a layer at its path; adds it to `missing` when it does not.
    fn shows(&self, path: &[u8], found: &Stat, missing: &mut Vec<Witness>) -> bool {
        let is_directory = found.file_type == FileType::Directory;
        let parent = match path.iter().rposition(|b| *b == b'/') {
            _ if is_directory => path,
            Some(slash) => path.get(..slash).unwrap_or_default(),
            None => b"",
        };
        if !self.may_be_looked_up(parent) {
            return false;
        }
        let seen = match self.mounted.merged.stat_beneath(path) {
            Ok(seen) if is_same(seen.ino, found.ino) => return true,
            Ok(seen) => Some(seen.ino),
            Err(Errno::NOENT) => None,
            // Something is mounted over it there, or it cannot be looked at.
            Err(_) => return false,
        };
        missing.push(Witness {
            path: path.to_vec(),
            is_directory,
            seen,
        });
        false
    }

    /// Whether looking up a directory in the mount, or something in it, writes nothing: of a directory that was made in the upper layer
    /// from outside the kernel writes down, once it is looked up, which one it was merged with
    /// (`ovl_fix_origin` in `fs/overlayfs/namei.c`).
    fn may_be_looked_up(&self, path: &[u8]) -> bool {
        if path.is_empty() {
            return true;
        }
        if let Some(known) = self.harmless.borrow().get(path) {
            return *known;
        }
        let may = self.is_harmless(path);
        self.harmless.borrow_mut().insert(path.to_vec(), may);
        may
    }

    fn is_harmless(&self, path: &[u8]) -> bool {
        let mut buffer = Vec::new();
        let origin = self.mark(b"origin");
        let mut here: Option<Dir> = None;
        for name in path.split(|b| *b == b'/') {
            let dir = here.as_ref().unwrap_or(&self.stack.upper.dir);
            match dir.stat(name) {
                Ok(stat) if stat.file_type == FileType::Directory => {}
                Ok(_) => return true,
                Err(errno) => return errno == Errno::NOENT,
            }
            if !matches!(dir.xattr(name, &origin, &mut buffer), Ok(Some(_))) {
                return false;
            }
            let Ok(child) = dir.child(name) else {
                return false;
            };
            here = Some(child);
        }
        true
    }

    /// Whether a layer leaves what is beneath it to be seen at a path: it has nothing there, and no directory
    /// above that hides or moves it.
    ///
    /// A directory of the upper layer itself leaves the number of the one beneath it to be seen, unless it
    /// hides or moves that: then it shows its own.
    fn is_open(&self, layer: &Dir, witness: &Witness, is_upper: bool) -> bool {
        let mut buffer = Vec::new();
        let mut here: Option<Dir> = None;
        let mut parts = witness.path.split(|b| *b == b'/').peekable();
        while let Some(name) = parts.next() {
            let dir = here.as_ref().unwrap_or(layer);
            let stat = match dir.stat(name) {
                Err(errno) => return errno == Errno::NOENT,
                Ok(stat) if stat.file_type != FileType::Directory => return false,
                Ok(stat) => stat,
            };
            for mark in [&b"opaque"[..], b"redirect"] {
                let mark = self.mark(mark);
                if !matches!(dir.xattr(name, &mark, &mut buffer), Ok(None)) {
                    return false;
                }
            }
            if parts.peek().is_none() {
                let shows_own = witness.seen.is_none_or(|seen| is_same(seen, stat.ino));
                return is_upper && witness.is_directory && !shows_own;
            }
            let Ok(child) = dir.child(name) else {
                return false;
            };
            here = Some(child);
        }
        false
    }
}

/// Gives entries of a directory and of those beneath it to `check`, until that has enough: such as show in a
/// mount for sure, no marks of an overlay.
fn entries(
    dir: &Dir,
    path: &mut Vec<u8>,
    depth: usize,
    budget: &Cell<usize>,
    check: &mut dyn FnMut(&[u8], &Stat) -> bool,
) -> bool {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let Ok(mut reader) = dir.reader(0) else {
        return true;
    };
    // One portion is enough of a large one.
    if reader
        .next_portion(|name| {
            if names.len() < OF_ONE {
                names.push(name.to_vec());
            }
        })
        .is_err()
    {
        return true;
    }
    let mut directories = Vec::new();
    let length = path.len();
    for name in names {
        let Some(left) = budget.get().checked_sub(1) else {
            return false;
        };
        budget.set(left);
        let Ok(stat) = dir.stat(&name) else {
            continue;
        };
        match stat.file_type {
            // It may be a mark, a whiteout by its attribute.
            FileType::File if stat.size == 0 => continue,
            FileType::File | FileType::Symlink | FileType::Directory => {}
            _ => continue,
        }
        path.extend_from_slice(&name);
        let more = check(path, &stat);
        path.truncate(length);
        if !more {
            return false;
        }
        if stat.file_type == FileType::Directory {
            directories.push(name);
        }
    }
    for name in directories {
        if depth == 0 || budget.get() == 0 {
            return true;
        }
        let Ok(child) = dir.child(&name) else {
            continue;
        };
        path.extend_from_slice(&name);
        path.push(b'/');
        let more = entries(&child, path, depth - 1, budget, check);
        path.truncate(length);
        if !more {
            return false;
        }
    }
    true
}

/// Whether two inode numbers are one file's.
fn is_same(a: u64, b: u64) -> bool {
    (a ^ b) & OWN_BITS == 0
}
