//! Which inodes may differ, and by which names they are reached.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::leads::Leads;
use crate::fs::Dir;
use crate::fs::btrfs::decode::{EXTENT_DATA, FileExtent, INODE_ITEM, Inode, Item};
use crate::fs::btrfs::{Fresh, ROOT_DIRECTORY, TreeError, Trees};
use crate::measure::Trouble;

/// Highest number that an inode can have (`BTRFS_LAST_FREE_OBJECTID`).
pub(super) const LAST_FREE_OBJECTID: u64 = u64::MAX - 255;

/// Inodes that were written anew which are held at a time, until it is known which of them differ.
const TOUCHED_MAX: usize = 512;

/// How many times as many may wait for the thread that finds that out.
const WAITING: usize = 2;

/// An inode that was written anew, with its own item; without where an extent of it was, so that it differs.
type Touched = (u64, Option<Inode>);

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

/// A tree, and the last transaction that changed it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dated {
    pub(super) tree: u64,
    pub(super) generation: u64,
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
    ///
    /// The generation of a tree is that of its topmost node. Where that is not later, there is nothing to
    /// search for; what was written meanwhile is found out once all was compared.
    ///
    /// With `keep_fresh` the inodes of the container that are written anew are kept to be asked for later:
    /// for a tree that nobody writes to. Where there are many, and `may_have_thread` says so, a thread climbs from those that were found while
    /// the next are looked for.
    pub(super) fn find(
        trees: &mut Trees<'_>,
        container: Dated,
        image: Dated,
        base: u64,
        keep_fresh: bool,
        may_have_thread: bool,
    ) -> Result<(Self, Vec<u64>), Trouble> {
        let anchor = trees.anchor();
        let mut climber = Climber::default();
        std::thread::scope(|scope| {
            let mut thread: Option<(SyncSender<Vec<Touched>>, _)> = None;
            let mut fresh = keep_fresh.then(Fresh::default);
            let mut from = (container.generation > base).then_some(ROOT_DIRECTORY);
            while let Some(start) = from {
                let start = (start, fresh.as_mut());
                let (touched, next) = touched_since(trees, container.tree, base, start)?;
                // Where there are many, the last one that was found may not have been found whole.
                if let Some(fresh) = fresh.take()
                    && next.is_none()
                {
                    trees.keep_fresh(container.tree, fresh);
                }
                if next.is_some() && may_have_thread && thread.is_none() {
                    let (sender, found) = sync_channel(WAITING);
                    let climb = move || beside(anchor, image.tree, found);
                    thread = Some((sender, scope.spawn(climb)));
                }
                match &thread {
                    // One that ended early tells why in the end.
                    Some((sender, _)) => drop(sender.send(touched)),
                    None => {
                        // Few are compared right after this.
                        climber.keeps = next.is_none() && !keep_fresh && climber.inodes.is_empty();
                        climber.take(trees, image.tree, &touched)?;
                    }
                }
                from = next;
            }
            if let Some((sender, thread)) = thread {
                drop(sender);
                let ended = |_| Trouble("a thread ended".into());
                let (beside, items_read) = thread.join().map_err(ended)??;
                climber = beside;
                trees.add_items_read(items_read);
            }
            Ok::<(), Trouble>(())
        })?;
        let mut inodes = std::mem::take(&mut climber.inodes);
        let (mut moved, known) = (Vec::new(), inodes.len());
        if image.generation > base {
            changed_since(trees, image.tree, base, (ROOT_DIRECTORY, None), |change| {
                // Of one inode they come one after the other.
                if moved.last() != Some(&change.inode) {
                    moved.push(change.inode);
                    if !change.new {
                        inodes.push(change.inode);
                    }
                }
                ControlFlow::Continue(())
            })?;
        }
        let image = image.tree;
        let of_image = inodes.get(known..).unwrap_or_default();
        climber.climb_all(trees, image, of_image)?;
        inodes.sort_unstable();
        inodes.dedup();
        // A nested subvolume is another tree, which no search of this one tells about; and what is one
        // in the image is an empty directory in its snapshot, with the entry unchanged.
        for (dir, name) in trees.nested(image)? {
            climber.leads.add(dir, &name);
            climber.climb_all(trees, image, &[dir])?;
        }
        let mut leads = climber.leads;
        leads.sort();
        Ok((Self { inodes, leads }, moved))
    }

    /// Whether nothing may differ.
    pub(super) fn is_empty(&self) -> bool {
        self.inodes.is_empty() && self.leads.is_empty()
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

/// Returns inodes of the image that were written anew in the container, from inode `from` on, and where to go on.
fn touched_since(
    trees: &mut Trees<'_>,
    container: u64,
    base: u64,
    start: (u64, Option<&mut Fresh>),
) -> Result<(Vec<Touched>, Option<u64>), Trouble> {
    let mut touched: Vec<Touched> = Vec::new();
    let mut next = None;
    changed_since(trees, container, base, start, |change| {
        let Change { inode, new, item } = change;
        if new {
            return ControlFlow::Continue(());
        }
        let full = touched.len() >= TOUCHED_MAX;
        match touched.last_mut() {
            // A new extent; those of an inode come one after the other.
            Some((last, known)) if *last == inode => *known = None,
            // What is left belongs to the next round.
            _ if full => {
                next = Some(inode);
                return ControlFlow::Break(());
            }
            _ => touched.push((inode, item)),
        }
        ControlFlow::Continue(())
    })?;
    Ok((touched, next))
}

/// What climbing from inodes to the root of a tree found.
#[derive(Debug, Default)]
struct Climber {
    /// The names on the way.
    leads: Leads,
    /// Directories that were climbed from on the way.
    climbed: HashSet<u64>,
    /// The inodes that may differ, of those that were written anew.
    inodes: Vec<u64>,
    /// Whether what was read of the inodes is kept to be asked for later.
    keeps: bool,
}

impl Climber {
    /// Climbs from those of the inodes that were not only read: what of the image tells that comes with the
    /// names that an inode has there.
    fn take(
        &mut self,
        trees: &mut Trees<'_>,
        tree: u64,
        touched: &[Touched],
    ) -> Result<(), TreeError> {
        for (inode, item) in touched {
            if let Some(item) = item {
                let image = trees.inode(tree, *inode)?;
                if image.is_some_and(|image| item.only_read(&image)) {
                    continue;
                }
            }
            self.inodes.push(*inode);
            self.climb_all(trees, tree, &[*inode])?;
        }
        Ok(())
    }

    /// Climbs from inodes, which are best in the order in which they lie on disk, and notes the names on the
    /// way: of each directory once.
    fn climb_all(
        &mut self,
        trees: &mut Trees<'_>,
        tree: u64,
        inodes: &[u64],
    ) -> Result<(), TreeError> {
        for inode in inodes.iter().filter(|inode| **inode != ROOT_DIRECTORY) {
            let mut todo = vec![*inode];
            while let Some(inode) = todo.pop() {
                let names = trees.names(tree, inode)?;
                if self.keeps {
                    trees.keep_inode(tree, inode);
                }
                for (parent, name) in names {
                    self.leads.add(parent, &name);
                    if parent != ROOT_DIRECTORY && self.climbed.insert(parent) {
                        todo.push(parent);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Climbs from inodes as they are found to be written anew, and returns as well how many items were read for that.
fn beside(
    anchor: &Dir,
    tree: u64,
    found: Receiver<Vec<Touched>>,
) -> Result<(Climber, u64), TreeError> {
    let mut trees = Trees::new(anchor);
    let mut climber = Climber::default();
    for touched in found {
        climber.take(&mut trees, tree, &touched)?;
    }
    Ok((climber, trees.items_read()))
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
/// and the item of each before its extents, until `each` breaks. Those that were written anew are added to
/// `fresh`.
fn changed_since(
    trees: &mut Trees<'_>,
    tree: u64,
    base: u64,
    (from, mut fresh): (u64, Option<&mut Fresh>),
    mut each: impl FnMut(Change) -> ControlFlow<()>,
) -> Result<(), TreeError> {
    let mut undecodable = false;
    // The item of an inode comes before its extents, and that of a new one is never passed over.
    let mut new = None;
    let look = |found: Item<'_>| {
        let inode = found.objectid;
        if let (Some(fresh), false) = (&mut fresh, found.kind == INODE_ITEM) {
            fresh.item(&found);
        }
        let newer = match found.kind {
            INODE_ITEM => Inode::decode(found.data).map(|item| {
                let is_new = item.generation > base;
                if is_new {
                    new = Some(inode);
                }
                if let Some(fresh) = &mut fresh
                    && item.transid > base
                {
                    fresh.inode(tree, &found, is_new);
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
    };
    let later = base.saturating_add(1);
    let last = (LAST_FREE_OBJECTID, u8::MAX, u64::MAX);
    trees.each(tree, ((from, 0, 0), last), later, u32::MAX, look)?;
    if undecodable {
        Err(TreeError::Undecodable(tree))
    } else {
        Ok(())
    }
}
