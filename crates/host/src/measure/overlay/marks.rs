//! The attributes by which overlayfs marks entries, and those that a process in the container sees.

use plimsoll_core::model::{Bytes, FileType};
use rustix::io::Errno;

use crate::fs::{Dir, Stat};
use crate::layers::MarkNamespace;
use crate::measure::Trouble;

/// XFS shows each POSIX ACL a second time, in its own format and under its own name
/// (kernel `fs/xfs/xfs_acl.h`).
const XFS_ACL_TWINS: &[u8] = b"trusted.SGI_ACL_";

/// What the marks on one entry say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Names of all extended attributes, each ended by a NUL byte.
    names: Box<[u8]>,
    /// Nothing beneath shows through (`opaque` = `y`).
    pub(super) opaque: bool,
    /// A regular file that stands for a whiteout.
    pub(super) whiteout: bool,
    /// The data is further down (`metacopy`).
    pub(super) metacopy: bool,
    /// Where the layers beneath have it: a name, or a path from the root.
    pub(super) redirect: Option<Box<[u8]>>,
    /// The inode flags that cannot be set on the copy itself (`protattr`).
    pub(super) immutable: bool,
    pub(super) append_only: bool,
}

/// Reads marks and attributes.
#[derive(Debug)]
pub(super) struct MarkReader {
    namespace: Option<MarkNamespace>,
    buffer: Vec<u8>,
}

impl MarkReader {
    pub(super) fn new(namespace: Option<MarkNamespace>) -> Self {
        Self {
            namespace,
            buffer: Vec::new(),
        }
    }

    /// Reads the marks of an entry; an empty `name` means the directory itself.
    pub(super) fn of(&mut self, dir: &Dir, name: &[u8], stat: &Stat) -> Result<Marks, Trouble> {
        let names: Box<[u8]> = match dir.xattr_names(name, &mut self.buffer) {
            Ok(names) => names.into(),
            Err(Errno::RANGE | Errno::TOOBIG) => {
                return Err(Trouble(
                    "the names of its extended attributes do not fit into 64 KiB".into(),
                ));
            }
            Err(errno) => return Err(errno.into()),
        };
        let mut marks = Marks::default();
        let Some(prefix) = self.namespace.map(MarkNamespace::prefix) else {
            return Ok(Marks { names, ..marks });
        };
        for attribute in split(&names) {
            let Some(mark) = attribute.strip_prefix(prefix) else {
                continue;
            };
            match mark {
                b"opaque" if stat.file_type == FileType::Directory => {
                    // `x` says that the directory holds whiteouts in the form of files; it hides
                    // nothing by itself.
                    marks.opaque = self.value(dir, name, attribute)?.as_deref() == Some(b"y");
                }
                b"whiteout" => marks.whiteout = stat.file_type == FileType::File && stat.size == 0,
                b"metacopy" => marks.metacopy = stat.file_type == FileType::File,
                b"redirect" => {
                    marks.redirect = self
                        .value(dir, name, attribute)?
                        .map(Vec::into_boxed_slice)
                        .filter(|r| !r.is_empty());
                }
                b"protattr" => {
                    let flags = self.value(dir, name, attribute)?.unwrap_or_default();
                    marks.immutable = flags.contains(&b'i');
                    marks.append_only = flags.contains(&b'a');
                }
                _ => {}
            }
        }
        marks.names = names;
        Ok(marks)
    }

    /// Returns the attributes that a process in the container sees, sorted by name.
    ///
    /// The marks are hidden; an attribute that such a process itself set in the marks' name space is
    /// stored with one more `overlay.` in its name, and shown without (kernel `fs/overlayfs/xattrs.c`).
    pub(super) fn visible(
        &mut self,
        dir: &Dir,
        name: &[u8],
        marks: &Marks,
    ) -> Result<Vec<(Bytes, Bytes)>, Trouble> {
        let mut visible = Vec::new();
        for attribute in split(&marks.names) {
            if attribute.starts_with(XFS_ACL_TWINS) {
                continue;
            }
            let shown = match self
                .namespace
                .map(MarkNamespace::prefix)
                .map(|p| (p, attribute.strip_prefix(p)))
            {
                Some((prefix, Some(mark))) => match mark.strip_prefix(b"overlay.") {
                    Some(escaped) => [prefix, escaped].concat(),
                    None => continue,
                },
                _ => attribute.to_vec(),
            };
            // One that vanished since it was listed was removed: that is its state now.
            if let Some(value) = self.value(dir, name, attribute)? {
                visible.push((Bytes::from(shown), Bytes::from(value)));
            }
        }
        visible.sort();
        Ok(visible)
    }

    fn value(
        &mut self,
        dir: &Dir,
        name: &[u8],
        attribute: &[u8],
    ) -> Result<Option<Vec<u8>>, Trouble> {
        Ok(dir.xattr(name, attribute, &mut self.buffer)?)
    }
}

fn split(names: &[u8]) -> impl Iterator<Item = &[u8]> {
    names.split(|b| *b == 0).filter(|name| !name.is_empty())
}
