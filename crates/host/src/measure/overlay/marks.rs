//! The attributes by which overlayfs marks entries, and those that a process in the container sees.

use plimsoll_core::model::{Attributes, Bytes, FileType};
use rustix::io::Errno;

use super::fuse;
use crate::fs::{Dir, Stat};
use crate::layers::MarkNamespace;
use crate::measure::Trouble;

/// XFS shows each POSIX ACL a second time, in its own format and under its own name
/// (kernel `fs/xfs/xfs_acl.h`).
const XFS_ACL_TWINS: &[u8] = b"trusted.SGI_ACL_";

/// What the marks on one entry say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Names of all extended attributes, each ended by a NUL byte.
    names: Box<[u8]>,
    /// Nothing beneath shows through (`opaque` = `y`).
    pub(crate) opaque: bool,
    /// A regular file that stands for a whiteout.
    pub(crate) whiteout: bool,
    /// The data is further down (`metacopy`).
    pub(super) metacopy: bool,
    /// Where the layers beneath have it: a name, or a path from the root.
    pub(super) redirect: Option<Box<[u8]>>,
    /// The inode flags that cannot be set on the copy itself (`protattr`).
    pub(super) immutable: bool,
    pub(super) append_only: bool,
    /// What fuse-overlayfs notes with a copy: the path of the original in the layers beneath.
    pub(super) origin: Option<Box<[u8]>>,
    /// Whether an attribute of fuse-overlayfs says that it is not opaque.
    pub(super) denied: bool,
}

impl Marks {
    /// Returns the names of all extended attributes, each ended by a NUL byte.
    pub(super) fn names(&self) -> &[u8] {
        &self.names
    }

    /// Returns attributes as the flags show them that could not be set on the copy itself.
    pub(super) fn shown(&self, attributes: Attributes) -> Attributes {
        Attributes {
            immutable: attributes.immutable | self.immutable,
            append_only: attributes.append_only | self.append_only,
            ..attributes
        }
    }

    /// Decodes the marks of an object of this type and size from the names of its attributes, each
    /// ended by a NUL byte; `value` reads one.
    pub(super) fn decode(
        prefix: &[u8],
        names: &[u8],
        (file_type, size): (FileType, u64),
        mut value: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, Trouble>,
    ) -> Result<Self, Trouble> {
        let mut marks = Self::default();
        for attribute in split(names) {
            let Some(mark) = attribute.strip_prefix(prefix) else {
                continue;
            };
            match mark {
                b"opaque" if file_type == FileType::Directory => {
                    // `x` says that the directory holds whiteouts in the form of files; it hides
                    // nothing by itself.
                    marks.opaque = value(attribute)?.as_deref() == Some(b"y");
                }
                b"whiteout" => marks.whiteout = file_type == FileType::File && size == 0,
                b"metacopy" => marks.metacopy = file_type == FileType::File,
                b"redirect" => {
                    marks.redirect = value(attribute)?.map(redirect).transpose()?;
                }
                b"protattr" => {
                    let flags = value(attribute)?.unwrap_or_default();
                    marks.immutable = flags.contains(&b'i');
                    marks.append_only = flags.contains(&b'a');
                }
                _ => {}
            }
        }
        Ok(marks)
    }
}

/// Returns the value of a redirect if the kernel follows it: one name, or a path of names from the root
/// (`ovl_get_redirect_xattr` in `fs/overlayfs/util.c`, `lookup_one` in `fs/namei.c`). Any other would
/// lead out of the layer.
fn redirect(value: Vec<u8>) -> Result<Box<[u8]>, Trouble> {
    let is_name = |name: &[u8]| {
        ![&b""[..], b".", b".."].contains(&name) && !name.iter().any(|b| [0, b'/'].contains(b))
    };
    let good = match value.strip_prefix(b"/") {
        Some(path) => path.split(|b| *b == b'/').all(is_name),
        None => is_name(&value),
    };
    if good {
        return Ok(value.into());
    }
    Err(Trouble(format!(
        "its redirect is none that the kernel follows: \"{}\"",
        plimsoll_core::model::escape(&value)
    )))
}

/// Returns the name by which a process in the container sees an attribute; `None` for a mark.
pub(super) fn shown(namespace: Option<MarkNamespace>, attribute: &[u8]) -> Option<Vec<u8>> {
    if let Some(MarkNamespace::Fuse { trusted }) = namespace {
        return fuse::is_shown(attribute, trusted).then(|| attribute.to_vec());
    }
    let prefix = namespace.and_then(MarkNamespace::prefix);
    match prefix.and_then(|prefix| Some((prefix, attribute.strip_prefix(prefix)?))) {
        Some((prefix, mark)) => {
            let escaped = mark.strip_prefix(b"overlay.")?;
            Some([prefix, escaped].concat())
        }
        None => Some(attribute.to_vec()),
    }
}

/// Whether a mark is what the kernel notes for itself (`fs/overlayfs/overlayfs.h`), or stands in [`Marks`] in
/// a form that says all of it.
pub(crate) fn is_note(mark: &[u8]) -> bool {
    const NOTES: [&[u8]; 7] = [
        b"impure",
        b"nlink",
        b"opaque",
        b"origin",
        b"upper",
        b"uuid",
        b"whiteout",
    ];
    NOTES.contains(&mark)
}

/// Reads marks and attributes.
#[derive(Debug)]
pub(crate) struct MarkReader {
    namespace: Option<MarkNamespace>,
    buffer: Vec<u8>,
}

impl MarkReader {
    pub(crate) fn new(namespace: Option<MarkNamespace>) -> Self {
        Self {
            namespace,
            buffer: Vec::new(),
        }
    }

    /// Reads the marks of an entry; an empty `name` means the directory itself.
    pub(crate) fn of(&mut self, dir: &Dir, name: &[u8], stat: &Stat) -> Result<Marks, Trouble> {
        let names: Box<[u8]> = match dir.xattr_names(name, &mut self.buffer) {
            Ok(names) => names.into(),
            Err(Errno::RANGE | Errno::TOOBIG) => {
                return Err(Trouble(
                    "the names of its extended attributes do not fit into 64 KiB".into(),
                ));
            }
            Err(errno) => return Err(errno.into()),
        };
        let is = (stat.file_type, stat.size);
        let namespace = self.namespace;
        let value = |attribute: &[u8]| self.value(dir, name, attribute);
        let marks = match namespace {
            None => Marks::default(),
            Some(MarkNamespace::Fuse { trusted }) => {
                let decoded = fuse::decode(&names, stat.file_type, trusted, value)?;
                let opaque = match decoded.opaque {
                    Some(opaque) => opaque,
                    None => stat.file_type == FileType::Directory && fuse::has_opaque(dir, name)?,
                };
                Marks {
                    opaque,
                    origin: decoded.origin,
                    denied: decoded.opaque == Some(false),
                    ..Marks::default()
                }
            }
            Some(kernel) => {
                let prefix = kernel.prefix().unwrap_or_default();
                Marks::decode(prefix, &names, is, value)?
            }
        };
        Ok(Marks { names, ..marks })
    }

    /// Whether the marks are those of fuse-overlayfs.
    pub(crate) fn are_fuse(&self) -> bool {
        self.namespace.is_some_and(MarkNamespace::is_fuse)
    }

    /// Whether a directory of a layer says, by a file beside it, that a name is gone: what this layer has
    /// by that name, and what those beneath it have.
    pub(crate) fn hides(&self, dir: &Dir, name: &[u8]) -> Result<bool, Trouble> {
        match self.are_fuse() {
            true => fuse::hides(dir, name),
            false => Ok(false),
        }
    }

    /// Returns the attributes that a process in the container sees, sorted by name.
    ///
    /// The marks are hidden; an attribute that such a process itself set in the marks' name space is
    /// stored with one more `overlay.` in its name, and shown without (kernel `fs/overlayfs/xattrs.c`).
    pub(crate) fn visible(
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
            let Some(shown) = shown(self.namespace, attribute) else {
                continue;
            };
            // One that vanished since it was listed was removed: that is its state now.
            if let Some(value) = self.value(dir, name, attribute)? {
                visible.push((Bytes::from(shown), Bytes::from(value)));
            }
        }
        visible.sort();
        Ok(visible)
    }

    /// Returns the marks that lead elsewhere, or that nobody knows, with their names, sorted: a layer that
    /// was unpacked has none of them by itself.
    pub(crate) fn leading(
        &mut self,
        dir: &Dir,
        name: &[u8],
        marks: &Marks,
    ) -> Result<Vec<(Bytes, Bytes)>, Trouble> {
        let mut leading = Vec::new();
        let Some(prefix) = self.namespace.and_then(MarkNamespace::prefix) else {
            return Ok(leading);
        };
        for attribute in split(&marks.names) {
            let Some(mark) = attribute.strip_prefix(prefix) else {
                continue;
            };
            if !mark.starts_with(b"overlay.")
                && !is_note(mark)
                && let Some(value) = self.value(dir, name, attribute)?
            {
                leading.push((Bytes::from(attribute), Bytes::from(value)));
            }
        }
        leading.sort();
        Ok(leading)
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

pub(super) fn split(names: &[u8]) -> impl Iterator<Item = &[u8]> {
    names.split(|b| *b == 0).filter(|name| !name.is_empty())
}
