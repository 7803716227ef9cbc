//! Which inodes may differ, and by which names they are reached.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::leads::Leads;
use crate::fs::btrfs::decode::{EXTENT_DATA, FileExtent, INODE_ITEM, Inode};
use crate::fs::btrfs::{ROOT_DIRECTORY, TreeError, Trees};
use crate::measure::Trouble;

/// Highest number that an inode can have (`BTRFS_LAST_FREE_OBJECTID`).
const LAST_FREE_OBJECTID: u64 = u64::MAX - 255;

/// Inodes that were written anew which are held at a time, until it is known which of them differ.
const TOUCHED_MAX: usize = 2048;

/// The inodes of the image that may differ in the container, and the names that lead to them.
///
/// Only inodes that both inherited from the time of the snapshot are held, by the names that they have
/// in the image: so a container cannot make this grow beyond what its image has. An inode that was
/// made since, and a name that was given since, are in a directory that changed for it, and comparing
/// that directory's entries finds them. By induction the same holds of that directory.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Sorted.
    inodes: Vec<u64>,
    /// The names beneath which there is a candidate.
    leads: Leads,
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
    ///
    /// Reading updates it too, once for each file on most mounts, and those are told apart here, all at
    /// one go: one that nothing else happened to has the same times and counts, and no new extent.
    pub(super) fn find(
        trees: &mut Trees<'_>,
        container: u64,
        image: u64,
        base: u64,
    ) -> Result<(Self, Vec<u64>), Trouble> {
        let mut inodes = Vec::new();
        let mut from = ROOT_DIRECTORY;
        while let Some(next) = add_changed(&mut inodes, trees, (container, image), base, from)? {
            from = next;
        }
        let mut moved = Vec::new();
        changed_since(trees, image, base, ROOT_DIRECTORY, |change| {
            // Of one inode they come one after the other.
            if !change.new && inodes.last() != Some(&change.inode) {
                inodes.push(change.inode);
            }
            if moved.last() != Some(&change.inode) {
                moved.push(change.inode);
            }
            ControlFlow::Continue(())
        })?;
        inodes.sort_unstable();
        inodes.dedup();
        let mut leads = Leads::default();
        let mut climbed = HashSet::new();
        // In the order in which they lie on disk.
        for inode in inodes.iter().filter(|inode| **inode != ROOT_DIRECTORY) {
            climb(&mut leads, &mut climbed, trees, image, *inode)?;
        }
        // A nested subvolume is another tree, which no search of this one tells about; and what is one
        // in the image is an empty directory in its snapshot, with the entry unchanged.
        for (dir, name) in trees.nested(image)? {
            leads.add(dir, &name);
            if dir != ROOT_DIRECTORY {
                climb(&mut leads, &mut climbed, trees, image, dir)?;
            }
        }
        leads.sort();
        Ok((Self { inodes, leads }, moved))
    }

    /// Returns how many inodes may differ.
    pub(super) fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Whether this inode itself may differ.
    pub(super) fn contains(&self, inode: u64) -> bool {
        self.inodes.binary_search(&inode).is_ok()
    }

    /// Returns the names of this directory that lead to candidates, sorted, those after `last`.
    pub(super) fn names_in(&self, dir: u64, last: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
        self.leads.names_in(dir, last)
    }

    /// Whether this name of a directory leads to a candidate.
    pub(super) fn leads(&self, dir: u64, name: &[u8]) -> bool {
        self.leads.contains(dir, name)
    }

    /// Whether nothing in this directory leads to a candidate.
    pub(super) fn none_beneath(&self, dir: u64) -> bool {
        self.leads.names_in(dir, None).next().is_none()
    }
}

/// Adds what changed in the container from inode `from` on, and returns where to go on.
fn add_changed(
    inodes: &mut Vec<u64>,
    trees: &mut Trees<'_>,
    (container, image): (u64, u64),
    base: u64,
    from: u64,
) -> Result<Option<u64>, Trouble> {
    let before = inodes.len();
    let mut touched: Vec<(u64, Inode)> = Vec::new();
    let mut next = None;
    changed_since(trees, container, base, from, |change| {
        if next.is_none() && touched.len() >= TOUCHED_MAX {
            next = Some(change.inode);
        }
        match change {
            // What is left belongs to the next round, but for more items of an inode of this one.
            _ if next.is_some_and(|next| change.inode >= next) => {
                return ControlFlow::Break(());
            }
            Change { new: true, .. } => {}
            Change {
                item: Some(item),
                inode,
                ..
            } => touched.push((inode, item)),
            // A new extent; those of an inode come one after the other.
            Change { inode, .. } if inodes.last() == Some(&inode) => {}
            Change { inode, .. } => inodes.push(inode),
        }
        ControlFlow::Continue(())
    })?;
    let known = inodes.len();
    for (inode, item) in touched {
        // Known to differ already, or not to be told apart from one that does.
        let found = inodes.get(before..known).unwrap_or_default();
        if found.binary_search(&inode).is_ok() {
            continue;
        }
        let image = trees.inode(image, inode)?;
        if !image.is_some_and(|image| item.only_read(&image)) {
            inodes.push(inode);
        }
    }
    Ok(next)
}

/// Climbs from an inode to the root of a tree and notes the names on the way, of each directory once.
fn climb(
    leads: &mut Leads,
    climbed: &mut HashSet<u64>,
    trees: &mut Trees<'_>,
    tree: u64,
    inode: u64,
) -> Result<(), TreeError> {
    let mut todo = vec![inode];
    while let Some(inode) = todo.pop() {
        for (parent, name) in trees.names(tree, inode)? {
            leads.add(parent, &name);
            if parent != ROOT_DIRECTORY && climbed.insert(parent) {
                todo.push(parent);
            }
        }
    }
    Ok(())
}

/// What is newer than a transaction in a tree.
#[derive(Debug, Clone, Copy)]
struct Change {
    inode: u64,
    /// Whether the inode was made since.
    new: bool,
    /// The inode's own item; `None` when an extent of it is what is newer.
    item: Option<Inode>,
}

/// Gives what is newer in a tree than transaction `base`, from inode `from` on, in the order of inodes
/// and the item of each before its extents, until `each` breaks.
fn changed_since(
    trees: &mut Trees<'_>,
    tree: u64,
    base: u64,
    from: u64,
    mut each: impl FnMut(Change) -> ControlFlow<()>,
) -> Result<(), TreeError> {
    let mut undecodable = false;
    // The item of an inode comes before its extents, and that of a new one is never passed over.
    let mut new = None;
    let everything = ((from, 0, 0), (LAST_FREE_OBJECTID, u8::MAX, u64::MAX));
    trees.each(
        tree,
        everything,
        base.saturating_add(1),
        u32::MAX,
        |found| {
            let inode = found.objectid;
            let newer = match found.kind {
                INODE_ITEM => Inode::decode(found.data).map(|item| {
                    if item.generation > base {
                        new = Some(inode);
                    }
                    (item.transid > base).then_some(Some(item))
                }),
                EXTENT_DATA => FileExtent::decode(found.data)
                    .map(|extent| (extent.generation > base).then_some(None)),
                _ => Some(None),
            };
            match newer {
                Some(None) => ControlFlow::Continue(()),
                Some(Some(item)) => each(Change {
                    inode,
                    new: new == Some(inode),
                    item,
                }),
                None => {
                    undecodable = true;
                    ControlFlow::Break(())
                }
            }
        },
    )?;
    if undecodable {
        Err(TreeError::Undecodable(tree))
    } else {
        Ok(())
    }
}
