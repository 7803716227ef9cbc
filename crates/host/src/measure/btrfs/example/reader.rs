//! What is new in the blocks of a subvolume since it became a snapshot of its image's.

use std::ops::ControlFlow;

use plimsoll_core::model::FileType;

use crate::fs::btrfs::decode::{
    self, DIR_INDEX, DIR_ITEM, EXTENT_DATA, FileExtent, INODE_ITEM, INODE_REF, Inode, Item,
    Location, Place, XATTR_ITEM,
};
use crate::fs::btrfs::{ROOT_DIRECTORY, TreeError, Trees};
use crate::measure::btrfs::candidates::LAST_FREE_OBJECTID;

/// Objects and entries that such a subvolume may have of its own, attributes of one, and levels of directories.
const OWN_MAX: usize = 64;
const DEPTH_MAX: usize = 8;

/// Entries of directories that are listed to find out which are new.
pub(super) const LISTED_MAX: usize = 4096;

/// Extended attributes: names and values.
pub(super) type Attributes = Vec<(Box<[u8]>, Box<[u8]>)>;

/// What such a subvolume has of its own: equal ones are the same over the same image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layer {
    /// The directories that were inherited and changed since.
    pub(super) touched: Vec<(u64, Object)>,
    /// The entries of these that were inherited, by directory and index: where all are read.
    kept: Vec<(u64, u64)>,
    /// What was made since, by the directory that was inherited, and the names on the way there, upwards.
    made: Vec<((u64, Vec<u8>), Object)>,
}

/// An object, its times and numbers aside.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// Size, links, owner, group, mode, device, flags and bytes.
    pub(super) item: (u64, u32, u32, u32, u32, u64, u64, u64),
    pub(super) attributes: Attributes,
    /// A symbolic link's.
    target: Option<Box<[u8]>>,
}

/// What is known of a directory of the image.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) number: u64,
    /// The entries that are read of it: the last one alone, or all. None where the directory itself was not
    /// touched, so that all are passed over.
    pub(super) entries: Vec<Entry>,
    /// The indexes of those that went away, where the last one alone is read.
    pub(super) missing: Vec<u64>,
    /// Whether there are so many that they are passed over.
    pub(super) is_large: bool,
}

/// An entry of a directory: its index, and the whole item.
pub(super) type Entry = (u64, Box<[u8]>);

/// An object that is being read.
#[derive(Debug)]
struct Read {
    number: u64,
    is_new: bool,
    object: Object,
    /// Of one that was made: the directory and the name.
    name: Option<(u64, Box<[u8]>)>,
}

/// What is read of the blocks that are new.
pub(super) struct Reader<'k> {
    base: u64,
    /// `None` the first time: then of the entries of directories that were inherited none is taken to be new.
    known: Option<&'k [Directory]>,
    /// How many items, of how many bytes, are expected between what is passed over, and were read.
    pub(super) expected: &'k [(u32, usize)],
    pub(super) stretches: Vec<(u32, usize)>,
    objects: Vec<Read>,
    /// Directory, name and inode of entries that are new.
    entries: Vec<(u64, Box<[u8]>, u64)>,
    /// Directory and index of those that were inherited.
    kept: Vec<(u64, u64)>,
    /// The first time: all entries of directories that were inherited and changed.
    pub(super) listed: Vec<(u64, Entry)>,
    /// Entries of each directory that did not change.
    pub(super) inherited: Vec<(u64, usize)>,
}

/// It has what no runtime makes there, or what cannot be told here.
pub(super) struct Strange;

impl<'k> Reader<'k> {
    pub(super) fn new(base: u64, known: Option<&'k [Directory]>) -> Self {
        Self {
            base,
            known,
            expected: &[],
            stretches: Vec::new(),
            objects: Vec::new(),
            entries: Vec::new(),
            kept: Vec::new(),
            listed: Vec::new(),
            inherited: Vec::new(),
        }
    }

    /// Reads what is new in a subvolume.
    pub(super) fn read(
        &mut self,
        trees: &mut Trees<'_>,
        tree: u64,
    ) -> Result<Result<(), Strange>, TreeError> {
        let later = self.base.saturating_add(1);
        let end = (LAST_FREE_OBJECTID, u8::MAX, u64::MAX);
        let mut from = (ROOT_DIRECTORY, 0, 0);
        let mut expected = self.expected.iter();
        let known = self.known.unwrap_or_default();
        let gaps = known.iter().filter(|of| of.is_large).map(|directory| {
            let number = directory.number;
            let next = match directory.entries.first() {
                Some((index, _)) => (number, DIR_INDEX, *index),
                None => (number, DIR_INDEX + 1, 0),
            };
            ((number, DIR_ITEM - 1, u64::MAX), next)
        });
        for (upto, next) in gaps.chain([(end, end)]) {
            let mut strange = false;
            let (mut count, mut bytes) = (0, 0);
            let each = |item: Item<'_>| {
                count += 1;
                bytes += decode::HEADER + item.data.len();
                strange = self.item(&item).is_err();
                match strange {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            };
            match expected.next() {
                // What is behind the last one that is passed over is read to the end.
                Some(stretch) if upto != end => {
                    trees.each_expected(tree, (from, upto), later, *stretch, each)?;
                }
                _ => trees.each_of_many(tree, (from, upto), later, each)?,
            }
            self.stretches.push((count, bytes));
            if strange {
                return Ok(Err(Strange));
            }
            from = next;
        }
        for (number, index) in known
            .iter()
            .flat_map(|of| of.missing.iter().map(|index| (of.number, *index)))
        {
            let key = (number, DIR_INDEX, index);
            if trees.has_item(tree, key)? {
                return Ok(Err(Strange));
            }
        }
        Ok(Ok(()))
    }

    fn item(&mut self, item: &Item<'_>) -> Result<(), Strange> {
        let number = item.objectid;
        if item.kind == INODE_ITEM {
            return self.inode(number, &Inode::decode(item.data).ok_or(Strange)?);
        }
        let Some(read) = self.objects.last_mut().filter(|of| of.number == number) else {
            // Of an inode that was inherited and did not change. An extent that is new tells of one that did.
            return match item.kind {
                EXTENT_DATA => match FileExtent::decode(item.data) {
                    Some(extent) if extent.generation <= self.base => Ok(()),
                    _ => Err(Strange),
                },
                DIR_ITEM | DIR_INDEX => {
                    self.count(number);
                    Ok(())
                }
                _ => Ok(()),
            };
        };
        match item.kind {
            INODE_REF if !read.is_new => Ok(()),
            INODE_REF => {
                let mut names = decode::inode_refs(item.data);
                match (names.next(), names.next(), &read.name) {
                    (Some(Some(name)), None, None) => {
                        read.name = Some((item.offset, name.into()));
                        Ok(())
                    }
                    _ => Err(Strange),
                }
            }
            XATTR_ITEM => add_attributes(&mut read.object.attributes, item.data),
            // By which names are found; those in the order in which they were made say the same.
            DIR_ITEM => Ok(()),
            DIR_INDEX => self.entry(item),
            EXTENT_DATA if read.is_new => match FileExtent::decode(item.data) {
                Some(FileExtent {
                    place: Place::Inline(target),
                    compression: 0,
                    ..
                }) if is_link(&read.object) && read.object.target.is_none() => {
                    read.object.target = Some(target);
                    Ok(())
                }
                _ => Err(Strange),
            },
            _ => Err(Strange),
        }
    }

    fn inode(&mut self, number: u64, inode: &Inode) -> Result<(), Strange> {
        let is_new = inode.generation > self.base;
        if !is_new && inode.transid <= self.base {
            return Ok(());
        }
        let file_type = FileType::from_mode(inode.mode).ok_or(Strange)?;
        let may_be = match file_type {
            FileType::Directory => true,
            FileType::File => is_new && inode.size == 0 && inode.links == 1,
            FileType::Symlink => is_new && inode.links == 1,
            _ => false,
        };
        if !may_be || self.objects.len() == OWN_MAX {
            return Err(Strange);
        }
        self.objects.push(Read {
            number,
            is_new,
            object: Object {
                item: (
                    inode.size,
                    inode.links,
                    inode.uid,
                    inode.gid,
                    inode.mode,
                    inode.rdev,
                    inode.flags,
                    inode.bytes,
                ),
                attributes: Attributes::new(),
                target: None,
            },
            name: None,
        });
        Ok(())
    }

    /// Takes an entry of the object that was read last.
    fn entry(&mut self, item: &Item<'_>) -> Result<(), Strange> {
        let number = item.objectid;
        let is_new = self.objects.last().is_some_and(|of| of.is_new);
        let Some(known) = self.known else {
            if is_new {
                return self.new_entry(item);
            }
            self.listed.push((number, (item.offset, item.data.into())));
            return match self.listed.len() > LISTED_MAX {
                true => Err(Strange),
                false => Ok(()),
            };
        };
        let known = known.iter().find(|of| of.number == number);
        let entries = known.map_or(&[][..], |of| &of.entries);
        // What is before the only one that is read.
        if let [(only, _)] = entries
            && item.offset < *only
        {
            return Ok(());
        }
        let at = entries.binary_search_by_key(&item.offset, |(index, _)| *index);
        let inherited = at.ok().and_then(|at| entries.get(at));
        match inherited.is_some_and(|(_, data)| **data == *item.data) {
            true => {
                self.kept.push((number, item.offset));
                Ok(())
            }
            false => self.new_entry(item),
        }
    }

    fn new_entry(&mut self, item: &Item<'_>) -> Result<(), Strange> {
        let number = item.objectid;
        let mut entries = decode::dir_entries(item.data);
        match (entries.next(), entries.next()) {
            (Some(Some(entry)), None) if self.entries.len() < OWN_MAX => match entry.location {
                Some(Location::Inode(inode)) => {
                    self.entries.push((number, entry.name.into(), inode));
                    Ok(())
                }
                _ => Err(Strange),
            },
            _ => Err(Strange),
        }
    }

    /// Counts an entry of a directory that did not change.
    fn count(&mut self, number: u64) {
        match self.inherited.last_mut() {
            Some((last, count)) if *last == number => *count += 1,
            _ => self.inherited.push((number, 1)),
        }
    }

    /// Returns the numbers of the directories that were inherited and changed.
    pub(super) fn touched(&self) -> impl Iterator<Item = u64> {
        let touched = self.objects.iter().filter(|of| !of.is_new);
        touched.map(|of| of.number)
    }

    /// Returns how large each directory must be that was inherited and changed, if no entry is missing in it
    /// but those that were not found where all of them were read.
    pub(super) fn sizes(
        &self,
        trees: &mut Trees<'_>,
        image: u64,
    ) -> Result<Option<Vec<u64>>, TreeError> {
        let mut sizes = Vec::new();
        for number in self.touched() {
            let added = self.entries.iter().filter(|(dir, ..)| *dir == number);
            let added: u64 = added.map(|(_, name, _)| name.len() as u64).sum();
            let known = self.known.unwrap_or_default();
            let entries = known.iter().find(|of| of.number == number);
            let inherited = match entries.map_or(&[][..], |of| &of.entries) {
                [] => 0,
                [_] => {
                    let Some(inode) = trees.inode(image, number)? else {
                        return Ok(None);
                    };
                    let missing = entries.map_or(&[][..], |of| &of.missing);
                    let mut bytes = 0;
                    for index in missing {
                        let key = (number, DIR_INDEX, *index);
                        let names = trees.one(image, key, |data| {
                            let names = decode::dir_entries(data).flatten();
                            Some(names.map(|of| of.name.len() as u64).sum::<u64>())
                        })?;
                        bytes += 2 * names.unwrap_or(0);
                    }
                    inode.size.saturating_sub(bytes)
                }
                entries => {
                    let is_kept = |index: &u64| self.kept.contains(&(number, *index));
                    let kept = entries.iter().filter(|(index, _)| is_kept(index));
                    let names = kept.flat_map(|(_, data)| decode::dir_entries(data));
                    names.flatten().map(|of| 2 * of.name.len() as u64).sum()
                }
            };
            sizes.push(inherited + 2 * added);
        }
        Ok(Some(sizes))
    }

    /// Returns what was read, once all of it fits together: the entries lead to what was made, and to nothing
    /// else.
    pub(super) fn finish(mut self) -> Result<Layer, Strange> {
        // The only one that is read of a directory is what tells that others were not made anew.
        for of in self.known.unwrap_or_default() {
            if let [(index, _)] = of.entries.as_slice()
                && !self.kept.contains(&(of.number, *index))
            {
                return Err(Strange);
            }
        }
        let mut names = Vec::new();
        for read in self.objects.iter().filter(|of| of.is_new) {
            let (dir, name) = read.name.as_ref().ok_or(Strange)?;
            names.push((*dir, name.clone(), read.number));
        }
        names.sort_unstable();
        self.entries.sort_unstable();
        if names != self.entries {
            return Err(Strange);
        }
        let paths: Vec<_> = (self.objects.iter())
            .map(|read| self.path(read))
            .collect::<Result<_, _>>()?;
        let (mut touched, mut made) = (Vec::new(), Vec::new());
        for (mut read, path) in self.objects.into_iter().zip(paths) {
            read.object.attributes.sort_unstable();
            if is_link(&read.object) != read.object.target.is_some() {
                return Err(Strange);
            }
            match read.is_new {
                true => made.push((path, read.object)),
                false => touched.push((read.number, read.object)),
            }
        }
        made.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Layer {
            touched,
            kept: self.kept,
            made,
        })
    }

    /// Returns where an object is: the directory on the way that was inherited, and the names up to there.
    fn path(&self, read: &Read) -> Result<(u64, Vec<u8>), Strange> {
        let mut path = Vec::new();
        let mut read = read;
        for _ in 0..DEPTH_MAX {
            let Some((dir, name)) = &read.name else {
                return Ok((read.number, path));
            };
            path.push(b'/');
            path.extend_from_slice(name);
            let parent = self.objects.iter().find(|of| of.number == *dir);
            read = parent.ok_or(Strange)?;
        }
        Err(Strange)
    }
}

fn is_link(object: &Object) -> bool {
    FileType::from_mode(object.item.4) == Some(FileType::Symlink)
}

pub(super) fn add_attributes(attributes: &mut Attributes, data: &[u8]) -> Result<(), Strange> {
    for entry in decode::xattrs(data) {
        let (name, value) = entry.ok_or(Strange)?;
        if attributes.len() == OWN_MAX {
            return Err(Strange);
        }
        attributes.push((name.into(), value.into()));
    }
    Ok(())
}
