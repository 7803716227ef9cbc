//! What a runtime makes in a writable layer before a container runs, from the paths that its record names.

use std::collections::BTreeSet;

use plimsoll_core::model::{RootPath, RuntimePath, RuntimePathKind};

/// Longest path that can be made, in bytes (`PATH_MAX`).
const PATH_MAX: usize = 4096;

/// Bytes of all paths together, those of the directories above them included: a record of the length
/// that is read at most could name more than fits into memory.
pub(super) const MADE_MAX: usize = 8 << 20;

/// Paths that a runtime makes, each once.
#[derive(Debug, Default)]
pub(super) struct Made {
    directories: BTreeSet<RootPath>,
    files: BTreeSet<RootPath>,
    bytes: usize,
}

impl Made {
    /// Adds a directory with those above it, or nothing when they have no room.
    pub(super) fn directory(&mut self, path: RootPath) {
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
    pub(super) fn file(&mut self, path: RootPath) {
        let bytes = self.bytes + path.as_bytes().len();
        if bytes <= MADE_MAX && self.directories.contains(&path) && self.files.insert(path) {
            self.bytes = bytes;
        }
    }

    /// Returns them.
    pub(super) fn paths(self) -> Vec<RuntimePath> {
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

/// Parses a path of a record in which something can be made. One in another form than that of a clean
/// absolute path is none.
pub(super) fn clean(path: &str) -> Option<RootPath> {
    RootPath::parse(path.as_bytes())
        .ok()
        .filter(|path| path.as_bytes() != b"/" && path.as_bytes().len() < PATH_MAX)
}
