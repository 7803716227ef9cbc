//! Which inodes may differ, and by which names they are reached.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

use crate::fs::btrfs::ROOT_DIRECTORY;
use crate::fs::btrfs::decode::{
    self, EXTENT_DATA, FileExtent, INODE_EXTREF, INODE_ITEM, INODE_REF, Inode,
};
use crate::fs::btrfs::{Name, Trees};
use crate::measure::Trouble;

/// Items asked for at once where many are expected.
const MANY: u32 = u32::MAX;

/// The inodes that may differ between two trees, and the names that lead to them.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    inodes: HashSet<u64>,
    /// By directory, the names beneath which there is a candidate.
    names: HashMap<u64, BTreeSet<Box<[u8]>>>,
}

impl Candidates {
    /// Finds every inode that changed in either tree after transaction `base`, in which one became a
    /// snapshot of the other, and the names that lead to it from the root.
    ///
    /// `nesting` is the subvolume whose nested ones are the container's: its own, or that of which
    /// `container` is a snapshot taken to look at.
    ///
    /// Any change of an item rewrites its leaf and every node above it in a later transaction, so a
    /// search bounded to later transactions passes over every subtree that is as it was, and over
    /// nothing else. Every change of content or metadata also updates the inode's own item; where
    /// only leaves were rewritten (a balance), those say so.
    pub(super) fn find(
        trees: &mut Trees<'_>,
        container: u64,
        nesting: u64,
        image: u64,
        base: u64,
    ) -> Result<(Self, Vec<u64>), Trouble> {
        let mut inodes = changed_since(trees, container, base)?;
        let in_image = changed_since(trees, image, base)?;
        inodes.extend(&in_image);
        let mut candidates = Self {
            inodes,
            names: HashMap::new(),
        };
        for tree in [container, image] {
            let inodes = candidates.inodes.iter().copied().collect();
            candidates.find_names(trees, tree, inodes)?;
        }
        // A nested subvolume is another tree, which no search of this one tells about; and what is one
        // here may be an empty directory there.
        for (tree, parent) in [(container, nesting), (image, image)] {
            for (dir, name) in trees.nested(parent)? {
                candidates.names.entry(dir).or_default().insert(name);
                candidates.find_names(trees, tree, vec![dir])?;
            }
        }
        let mut in_image: Vec<u64> = in_image.into_iter().collect();
        in_image.sort_unstable();
        Ok((candidates, in_image))
    }

    /// Whether this inode itself may differ.
    pub(super) fn contains(&self, inode: u64) -> bool {
        self.inodes.contains(&inode)
    }

    /// Returns the names of this directory that lead to candidates.
    pub(super) fn names_in(&self, dir: u64) -> impl Iterator<Item = &[u8]> {
        self.names
            .get(&dir)
            .into_iter()
            .flatten()
            .map(|name| &**name)
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
    ) -> Result<(), Trouble> {
        let mut climbed = HashSet::new();
        while let Some(inode) = todo.pop() {
            if inode == ROOT_DIRECTORY || !climbed.insert(inode) {
                continue;
            }
            for (parent, name) in names_of(trees, tree, inode)? {
                self.names.entry(parent).or_default().insert(name);
                todo.push(parent);
            }
        }
        Ok(())
    }
}

/// Returns every name of an inode and the directory that it is in.
pub(super) fn names_of(trees: &mut Trees<'_>, tree: u64, inode: u64) -> Result<Vec<Name>, Trouble> {
    let mut names: Vec<Name> = Vec::new();
    let range = ((inode, INODE_REF, 0), (inode, INODE_EXTREF, u64::MAX));
    trees.each(tree, range, 0, MANY, |item| {
        match item.kind {
            INODE_REF => {
                names.extend(decode::inode_refs(item.data).map(|name| (item.offset, name.into())))
            }
            INODE_EXTREF => {
                names.extend(
                    decode::inode_extrefs(item.data).map(|(parent, name)| (parent, name.into())),
                );
            }
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok(names)
}

fn changed_since(trees: &mut Trees<'_>, tree: u64, base: u64) -> Result<HashSet<u64>, Trouble> {
    let mut changed = HashSet::new();
    let mut undecodable = false;
    let everything = (
        (ROOT_DIRECTORY, 0, 0),
        (LAST_FREE_OBJECTID, u8::MAX, u64::MAX),
    );
    trees.each(tree, everything, base + 1, MANY, |item| {
        let newer = match item.kind {
            INODE_ITEM => Inode::decode(item.data).map(|inode| inode.transid > base),
            EXTENT_DATA => FileExtent::decode(item.data).map(|extent| extent.generation > base),
            _ => Some(false),
        };
        undecodable |= newer.is_none();
        if newer != Some(false) {
            changed.insert(item.objectid);
        }
        ControlFlow::Continue(())
    })?;
    if undecodable {
        return Err(Trouble(format!(
            "subvolume {tree} holds items of a form that is not known"
        )));
    }
    Ok(changed)
}

/// Highest number that an inode can have (`BTRFS_LAST_FREE_OBJECTID`).
const LAST_FREE_OBJECTID: u64 = u64::MAX - 255;
