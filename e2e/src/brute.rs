//! The referee: two trees compared by reading everything, through ordinary calls.
//!
//! It shares nothing with the engines but the names of their result. It goes by what a process sees
//! at a path: existence, type, content by SHA-256, permission bits, owner, link target, device
//! numbers, extended attributes, and the inode flags immutable and append-only.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use plimsoll_core::model::{Aspect, Change, ChangeKind};
use sha2::{Digest as _, Sha256};

/// One difference: kind and aspects as Plimsoll names them.
pub type Differences = BTreeMap<String, (char, Vec<&'static str>)>;

/// Compares two trees. A deleted directory stands for everything beneath it; an added one does not.
///
/// # Panics
/// When something cannot be read.
#[must_use]
pub fn compare(image: &Path, container: &Path) -> Differences {
    differences(&Tree::read(image), &Tree::read(container))
}

/// Everything there is to know of a tree, by path from its root: `/` is the root itself.
#[derive(Debug, Clone)]
pub struct Tree(BTreeMap<String, Facts>);

/// What a process sees at one path.
#[derive(Debug, Clone)]
struct Facts {
    kind: &'static str,
    /// Size of a regular file, and where it is: it is read when, and only when, it must be.
    content: Option<(u64, PathBuf)>,
    digest: OnceCell<[u8; 32]>,
    mode: u32,
    owner: (u32, u32),
    target: Option<PathBuf>,
    device: Option<u64>,
    flags: u32,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Facts {
    fn same_content(&self, other: &Self) -> bool {
        match (&self.content, &other.content) {
            (Some((size, _)), Some((other_size, _))) => {
                size == other_size && self.digest() == other.digest()
            }
            (None, None) => true,
            _ => false,
        }
    }

    fn digest(&self) -> Option<&[u8; 32]> {
        let (_, path) = self.content.as_ref()?;
        Some(self.digest.get_or_init(|| digest(path)))
    }
}

impl Tree {
    /// Reads a whole tree; the content of its files is read when it is compared.
    ///
    /// # Panics
    /// When something cannot be read.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let mut tree = BTreeMap::new();
        let mut todo = vec![(root.to_owned(), String::new())];
        while let Some((path, shown)) = todo.pop() {
            let Some(metadata) = stat(&path) else {
                continue;
            };
            if metadata.is_dir() {
                for name in names(&path) {
                    let child =
                        format!("{shown}/{}", plimsoll_core::model::escape(name.as_bytes()));
                    todo.push((path.join(&name), child));
                }
            }
            let facts = facts(&path, &metadata, shown.is_empty());
            tree.insert(
                if shown.is_empty() {
                    "/".to_owned()
                } else {
                    shown
                },
                facts,
            );
        }
        Self(tree)
    }
}

/// Compares two trees that were read.
#[must_use]
pub fn differences(image: &Tree, container: &Tree) -> Differences {
    let mut out = Differences::new();
    let parent = |path: &str| match path.rfind('/') {
        Some(0) => "/".to_owned(),
        Some(at) => path[..at].to_owned(),
        None => unreachable!("a path has a slash"),
    };
    // Whether both sides have this path, and every one above it, with the same type.
    let mut common: BTreeMap<&str, bool> = BTreeMap::new();
    let paths: BTreeSet<&String> = image.0.keys().chain(container.0.keys()).collect();
    for path in paths {
        let beneath_common =
            path == "/" || common.get(parent(path).as_str()).copied().unwrap_or(false);
        let (before, after) = (image.0.get(path), container.0.get(path));
        let same_kind = before.map(|facts| facts.kind) == after.map(|facts| facts.kind);
        common.insert(path, beneath_common && same_kind);
        let found = match (before.filter(|_| beneath_common), after) {
            (Some(_), None) => Some(('D', Vec::new())),
            (None, Some(_)) => Some(('A', Vec::new())),
            (Some(_), Some(_)) if !same_kind => Some(('T', Vec::new())),
            (Some(before), Some(after)) => {
                let aspects = aspects(before, after);
                (!aspects.is_empty()).then_some(('C', aspects))
            }
            (None, None) => None,
        };
        if let Some(found) = found {
            out.insert(path.clone(), found);
        }
    }
    out
}

/// Returns what an engine reported in the form of [`compare`], so that the two can be held against
/// each other. The number of links and the times are left out: they are told, not judged.
#[must_use]
pub fn of_changes(changes: &[Change]) -> Differences {
    let mut out = Differences::new();
    for change in changes {
        let aspects = if change.kind == ChangeKind::Changed {
            change
                .aspects
                .iter()
                .filter(|a| !matches!(a, Aspect::Links | Aspect::Times))
                .map(Aspect::as_str)
                .collect()
        } else {
            Vec::new()
        };
        let previous = out.insert(change.path.to_string(), (change.kind.letter(), aspects));
        assert!(previous.is_none(), "{} is reported twice", change.path);
    }
    out
}

fn names(dir: &Path) -> Vec<OsString> {
    std::fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.expect("entry").file_name())
        .collect()
}

fn stat(path: &Path) -> Option<Metadata> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => panic!("{}: {e}", path.display()),
    }
}

/// The file type; the root of a nested subvolume is told by its device number, which differs from
/// its parent directory's, and by Btrfs giving such roots inode 256.
fn kind(metadata: &Metadata, path: &Path, is_root: bool) -> &'static str {
    let t = metadata.file_type();
    if t.is_dir() {
        let parent = path
            .parent()
            .and_then(|p| std::fs::symlink_metadata(p).ok());
        let crosses = parent.is_some_and(|p| p.dev() != metadata.dev());
        if crosses && metadata.ino() == 256 && !is_root {
            return "subvolume";
        }
        "directory"
    } else if t.is_file() {
        "file"
    } else if t.is_symlink() {
        "symlink"
    } else if t.is_fifo() {
        "fifo"
    } else if t.is_socket() {
        "socket"
    } else if t.is_char_device() {
        "char-device"
    } else {
        "block-device"
    }
}

fn facts(path: &Path, metadata: &Metadata, is_root: bool) -> Facts {
    let file_type = metadata.file_type();
    let is_device = file_type.is_char_device() || file_type.is_block_device();
    Facts {
        kind: kind(metadata, path, is_root),
        content: metadata
            .is_file()
            .then(|| (metadata.len(), path.to_owned())),
        digest: OnceCell::new(),
        mode: metadata.permissions().mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        target: metadata
            .is_symlink()
            .then(|| std::fs::read_link(path).expect("link")),
        device: is_device.then(|| metadata.rdev()),
        flags: if metadata.is_file() || metadata.is_dir() {
            flags(path)
        } else {
            0
        },
        xattrs: xattrs(path),
    }
}

fn aspects(before: &Facts, after: &Facts) -> Vec<&'static str> {
    [
        ("content", !before.same_content(after)),
        ("mode", before.mode != after.mode),
        ("owner", before.owner != after.owner),
        ("xattr", before.xattrs != after.xattrs),
        ("target", before.target != after.target),
        ("device", before.device != after.device),
        ("flags", before.flags != after.flags),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

fn digest(path: &Path) -> [u8; 32] {
    let mut file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = std::io::Read::read(&mut file, &mut buffer).expect("read");
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
    }
    let mut value = [0; 32];
    value.copy_from_slice(&hash.finalize());
    value
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let Ok(names) = xattr::list(path) else {
        return BTreeMap::new();
    };
    names
        .filter_map(|name| {
            let value = xattr::get(path, &name).ok().flatten()?;
            Some((name.into_vec(), value))
        })
        .collect()
}

/// The flags immutable and append-only, as chattr(1) shows them.
fn flags(path: &Path) -> u32 {
    const IMMUTABLE_AND_APPEND: u32 = 0x10 | 0x20;
    std::fs::File::open(path)
        .ok()
        .and_then(|file| rustix::fs::ioctl_getflags(&file).ok())
        .map_or(0, |flags| flags.bits() & IMMUTABLE_AND_APPEND)
}

/// Returns every path beneath `root` with what must not move when somebody only reads: inode,
/// mode, owner, size, links and all three times.
///
/// # Panics
/// When something cannot be read.
#[must_use]
pub fn trace(root: &Path) -> BTreeMap<PathBuf, String> {
    trace_where(root, &|_| true)
}

/// The same of what lies on the file system of `root` itself: to look into one that a program answers for
/// has that program read what is beneath.
///
/// # Panics
/// When something cannot be read.
#[must_use]
pub fn trace_of_one(root: &Path) -> BTreeMap<PathBuf, String> {
    let device = stat(root).expect("a directory").dev();
    trace_where(root, &|metadata| metadata.dev() == device)
}

fn trace_where(root: &Path, is_wanted: &dyn Fn(&Metadata) -> bool) -> BTreeMap<PathBuf, String> {
    let mut out = BTreeMap::new();
    let mut stack = vec![root.to_owned()];
    while let Some(path) = stack.pop() {
        let Some(m) = stat(&path).filter(is_wanted) else {
            continue;
        };
        out.insert(
            path.clone(),
            format!(
                "{} {:o} {}:{} {} {} {}.{} {}.{} {}.{}",
                m.ino(),
                m.mode(),
                m.uid(),
                m.gid(),
                m.size(),
                m.nlink(),
                m.atime(),
                m.atime_nsec(),
                m.mtime(),
                m.mtime_nsec(),
                m.ctime(),
                m.ctime_nsec(),
            ),
        );
        if m.is_dir() {
            // Listing moves the directory's own access time, so it is restored by O_NOATIME.
            let fd = rustix::fs::open(
                &path,
                rustix::fs::OFlags::RDONLY
                    | rustix::fs::OFlags::DIRECTORY
                    | rustix::fs::OFlags::NOATIME,
                rustix::fs::Mode::empty(),
            )
            .expect("open directory");
            for entry in rustix::fs::Dir::read_from(&fd).expect("read directory") {
                let name = entry.expect("entry").file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    stack.push(path.join(OsString::from_vec(name)));
                }
            }
        }
    }
    out
}
