//! The paths that a runtime makes in a rootfs for what it mounts there.

use std::collections::BTreeSet;

use plimsoll_core::model::{Change, ChangeKind, FileType, RootPath, RuntimePath, RuntimePathKind};

/// Longest path that a runtime can make, in bytes (`PATH_MAX`).
const PATH_MAX: usize = 4096;

/// Bytes of all paths together, those of the directories above them included: a record of the length
/// that is read at most could name more than fits into memory.
pub(in crate::runtimes) const MADE_MAX: usize = 8 << 20;

/// Paths that a runtime makes, each once.
#[derive(Default)]
pub(in crate::runtimes) struct Made {
    directories: BTreeSet<RootPath>,
    files: BTreeSet<RootPath>,
    bytes: usize,
}

impl Made {
    /// Adds a directory with those above it, or nothing when they have no room.
    pub(in crate::runtimes) fn directory(&mut self, path: RootPath) {
        let mut new = Vec::new();
        let mut bytes = self.bytes;
        let mut next = Some(path);
        while let Some(path) = next.filter(|path| path.as_bytes() != b"/") {
            // Those above a known one are known.
            if self.directories.contains(&path) {
                break;
            }
            bytes += path.as_bytes().len();
            next = path.parent();
            new.push(path);
        }
        if bytes <= MADE_MAX {
            self.bytes = bytes;
            self.directories.extend(new);
        }
    }

    /// Adds a file, or nothing when it has no room.
    pub(in crate::runtimes) fn file(&mut self, path: RootPath) {
        let bytes = self.bytes + path.as_bytes().len();
        if bytes <= MADE_MAX && self.directories.contains(&path) && self.files.insert(path) {
            self.bytes = bytes;
        }
    }

    /// Returns them, the directories first.
    pub(in crate::runtimes) fn paths(self) -> Vec<RuntimePath> {
        let of = |kind: RuntimePathKind| {
            move |path| RuntimePath {
                path,
                kind: kind.clone(),
            }
        };
        let directories = self.directories.into_iter();
        let files = self.files.into_iter();
        directories
            .map(of(RuntimePathKind::Directory))
            .chain(files.map(of(RuntimePathKind::EmptyFile)))
            .collect()
    }
}

/// Whether a change can be something that a runtime makes for a mount: a directory where none was, or an empty
/// file. See [`RuntimePath::covers`].
pub(in crate::runtimes) fn may_be_made(change: &Change) -> bool {
    let is_new = change.kind == ChangeKind::Added;
    change.after().is_some_and(|after| match after.file_type {
        FileType::Directory => is_new,
        FileType::File => after.size == 0,
        _ => false,
    })
}

/// Returns a path of a record; `None` for one in another form than runtimes write it, and for the root.
pub(in crate::runtimes) fn clean(path: &str) -> Option<RootPath> {
    RootPath::parse(path.as_bytes())
        .ok()
        .filter(|path| path.as_bytes() != b"/" && path.as_bytes().len() < PATH_MAX)
}
