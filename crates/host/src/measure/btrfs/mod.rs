//! Btrfs engine: what generations and extents say.
//!
//! A container's subvolume starts as a snapshot of its image's and shares every block of its tree.
//! Each later change writes new blocks with a higher generation, so a search that passes over older
//! ones returns what may differ; comparing it item by item with the image's tree says what does
//! (kernel `fs/btrfs/ctree.c`, `btrfs_search_forward`; `fs/btrfs/ioctl.c`, `search_ioctl`).
//!
//! Nothing inside the container's subvolume is ever opened, not even its root: that would raise
//! events which a process in the container can see. Metadata comes through the search ioctl on a
//! directory elsewhere on the file system, content, where it must be read, from the device.

mod ahead;
mod batch;
mod candidates;
mod checksums;
mod chunks;
mod compression;
mod content;
mod device;
mod entry;
mod example;
mod extents;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod leads;
mod names;
mod open;
mod reading;
mod reference;
mod shared;
mod steady;
mod window;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use plimsoll_core::model::{Attributes, Bytes, Device, DiffId, FileType, RootPath, Timestamp};

use self::batch::Batch;
use self::candidates::Candidates;
use self::device::Devices;
use self::entry::Found;
use self::steady::Start;
use super::{Confirm, Content, Listing, Names, Pair, Settled, Side, Trouble};
use crate::fs::btrfs::decode::{self, EXTENT_DATA, FileExtent, Inode, Location, Place, XATTR_ITEM};
use crate::fs::btrfs::{ROOT_DIRECTORY, TreeError, Trees};
use crate::fs::{Dir, LINK_LIMIT};

pub use self::names::Cursor;
pub use self::open::Candidate;
pub use self::shared::ImageTrees;
pub use self::steady::Moved;

/// Items asked for at once.
const BATCH: u32 = 4096;

/// Tries to find out where an entry leads that is moved meanwhile.
const TRIES: usize = 5;

/// A container's subvolume against its image's.
#[derive(Debug)]
pub struct BtrfsPair<'s> {
    anchor: &'s Dir,
    trees: Trees<'s>,
    devices: Devices,
    /// Files whose content is looked at later.
    batch: Batch,
    image: u64,
    container: u64,
    /// The subvolume whose nested ones are the container's, when a snapshot of it is looked at.
    nesting: u64,
    /// Transaction in which the container's became a snapshot of the image's.
    base: u64,
    /// When that was.
    made: Timestamp,
    /// What may differ; `None` when only some paths are asked for, and each is looked at by itself.
    candidates: Option<Candidates>,
    /// Inodes that changed in the image's subvolume since, as far as they were looked at.
    moved: Vec<u64>,
    /// The container's tree when the comparison began.
    start: Start,
    /// The last transaction that had changed the image's tree by then.
    image_generation: u64,
    /// Inodes that the container made, in the place of one that the image has.
    replaced: HashSet<u64>,
    /// The last entry of the image that was looked up: directory, name and where it leads.
    last_entry: Option<(u64, Box<[u8]>, Option<Location>)>,
    /// The last one that was looked up on the container's side, when the container made it.
    made_here: Option<u64>,
    confirm: Confirm,
    bytes_read: u64,
}

/// An object of a subvolume.
#[derive(Debug, Clone)]
pub struct Node {
    tree: u64,
    /// The tree whose items say what it is: the image's as well, of an inode that is as it was inherited.
    by: u64,
    number: u64,
    item: Inode,
    file_type: FileType,
}

/// What the trees are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything that differs.
    Everything,
    /// Some paths.
    Paths,
}

impl BtrfsPair<'_> {
    /// Whether neither tree changed since one became a snapshot of the other, so that nothing differs: then
    /// there is nothing to walk.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.moved.is_empty() && (self.candidates.as_ref()).is_some_and(Candidates::is_empty)
    }

    /// Whether the container's subvolume is still there.
    ///
    /// # Errors
    /// [`Trouble`] when that cannot be read.
    pub fn still_there(&mut self) -> Result<bool, Trouble> {
        Ok(self.trees.root(self.container)?.is_some())
    }

    fn tree_of(&self, side: Side) -> u64 {
        match side {
            Side::Image => self.image,
            Side::Container => self.container,
        }
    }

    fn node(&mut self, tree: u64, number: u64) -> Result<Option<Node>, Trouble> {
        self.node_by(tree, tree, number)
    }

    /// Returns an inode of `tree` by the item that tree `by` has of it.
    fn node_by(&mut self, tree: u64, by: u64, number: u64) -> Result<Option<Node>, Trouble> {
        let Some(item) = self.trees.inode(by, number)? else {
            return Ok(None);
        };
        let file_type = FileType::from_mode(item.mode).ok_or_else(|| {
            Trouble(format!(
                "its type is none that Linux has: mode {:o}",
                item.mode
            ))
        })?;
        Ok(Some(Node {
            tree,
            by,
            number,
            item,
            file_type,
        }))
    }

    /// Whether the container has inherited this directory and its entries: nothing in it changed on
    /// either side since, so that what it leads to is what the image's leads to.
    fn is_inherited(&self, dir: &Node) -> bool {
        dir.tree == self.container
            && dir.item.generation <= self.base
            && self
                .candidates
                .as_ref()
                .is_some_and(|candidates| !candidates.contains(dir.number))
    }

    /// Whether both are one inode that the container has inherited from the image.
    fn one_inode(&self, image: &Node, container: &Node) -> bool {
        image.tree == self.image
            && container.tree == self.container
            && image.number == container.number
            && image.item.generation == container.item.generation
    }
}

/// Number of the empty directory that stands where a snapshot lacks a nested subvolume
/// (`BTRFS_EMPTY_SUBVOL_DIR_OBJECTID`).
const PLACEHOLDER: u64 = 2;

impl Pair for BtrfsPair<'_> {
    type Node = Node;
    type Cursor = Cursor;
    const KEEPS_COPIES: bool = true;

    fn expected(&self) -> usize {
        self.candidates.as_ref().map_or(0, Candidates::len)
    }

    fn root(&mut self, side: Side) -> Result<Node, Trouble> {
        let tree = self.tree_of(side);
        self.node(tree, ROOT_DIRECTORY)?
            .ok_or_else(|| Trouble(format!("subvolume {tree} has no root directory")))
    }

    fn list(
        &mut self,
        what: Listing<'_, Node>,
        cursor: &mut Cursor,
        out: &mut Names,
    ) -> Result<bool, Trouble> {
        match what {
            Listing::Suspects { image, container } => self.suspects(image, container, cursor, out),
            Listing::All { dir, .. } => self.every_name(dir, cursor, out),
        }
    }

    fn lookup(&mut self, side: Side, dir: &Node, name: &[u8]) -> Result<Option<Node>, Trouble> {
        if side == Side::Container {
            self.made_here = None;
        }
        if !dir.file_type.has_entries() || dir.number == PLACEHOLDER {
            return Ok(None);
        }
        for _ in 0..TRIES {
            let found = match self.location(dir, name)? {
                None => return Ok(None),
                Some(Location::Inode(number)) => self.inode_at(dir, name, number)?,
                Some(Location::Subvolume(id)) => self.subvolume_at(dir, name, id)?,
            };
            match found {
                Found::There(node) => {
                    self.note(side, node.as_ref());
                    return Ok(node);
                }
                // It may have been moved between the searches.
                Found::Elsewhere => {
                    self.trees.refresh();
                    self.last_entry = None;
                }
            }
        }
        Err(Trouble(
            "its own record of its name says that it is elsewhere: it is moved about, or the file \
             system is damaged"
                .into(),
        ))
    }

    fn proven_same(&self, image: &Node, container: &Node) -> bool {
        if !self.one_inode(image, container) {
            return false;
        }
        match &self.candidates {
            Some(candidates) => {
                !candidates.contains(image.number)
                    && (!image.file_type.has_entries() || candidates.none_beneath(image.number))
            }
            // Of one inode alone its own item tells.
            None => {
                !image.file_type.has_entries()
                    && image.item.transid <= self.base
                    && container.item.transid <= self.base
            }
        }
    }

    fn identity(&self, node: &Node) -> (u64, u64) {
        (node.tree, node.number)
    }

    fn attributes(&mut self, _: Side, node: &Node) -> Result<Attributes, Trouble> {
        const IMMUTABLE: u64 = 1 << 6;
        const APPEND: u64 = 1 << 7;
        let item = &node.item;
        let target = match node.file_type {
            FileType::Symlink => Some(self.target(node)?),
            _ => None,
        };
        let is_device = matches!(node.file_type, FileType::CharDevice | FileType::BlockDevice);
        Ok(Attributes {
            file_type: node.file_type,
            mode: u16::try_from(item.mode & 0o7777).unwrap_or(0),
            uid: item.uid,
            gid: item.gid,
            size: match node.file_type {
                FileType::File | FileType::Symlink => item.size,
                _ => 0,
            },
            mtime: item.mtime,
            links: item.links,
            // The kernel's own form of a device number: 12 bits of major, 20 of minor.
            device: is_device.then_some(Device {
                major: u32::try_from(item.rdev >> 20).unwrap_or(u32::MAX),
                minor: u32::try_from(item.rdev & 0xf_ffff).unwrap_or(u32::MAX),
            }),
            target,
            immutable: item.flags & IMMUTABLE != 0,
            append_only: item.flags & APPEND != 0,
        })
    }

    fn xattrs(&mut self, _: Side, node: &Node) -> Result<Vec<(Bytes, Bytes)>, Trouble> {
        let mut xattrs = Vec::new();
        if node.number == PLACEHOLDER {
            return Ok(xattrs);
        }
        let range = (
            (node.number, XATTR_ITEM, 0),
            (node.number, XATTR_ITEM, u64::MAX),
        );
        let mut odd = false;
        self.trees.each_near(node.by, range, BATCH, |item| {
            for entry in decode::xattrs(item.data) {
                match entry {
                    Some((name, value)) => xattrs.push((name.into(), value.into())),
                    None => odd = true,
                }
            }
            ControlFlow::Continue(())
        })?;
        if odd {
            return Err(TreeError::Undecodable(node.by).into());
        }
        xattrs.sort();
        Ok(xattrs)
    }

    fn same_content(&mut self, image: &Node, container: &Node) -> Result<Content, Trouble> {
        self.content(
            (image.tree, image.number),
            (container.tree, container.number),
            image.item.size,
        )
    }

    fn settle(&mut self, all: bool) -> Option<Settled<Node>> {
        self.decided(all)
    }

    fn renamed_from(&mut self, container: &Node, _: &RootPath) -> Option<RootPath> {
        if container.tree != self.container || container.item.generation > self.base {
            return None;
        }
        // One that also still has its old name was linked, not renamed.
        let inherited = self.trees.inode(self.image, container.number).ok()??;
        if inherited.generation != container.item.generation {
            return None;
        }
        let names = self.trees.names(self.image, container.number).ok()?;
        let (parent, name) = names.into_iter().next()?;
        let still = self.trees.entry(self.container, parent, &name).ok()?;
        if still == Some(Location::Inode(container.number)) {
            return None;
        }
        let mut names = vec![name];
        let mut dir = parent;
        while dir != ROOT_DIRECTORY {
            if names.len() > LINK_LIMIT {
                return None;
            }
            let (parent, name) = self.trees.names(self.image, dir).ok()?.into_iter().next()?;
            names.push(name);
            dir = parent;
        }
        Some(
            names
                .iter()
                .rev()
                .fold(RootPath::root(), |path, name| path.join(name)),
        )
    }

    fn origin(&mut self, _: &Node) -> Option<Arc<DiffId>> {
        None
    }

    fn cost(&self) -> (u64, u64) {
        (self.trees.items_read(), self.bytes_read)
    }
}

impl<'s> BtrfsPair<'s> {
    /// Notes of an inode that was looked up what tells, in the end, whether anything moved.
    fn note(&mut self, side: Side, node: Option<&Node>) {
        if side == Side::Container {
            let made = |node: &&Node| node.item.generation > self.base;
            self.made_here = node.filter(made).map(|node| node.number);
            return;
        }
        if let Some(made) = self.made_here.take() {
            self.replaced.insert(made);
        }
        // Where everything is looked at, the search has told which ones changed.
        if let Some(node) = node
            && self.candidates.is_none()
            && node.tree == self.image
            && node.item.transid > self.base
        {
            self.moved.push(node.number);
        }
    }

    fn comparison(&mut self) -> content::Comparison<'_, 's> {
        content::Comparison {
            trees: &mut self.trees,
            devices: &mut self.devices,
            confirm: self.confirm,
            bytes_read: &mut self.bytes_read,
        }
    }

    fn target(&mut self, node: &Node) -> Result<Bytes, Trouble> {
        let extent =
            self.trees
                .one(node.tree, (node.number, EXTENT_DATA, 0), FileExtent::decode)?;
        match extent {
            Some(FileExtent {
                place: Place::Inline(target),
                compression: 0,
                ..
            }) => Ok(Bytes::from(target.into_vec())),
            _ => Err(Trouble("the target of the link cannot be decoded".into())),
        }
    }
}
