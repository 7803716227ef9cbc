//! The layer that a runtime put between image and container, held against that of another container on the
//! same image, in which nothing was found but what the runtime makes.
//!
//! What a comparison tells of such a layer follows from its entries, what each of them is and which attributes
//! it has, and from the image. So one that has the very same of all these, whenever it was made, is told the
//! same way. Everything of it is looked at still, and only what that means is not worked out again.

use std::sync::{Arc, Mutex, PoisonError};

use plimsoll_core::model::{FileType, RuntimePath, Timestamp};
use rustix::io::{Errno, Result};

use super::marks::split;
use crate::fs::{Dir, Stat};
use crate::layers::Layer;

/// Entries that such a layer may have.
const ENTRIES_MAX: usize = 64;

/// Levels of directories in it.
const DEPTH_MAX: usize = 8;

/// The example of one image, once there is one.
#[derive(Debug, Default)]
pub(super) struct Known {
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone)]
enum State {
    /// No container was compared.
    #[default]
    Untried,
    /// One was, which may be the only one.
    Tried,
    /// This layer of one had nothing but what was expected.
    Found(Arc<(Example, Vec<RuntimePath>)>),
}

impl Known {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many entries a layer has, when it is as the example of which nothing was told, with the same
    /// expected. What was read of its root just now need not be read again.
    pub(super) fn is_of(
        &self,
        layer: &Layer,
        root: Option<&Root>,
        expected: &[RuntimePath],
        prefix: &[u8],
    ) -> Option<u64> {
        let found = match &*self.state() {
            State::Found(found) => Arc::clone(found),
            State::Untried | State::Tried => return None,
        };
        let (example, of) = &*found;
        let mut reader = Reader::new(prefix, Sameness::Made);
        let same = |same: Result<bool>| same.is_ok_and(|same| same);
        let is_it = *of == expected && same(reader.is_root(&layer.dir, root, &example.root));
        is_it.then_some(reader.entries)
    }

    /// Reads a layer that may become the example: not the first one, which may be the only one, and not when
    /// there is one.
    pub(super) fn read(&self, layer: &Layer, prefix: &[u8]) -> Option<Example> {
        let mut state = self.state();
        match *state {
            State::Untried => {
                *state = State::Tried;
                return None;
            }
            State::Tried => {}
            State::Found(_) => return None,
        }
        drop(state);
        let mut reader = Reader::new(prefix, Sameness::Whole);
        let root = reader.read(&layer.dir, DEPTH_MAX).ok()??;
        Some(Example { root })
    }

    /// Keeps a layer in which nothing was found but what was expected, when it is now as it was read before
    /// it was compared.
    pub(super) fn keep(
        &self,
        layer: &Layer,
        example: Example,
        expected: &[RuntimePath],
        prefix: &[u8],
    ) {
        let mut reader = Reader::new(prefix, Sameness::Whole);
        if reader.is(&layer.dir, &example.root).is_ok_and(|same| same) {
            *self.state() = State::Found(Arc::new((example, expected.to_vec())));
        }
    }
}

/// Such a layer.
#[derive(Debug)]
pub(in crate::measure) struct Example {
    root: Entry,
}

/// An entry of it, with what is in it.
#[derive(Debug)]
struct Entry {
    name: Box<[u8]>,
    stat: Stat,
    attributes: Attributes,
    /// A symbolic link's.
    target: Option<Vec<u8>>,
    /// A directory's.
    entries: Vec<Entry>,
}

/// Its extended attributes.
#[derive(Debug)]
struct Attributes {
    /// The names of all, each ended by a NUL byte.
    names: Box<[u8]>,
    /// The values of those that mean anything.
    values: Vec<(Box<[u8]>, Vec<u8>)>,
}

/// What was read of the root directory of such a layer.
#[derive(Debug)]
pub struct Root {
    pub(super) stat: Stat,
    /// The names of its extended attributes, each ended by a NUL byte.
    pub(super) names: Box<[u8]>,
}

/// What two layers must have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sameness {
    /// All but which inodes they are, and when they were made.
    Made,
    /// Everything.
    Whole,
}

/// Reads entries, and counts them.
struct Reader<'p> {
    prefix: &'p [u8],
    sameness: Sameness,
    entries: u64,
    names: Vec<u8>,
    value: Vec<u8>,
}

impl<'p> Reader<'p> {
    fn new(prefix: &'p [u8], sameness: Sameness) -> Self {
        Self {
            prefix,
            sameness,
            entries: 0,
            names: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Returns what of an object is held against another one's.
    fn compared(&self, stat: Stat) -> Stat {
        if self.sameness == Sameness::Whole {
            return stat;
        }
        let never = Timestamp {
            seconds: 0,
            nanoseconds: 0,
        };
        // A directory's size is no attribute of it, and its count follows its entries.
        let is_directory = stat.file_type == FileType::Directory;
        let (size, links) = match is_directory {
            true => (0, 0),
            false => (stat.size, stat.links),
        };
        Stat {
            size,
            links,
            mtime: never,
            ctime: never,
            ino: 0,
            ..stat
        }
    }

    /// Reads a directory; `None` when there is anything in it that no runtime puts there.
    fn read(&mut self, dir: &Dir, depth: usize) -> Result<Option<Entry>> {
        let stat = dir.stat_self()?;
        let attributes = self.attributes(dir, b"")?;
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let mut reader = dir.reader(0)?;
        while reader.next_portion(|name| names.push(name.into()))? {
            if names.len() > ENTRIES_MAX {
                return Ok(None);
            }
        }
        drop(reader);
        self.entries += names.len() as u64;
        if self.entries > ENTRIES_MAX as u64 {
            return Ok(None);
        }
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let stat = dir.stat(&name)?;
            let entry = match (stat.file_type, depth.checked_sub(1)) {
                (FileType::Directory, Some(depth)) => self.read(&dir.child(&name)?, depth)?,
                (FileType::Symlink, _) => Some(self.read_leaf(dir, &name, stat)?),
                (FileType::File, _) if stat.size == 0 => Some(self.read_leaf(dir, &name, stat)?),
                _ => None,
            };
            match entry {
                Some(entry) => entries.push(Entry { name, ..entry }),
                None => return Ok(None),
            }
        }
        Ok(Some(Entry {
            name: Box::default(),
            stat,
            attributes,
            target: None,
            entries,
        }))
    }

    fn read_leaf(&mut self, dir: &Dir, name: &[u8], stat: Stat) -> Result<Entry> {
        let target = match stat.file_type {
            FileType::Symlink => Some(dir.read_link(name)?),
            _ => None,
        };
        Ok(Entry {
            name: name.into(),
            stat,
            attributes: self.attributes(dir, name)?,
            target,
            entries: Vec::new(),
        })
    }

    fn attributes(&mut self, dir: &Dir, name: &[u8]) -> Result<Attributes> {
        let names: Box<[u8]> = dir.xattr_names(name, &mut self.names)?.into();
        let mut values = Vec::new();
        for attribute in split(&names).filter(|attribute| means_anything(self.prefix, attribute)) {
            let value = dir.xattr(name, attribute, &mut self.value)?;
            values.push((attribute.into(), value.ok_or(Errno::NODATA)?));
        }
        Ok(Attributes { names, values })
    }

    /// Whether the root of a layer, of which this may have been read, is as this one, with everything in it.
    fn is_root(&mut self, dir: &Dir, root: Option<&Root>, known: &Entry) -> Result<bool> {
        match root {
            None => self.is(dir, known),
            Some(root) => Ok(self.are_same(&root.stat, known)
                && root.names == known.attributes.names
                && self.has_values(dir, b"", &known.attributes)?
                && self.has_entries(dir, known)?),
        }
    }

    /// Whether a directory is as this one, with everything in it.
    fn is(&mut self, dir: &Dir, known: &Entry) -> Result<bool> {
        let stat = dir.stat_self()?;
        Ok(self.are_same(&stat, known)
            && self.has(dir, b"", &known.attributes)?
            && self.has_entries(dir, known)?)
    }

    fn has_entries(&mut self, dir: &Dir, known: &Entry) -> Result<bool> {
        let (mut found, mut strange) = (0, false);
        let mut order = [0u8; ENTRIES_MAX];
        let mut reader = dir.reader(0)?;
        while reader.next_portion(|name| {
            let at = known.entries.iter().position(|entry| *entry.name == *name);
            match (at, order.get_mut(found)) {
                (Some(at), Some(place)) => *place = u8::try_from(at).unwrap_or(u8::MAX),
                _ => strange = true,
            }
            found += 1;
        })? {}
        drop(reader);
        if strange || found != known.entries.len() {
            return Ok(false);
        }
        self.entries += found as u64;
        for at in order.iter().take(found) {
            let Some(entry) = known.entries.get(usize::from(*at)) else {
                return Ok(false);
            };
            let same = match entry.stat.file_type {
                FileType::Directory => self.is(&dir.child(&entry.name)?, entry)?,
                _ => self.is_leaf(dir, entry)?,
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_leaf(&mut self, dir: &Dir, known: &Entry) -> Result<bool> {
        let name = &*known.name;
        let stat = dir.stat(name)?;
        Ok(self.are_same(&stat, known)
            && self.has(dir, name, &known.attributes)?
            && match &known.target {
                Some(target) => dir.read_link(name)? == *target,
                None => true,
            })
    }

    fn are_same(&self, stat: &Stat, known: &Entry) -> bool {
        self.compared(*stat) == self.compared(known.stat)
    }

    fn has(&mut self, dir: &Dir, name: &[u8], known: &Attributes) -> Result<bool> {
        Ok(dir.xattr_names(name, &mut self.names)? == &*known.names
            && self.has_values(dir, name, known)?)
    }

    fn has_values(&mut self, dir: &Dir, name: &[u8], known: &Attributes) -> Result<bool> {
        for (attribute, value) in &known.values {
            if dir.xattr(name, attribute, &mut self.value)?.as_ref() != Some(value) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether the value of an attribute says anything: not that of what the kernel notes for itself, which no
/// process in the container sees and no comparison goes by.
fn means_anything(prefix: &[u8], attribute: &[u8]) -> bool {
    const NOTES: [&[u8]; 4] = [b"impure", b"origin", b"upper", b"uuid"];
    attribute
        .strip_prefix(prefix)
        .is_none_or(|mark| !NOTES.contains(&mark))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    use plimsoll_core::model::{RootPath, RuntimePathKind};

    use super::*;

    const PREFIX: &[u8] = b"trusted.overlay.";

    /// A layer as a runtime makes it, each time in another order.
    fn made(at: &Path, reversed: bool) -> Layer {
        let make = |name: &str| match name {
            "mtab" => symlink("/proc/mounts", at.join("etc/mtab")).unwrap(),
            name => std::fs::write(at.join(name), "").unwrap(),
        };
        std::fs::create_dir_all(at.join("etc/empty")).unwrap();
        let mut names = ["etc/hosts", "mtab", ".dockerenv"];
        if reversed {
            names.reverse();
        }
        names.into_iter().for_each(make);
        Layer {
            dir: Arc::new(Dir::open(at).unwrap()),
            path: at.to_owned(),
            diff_id: None,
        }
    }

    fn expected() -> Vec<RuntimePath> {
        vec![RuntimePath {
            path: RootPath::parse(b"/.dockerenv").unwrap(),
            kind: RuntimePathKind::EmptyFile,
        }]
    }

    #[test]
    fn only_the_very_same_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let known = Known::default();
        let first = made(&at("first"), false);
        assert!(known.read(&first, PREFIX).is_none());
        let second = made(&at("second"), false);
        let example = known.read(&second, PREFIX).unwrap();
        assert_eq!(known.is_of(&second, None, &expected(), PREFIX), None);
        known.keep(&second, example, &expected(), PREFIX);
        let third = made(&at("third"), true);
        assert_eq!(known.is_of(&third, None, &expected(), PREFIX), Some(5));
        assert_eq!(known.is_of(&third, None, &[], PREFIX), None);
        type Edit = fn(&Path);
        let edits: [Edit; 11] = [
            |at| std::fs::write(at.join("etc/hosts"), "x").unwrap(),
            |at| std::fs::write(at.join("etc/empty/new"), "").unwrap(),
            |at| std::fs::write(at.join("new"), "").unwrap(),
            |at| std::fs::remove_file(at.join(".dockerenv")).unwrap(),
            |at| std::fs::rename(at.join(".dockerenv"), at.join(".dockerenw")).unwrap(),
            |at| std::fs::rename(at.join(".dockerenv"), at.join("etc/.dockerenv")).unwrap(),
            |at| std::fs::hard_link(at.join(".dockerenv"), at.join("../other")).unwrap(),
            |at| {
                let mode = std::fs::Permissions::from_mode(0o4755);
                std::fs::set_permissions(at.join(".dockerenv"), mode).unwrap();
            },
            |at| {
                let mode = std::fs::Permissions::from_mode(0o700);
                std::fs::set_permissions(at.join("etc/empty"), mode).unwrap();
            },
            |at| {
                std::fs::remove_file(at.join("etc/mtab")).unwrap();
                symlink("/proc/mountz", at.join("etc/mtab")).unwrap();
            },
            |at| {
                std::fs::remove_file(at.join("etc/hosts")).unwrap();
                std::fs::create_dir(at.join("etc/hosts")).unwrap();
            },
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            let place = dir.path().join(format!("{number}/layer"));
            let layer = made(&place, false);
            assert_eq!(known.is_of(&layer, None, &expected(), PREFIX), Some(5));
            edit(&place);
            assert_eq!(
                known.is_of(&layer, None, &expected(), PREFIX),
                None,
                "{number}"
            );
        }
    }

    /// What is changed between the two readings of the example is none.
    #[test]
    fn what_does_not_stay_is_no_example() {
        let dir = tempfile::tempdir().unwrap();
        let layer = made(&dir.path().join("layer"), false);
        let known = Known::default();
        known.read(&layer, PREFIX);
        let example = known.read(&layer, PREFIX).unwrap();
        let file = dir.path().join("layer/.dockerenv");
        // Kernels before 6.13 give all that is done within a tick of the clock one time.
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&file, "x").unwrap();
        std::fs::write(&file, "").unwrap();
        known.keep(&layer, example, &expected(), PREFIX);
        assert_eq!(known.is_of(&layer, None, &expected(), PREFIX), None);
        // One with a file in it that is not empty may be anything.
        std::fs::write(&file, "x").unwrap();
        assert!(known.read(&layer, PREFIX).is_none());
    }
}
