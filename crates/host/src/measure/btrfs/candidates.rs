//! Which inodes may differ, and by which names they are reached.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::{Bound, ControlFlow};

use crate::fs::btrfs::decode::{EXTENT_DATA, FileExtent, INODE_ITEM, Inode};
use crate::fs::btrfs::{ROOT_DIRECTORY, TreeError, Trees};
use crate::measure::Trouble;

/// Highest number that an inode can have (`BTRFS_LAST_FREE_OBJECTID`).
const LAST_FREE_OBJECTID: u64 = u64::MAX - 255;

/// The inodes of the image that may differ in the container, and the names that lead to them.
///
/// Only inodes that both inherited from the time of the snapshot are held, by the names that they have
/// in the image: so a container cannot make this grow beyond what its image has. An inode that was
/// made since, and a name that was given since, are in a directory that changed for it, and comparing
/// that directory's entries finds them. By induction the same holds of that directory.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    inodes: HashSet<u64>,
    /// By directory, the names beneath which there is a candidate.
    names: HashMap<u64, BTreeSet<Box<[u8]>>>,
}

impl Candidates {
    /// Finds every inode that changed in either tree after transaction `base`, in which one became a
    /// snapshot of the other, and the names that lead to it from the root. Returns as well which
    /// inodes of the image changed since, inherited or new.
    ///
    /// Any change of an item rewrites its leaf and every node above it in a later transaction, so a
    /// search bounded to later transactions passes over every subtree that is as it was, and over
    /// nothing else. Every change of content or metadata also updates the inode's own item; where
    /// only leaves were rewritten (a balance), those say so.
    pub(super) fn find(
        trees: &mut Trees<'_>,
        container: u64,
        image: u64,
        base: u64,
    ) -> Result<(Self, Vec<u64>), Trouble> {
        let mut candidates = Self::default();
        changed_since(trees, container, base, |change| {
            if let Changed::Inherited(inode) = change {
                candidates.inodes.insert(inode);
            }
        })?;
        let mut moved = BTreeSet::new();
        changed_since(trees, image, base, |change| match change {
            Changed::Inherited(inode) => {
                candidates.inodes.insert(inode);
                moved.insert(inode);
            }
            Changed::New(inode) => {
                moved.insert(inode);
            }
        })?;
        // In the order in which they lie on disk, the lowest last: it is taken first.
        let mut inodes: Vec<u64> = candidates.inodes.iter().copied().collect();
        inodes.sort_unstable_by(|a, b| b.cmp(a));
        candidates.find_names(trees, image, inodes)?;
        // A nested subvolume is another tree, which no search of this one tells about; and what is one
        // in the image is an empty directory in its snapshot, with the entry unchanged.
        for (dir, name) in trees.nested(image)? {
            candidates.names.entry(dir).or_default().insert(name);
            candidates.find_names(trees, image, vec![dir])?;
        }
        Ok((candidates, moved.into_iter().collect()))
    }

    /// Whether this inode itself may differ.
    pub(super) fn contains(&self, inode: u64) -> bool {
        self.inodes.contains(&inode)
    }

    /// Returns the names of this directory that lead to candidates, sorted, those after `last`.
    pub(super) fn names_in(&self, dir: u64, last: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
        let after = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.names
            .get(&dir)
            .into_iter()
            .flat_map(move |names| names.range::<[u8], _>((after, Bound::Unbounded)))
            .map(|name| &**name)
    }

    /// Whether this name of a directory leads to a candidate.
    pub(super) fn leads(&self, dir: u64, name: &[u8]) -> bool {
        self.names
            .get(&dir)
            .is_some_and(|names| names.contains(name))
    }

    /// Whether nothing in this directory leads to a candidate.
    pub(super) fn none_beneath(&self, dir: u64) -> bool {
        !self.names.contains_key(&dir)
    }

    /// Climbs from inodes to the root of a tree and notes the names on the way.
    fn find_names(
        &mut self,
        trees: &mut Trees<'_>,
        tree: u64,
        mut todo: Vec<u64>,
    ) -> Result<(), TreeError> {
        let mut climbed = HashSet::new();
        while let Some(inode) = todo.pop() {
            if inode == ROOT_DIRECTORY || !climbed.insert(inode) {
                continue;
            }
            for (parent, name) in trees.names(tree, inode)? {
                self.names.entry(parent).or_default().insert(name);
                todo.push(parent);
            }
        }
        Ok(())
    }
}

/// An inode that changed.
enum Changed {
    /// It was there when the snapshot was made.
    Inherited(u64),
    /// It was made since.
    New(u64),
}

/// Gives each inode of a tree that changed after transaction `base`, perhaps more than once.
fn changed_since(
    trees: &mut Trees<'_>,
    tree: u64,
    base: u64,
    mut each: impl FnMut(Changed),
) -> Result<(), TreeError> {
    let mut undecodable = false;
    // The item of an inode comes before its extents, and that of a new one is never passed over.
    let mut new = None;
    let everything = (
        (ROOT_DIRECTORY, 0, 0),
        (LAST_FREE_OBJECTID, u8::MAX, u64::MAX),
    );
    trees.each(tree, everything, base.saturating_add(1), u32::MAX, |item| {
        let newer = match item.kind {
            INODE_ITEM => Inode::decode(item.data).map(|inode| {
                if inode.generation > base {
                    new = Some(item.objectid);
                }
                inode.transid > base
            }),
            EXTENT_DATA => FileExtent::decode(item.data).map(|extent| extent.generation > base),
            _ => Some(false),
        };
        undecodable |= newer.is_none();
        if newer != Some(false) {
            each(match new {
                Some(new) if new == item.objectid => Changed::New(new),
                _ => Changed::Inherited(item.objectid),
            });
        }
        ControlFlow::Continue(())
    })?;
    if undecodable {
        Err(TreeError::Undecodable(tree))
    } else {
        Ok(())
    }
}
