//! The referee: two trees compared by reading everything, through ordinary calls.
//!
//! It shares nothing with the engines but the names of their result. It goes by what a process sees
//! at a path: existence, type, content by SHA-256, permission bits, owner, link target, device
//! numbers, extended attributes, and the inode flags immutable and append-only.

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
    let mut out = Differences::new();
    compare_object(image, container, "", &mut out);
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

fn compare_object(image: &Path, container: &Path, path: &str, out: &mut Differences) {
    let shown = if path.is_empty() { "/" } else { path };
    match (stat(image), stat(container)) {
        (None, None) => {}
        (Some(_), None) => {
            out.insert(shown.to_owned(), ('D', Vec::new()));
        }
        (None, Some(after)) => {
            out.insert(shown.to_owned(), ('A', Vec::new()));
            added_beneath(container, &after, path, out);
        }
        (Some(before), Some(after)) => {
            let is_root = path.is_empty();
            if kind(&before, image, is_root) != kind(&after, container, is_root) {
                out.insert(shown.to_owned(), ('T', Vec::new()));
                added_beneath(container, &after, path, out);
                return;
            }
            let aspects = aspects(image, &before, container, &after);
            if !aspects.is_empty() {
                out.insert(shown.to_owned(), ('C', aspects));
            }
            if before.is_dir() {
                let names: BTreeSet<OsString> =
                    names(image).into_iter().chain(names(container)).collect();
                for name in names {
                    compare_object(
                        &image.join(&name),
                        &container.join(&name),
                        &join(path, &name),
                        out,
                    );
                }
            }
        }
    }
}

fn added_beneath(container: &Path, after: &Metadata, path: &str, out: &mut Differences) {
    if after.is_dir() {
        for name in names(container) {
            let child = container.join(&name);
            let child_path = join(path, &name);
            out.insert(child_path.clone(), ('A', Vec::new()));
            added_beneath(
                &child,
                &stat(&child).expect("still there"),
                &child_path,
                out,
            );
        }
    }
}

fn join(path: &str, name: &OsString) -> String {
    format!("{path}/{}", plimsoll_core::model::escape(name.as_bytes()))
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

fn aspects(
    image: &Path,
    before: &Metadata,
    container: &Path,
    after: &Metadata,
) -> Vec<&'static str> {
    let mut found = Vec::new();
    if before.is_file() && (before.len() != after.len() || digest(image) != digest(container)) {
        found.push("content");
    }
    if before.permissions().mode() & 0o7777 != after.permissions().mode() & 0o7777 {
        found.push("mode");
    }
    if (before.uid(), before.gid()) != (after.uid(), after.gid()) {
        found.push("owner");
    }
    if xattrs(image) != xattrs(container) {
        found.push("xattr");
    }
    if before.is_symlink() && std::fs::read_link(image).ok() != std::fs::read_link(container).ok() {
        found.push("target");
    }
    let is_device = before.file_type().is_char_device() || before.file_type().is_block_device();
    if is_device && before.rdev() != after.rdev() {
        found.push("device");
    }
    if (before.is_file() || before.is_dir()) && flags(image) != flags(container) {
        found.push("flags");
    }
    found
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
    let mut out = BTreeMap::new();
    let mut stack = vec![root.to_owned()];
    while let Some(path) = stack.pop() {
        let Some(m) = stat(&path) else { continue };
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
