//! The files of a layer as they lie on disk.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use plimsoll_core::model::{Attributes, Bytes, FileType, RootPath};
use rustix::io::Errno;

use super::member;
use crate::fs::{Dir, Stat, open_regular};
use crate::layers::MarkNamespace;
use crate::measure::Trouble;
use crate::measure::compare::LABELS;
use crate::measure::overlay::marks::{MarkReader, Marks, is_note};

/// The directory of a layer.
#[derive(Debug)]
pub(super) struct Tree {
    root: Arc<Dir>,
    marks: Option<MarkNamespace>,
    reader: RefCell<MarkReader>,
    /// The directory that was looked into last: members stand together.
    last: RefCell<Option<(RootPath, Arc<Dir>)>>,
}

/// Something in it.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) stat: Stat,
    marks: Marks,
    dir: Arc<Dir>,
    name: Box<[u8]>,
}

impl Tree {
    /// Returns the tree in a directory; `marks` is what the layers of an overlay have.
    pub(super) fn new(root: Arc<Dir>, marks: Option<MarkNamespace>) -> Self {
        Self {
            root,
            marks,
            reader: RefCell::new(MarkReader::new(marks)),
            last: RefCell::new(None),
        }
    }

    /// Takes the notes of an overlay out of attributes that a stream says: one that was made of a user's
    /// overlay has them. Returns whether they make a directory opaque.
    pub(super) fn take_notes(&self, xattrs: &mut Vec<(Bytes, Bytes)>) -> bool {
        let Some(prefix) = self.marks.and_then(MarkNamespace::prefix) else {
            return false;
        };
        let mut opaque = false;
        xattrs.retain(|(name, value)| {
            let mark = name.as_bytes().strip_prefix(prefix);
            opaque |= mark == Some(b"opaque") && value.as_bytes() == b"y";
            !mark.is_some_and(is_note)
        });
        opaque
    }

    /// Whether its marks are those of fuse-overlayfs.
    pub(super) fn is_of_fuse(&self) -> bool {
        self.reader.borrow().are_fuse()
    }

    /// Whether a mark beside a path says that it is gone.
    pub(super) fn is_gone(&self, path: &RootPath) -> Result<bool, Trouble> {
        let Some(parent) = path.parent() else {
            return Ok(false);
        };
        match self.directory(&parent) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            dir => {
                let name = path.components().last().unwrap_or_default();
                self.reader.borrow().hides(&*dir?, name)
            }
        }
    }

    /// Returns the directory at a path.
    pub(super) fn directory(&self, path: &RootPath) -> Result<Arc<Dir>, Errno> {
        if let Some((known, dir)) = &*self.last.borrow()
            && known == path
        {
            return Ok(Arc::clone(dir));
        }
        let beneath = path.as_bytes().get(1..).unwrap_or_default();
        let dir = match beneath {
            b"" => Arc::clone(&self.root),
            beneath => Arc::new(self.root.open_beneath(beneath)?),
        };
        *self.last.borrow_mut() = Some((path.clone(), Arc::clone(&dir)));
        Ok(dir)
    }

    /// Opens the regular file that a member of the stream is named for.
    pub(super) fn open(&self, name: &[u8]) -> Result<(OwnedFd, Stat), Trouble> {
        let path = member::path(name).map_err(|error| Trouble(error.to_string()))?;
        let parent = path.parent().ok_or_else(|| Trouble("no file".into()))?;
        let name = path.components().last().unwrap_or_default();
        Ok(open_regular(&*self.directory(&parent)?, name)?)
    }

    /// Returns what is at a path; `None` when there is nothing.
    pub(super) fn look(&self, path: &RootPath) -> Result<Option<Object>, Trouble> {
        let (dir, name): (_, Box<[u8]>) = match path.parent() {
            None => (Arc::clone(&self.root), Box::default()),
            Some(parent) => match self.directory(&parent) {
                // What stands in the place of the directory is told by itself.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                dir => (dir?, path.components().last().unwrap_or_default().into()),
            },
        };
        let stat = match &*name {
            b"" => dir.stat_self(),
            name => dir.stat(name),
        };
        let stat = match stat {
            Err(Errno::NOENT) => return Ok(None),
            stat => stat?,
        };
        let marks = self.reader.borrow_mut().of(&dir, &name, &stat)?;
        Ok(Some(Object {
            stat,
            marks,
            dir,
            name,
        }))
    }

    /// Returns the attributes of something.
    pub(super) fn attributes(&self, object: &Object) -> Result<Attributes, Trouble> {
        let target = match object.stat.file_type {
            FileType::Symlink => Some(Bytes::from(object.dir.read_link(&object.name)?)),
            _ => None,
        };
        Ok(object.stat.attributes(target))
    }

    /// Returns the extended attributes of something that a process in a container sees, and the marks by
    /// which an overlay would show other things there, sorted by name; but for those that the host's
    /// security module gives to every file.
    pub(super) fn xattrs(&self, object: &Object) -> Result<Vec<(Bytes, Bytes)>, Trouble> {
        let mut reader = self.reader.borrow_mut();
        let mut xattrs = reader.visible(&object.dir, &object.name, &object.marks)?;
        xattrs.extend(reader.leading(&object.dir, &object.name, &object.marks)?);
        xattrs.sort();
        xattrs.retain(|(name, _)| !LABELS.contains(&name.as_bytes()));
        if let Some(owners) = object.dir.owners() {
            for (name, value) in &mut xattrs {
                *value = owners
                    .seen_value(name.as_bytes(), value.as_bytes().to_vec())
                    .into();
            }
        }
        Ok(xattrs)
    }
}

impl Object {
    /// Opens it, which is a regular file.
    pub(super) fn open(&self) -> Result<OwnedFd, Trouble> {
        let (fd, _) = open_regular(&self.dir, &self.name)?;
        Ok(fd)
    }

    /// Whether it hides what lies beneath it in the layers below.
    pub(super) fn is_whiteout(&self) -> bool {
        self.stat.is_whiteout_device() || self.marks.whiteout
    }

    /// Whether it is a directory that hides those of the layers below.
    pub(super) fn is_opaque(&self) -> bool {
        self.marks.opaque
    }
}
