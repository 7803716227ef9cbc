//! Reading the trees of one Btrfs file system, through a directory that is in none of those compared.

use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, BorrowedFd};

use plimsoll_syscall::btrfs::{SearchBuffer, SearchKey};
use rustix::io::Errno;

use super::TreeError;
use super::decode::{
    self, INODE_EXTREF, INODE_ITEM, INODE_REF, Inode, Item, Location, ROOT_ITEM, Root,
};
use super::runs::{Fresh, LAST_KEY, Run, Runs};
use super::still::Still;
use crate::fs::Dir;

/// The tree of tree roots.
pub(super) const ROOT_TREE: u64 = 1;

/// Bytes of items that one search may return, once there were many.
pub(super) const BUFFER: usize = FIRST;

/// Bytes of items that a first search may return: one of any length, and some more.
const FIRST: usize = ITEM_MAX + (16 << 10);

/// Bytes of items where one is asked for that is short, mostly.
const SINGLE: usize = 2 << 10;

/// Longest item with its header: a leaf of the largest node size (`BTRFS_MAX_METADATA_BLOCKSIZE`).
const ITEM_MAX: usize = 64 << 10;

/// A name: the number of the directory that it is in, and itself.
pub(super) type Name = (u64, Box<[u8]>);

/// A key of an item: object, type, offset.
pub(crate) type Key = (u64, u8, u64);

/// What answers a search: the kernel, or trees in memory where hostile ones are tried.
pub(super) trait Search: std::fmt::Debug {
    /// Searches for items and returns how many were found, as [`SearchBuffer::search`] does.
    fn search(
        &mut self,
        fd: BorrowedFd<'_>,
        key: &SearchKey,
        space: usize,
    ) -> rustix::io::Result<u32>;

    /// Returns the bytes of the items last found, and perhaps others after them.
    fn items(&self) -> &[u8];
}

impl Search for SearchBuffer {
    fn search(
        &mut self,
        fd: BorrowedFd<'_>,
        key: &SearchKey,
        space: usize,
    ) -> rustix::io::Result<u32> {
        SearchBuffer::search(self, fd, key, space)
    }

    fn items(&self) -> &[u8] {
        SearchBuffer::items(self)
    }
}

/// A way to read all trees of a file system.
#[derive(Debug)]
pub(crate) struct Trees<'s> {
    anchor: &'s Dir,
    source: Box<dyn Search>,
    pub(super) runs: Runs,
    pub(super) still: Option<Still>,
    items_read: u64,
}

impl<'s> Trees<'s> {
    pub(crate) fn new(anchor: &'s Dir) -> Self {
        Self::over(anchor, Box::new(SearchBuffer::default()))
    }

    pub(super) fn over(anchor: &'s Dir, source: Box<dyn Search>) -> Self {
        Self {
            anchor,
            source,
            runs: Runs::default(),
            still: None,
            items_read: 0,
        }
    }

    pub(crate) fn anchor(&self) -> &'s Dir {
        self.anchor
    }

    /// Returns the subvolume that the anchor itself is in.
    pub(crate) fn tree_of_anchor(&self) -> Result<u64, TreeError> {
        plimsoll_syscall::btrfs::tree_of(self.anchor.as_fd()).map_err(|errno| explain(errno, 0))
    }

    pub(crate) fn items_read(&self) -> u64 {
        self.items_read
    }

    /// Counts items that were read by other means than this.
    pub(crate) fn add_items_read(&mut self, count: u64) {
        self.items_read += count;
    }

    /// Gives each item with `min` <= key <= `max`, in the order of keys, from leaves that were written
    /// in transaction `min_transid` or later, until `each` breaks. `batch` items are asked for at once.
    pub(crate) fn each(
        &mut self,
        tree: u64,
        range: (Key, Key),
        min_transid: u64,
        batch: u32,
        each: impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<(), TreeError> {
        let space = match batch {
            1 => SINGLE,
            _ => FIRST,
        };
        self.each_within(tree, range, min_transid, (batch, space), each)
    }

    /// The same of all items, of which there are some hundred.
    pub(crate) fn each_of_many(
        &mut self,
        tree: u64,
        range: (Key, Key),
        min_transid: u64,
        each: impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<(), TreeError> {
        self.each_within(tree, range, min_transid, (u32::MAX, BUFFER), each)
    }

    /// The same of a range that should have so many items, of so many bytes together with their headers. One more
    /// is asked for, without a bound, and ends the search where it is behind the range: the kernel would look
    /// at all other items of the leaf before it ends at a bound (`fs/btrfs/ioctl.c`, `copy_to_sk`).
    pub(crate) fn each_expected(
        &mut self,
        tree: u64,
        (min, max): (Key, Key),
        min_transid: u64,
        (count, bytes): (u32, usize),
        mut each: impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<(), TreeError> {
        let space = bytes.saturating_add(SINGLE).min(FIRST);
        let room = (count.saturating_add(1), space);
        self.each_within(tree, (min, LAST_KEY), min_transid, room, |item| {
            match (item.objectid, item.kind, item.offset) > max {
                true => ControlFlow::Break(()),
                false => each(item),
            }
        })
    }

    /// Whether there is an item with exactly this key. The search ends at the next one, where there is none: at
    /// a bound the kernel would look at all others of the leaf before.
    pub(crate) fn has_item(&mut self, tree: u64, key: Key) -> Result<bool, TreeError> {
        let mut found = false;
        self.each(tree, (key, LAST_KEY), 0, 1, |item| {
            found = (item.objectid, item.kind, item.offset) == key;
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// The same with so much room for the first ones.
    fn each_within(
        &mut self,
        tree: u64,
        (min, max): (Key, Key),
        min_transid: u64,
        (batch, mut space): (u32, usize),
        mut each: impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<(), TreeError> {
        let mut key = SearchKey {
            tree_id: tree,
            min,
            max,
            min_transid,
            max_items: batch,
        };
        loop {
            let count = match self.source.search(self.anchor.as_fd(), &key, space) {
                Err(Errno::OVERFLOW) if space < FIRST => {
                    space = FIRST;
                    continue;
                }
                answer => answer.map_err(|errno| explain(errno, tree))?,
            };
            if count == 0 {
                return Ok(());
            }
            let mut seen = 0;
            let mut last = None;
            let mut used = 0;
            for item in decode::items(self.source.items(), count) {
                seen += 1;
                used += decode::HEADER + item.data.len();
                self.items_read += 1;
                last = Some((item.objectid, item.kind, item.offset));
                if each(item).is_break() {
                    return Ok(());
                }
            }
            if seen != count {
                return Err(TreeError::Undecodable(tree));
            }
            // The kernel stops at the number asked for, at an item that does not fit, or at the end
            // (`fs/btrfs/ioctl.c`, `copy_to_sk`).
            if count < batch && space.saturating_sub(used) >= ITEM_MAX {
                return Ok(());
            }
            if batch > 1 {
                space = BUFFER;
            }
            match last.and_then(after) {
                Some(next) if next <= max => key.min = next,
                _ => return Ok(()),
            }
        }
    }

    /// Gives each item of a range that is mostly short, perhaps as an earlier search found it, until
    /// `each` breaks.
    pub(crate) fn each_near(
        &mut self,
        tree: u64,
        (min, max): (Key, Key),
        batch: u32,
        mut each: impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<(), TreeError> {
        if self.runs(tree).find(tree, min, max).is_none() {
            let wanted = self.runs(tree).wanted(tree, min);
            self.read_run(tree, min, wanted)?;
        }
        match self.runs(tree).find(tree, min, max) {
            Some(run) => {
                for item in run.items(min, max) {
                    if each(item).is_break() {
                        break;
                    }
                }
                Ok(())
            }
            // Longer than a run.
            None => self.each(tree, (min, max), 0, batch, each),
        }
    }

    /// Reads the items of a tree from a key on, some of them, to be asked for later.
    pub(super) fn read_run(&mut self, tree: u64, from: Key, wanted: u32) -> Result<(), TreeError> {
        let key = SearchKey {
            tree_id: tree,
            min: from,
            max: LAST_KEY,
            min_transid: 0,
            max_items: wanted,
        };
        let count = self
            .source
            .search(self.anchor.as_fd(), &key, FIRST)
            .map_err(|errno| explain(errno, tree))?;
        let mut run = Run::new(tree, from);
        if run.extend(self.source.items(), count) != count {
            return Err(TreeError::Undecodable(tree));
        }
        self.items_read += u64::from(count);
        self.runs_mut(tree).add(run);
        Ok(())
    }

    /// Keeps what was read just now of an inode itself, to be asked for once more.
    pub(crate) fn keep_inode(&mut self, tree: u64, inode: u64) {
        self.runs_mut(tree).keep_inode(tree, inode);
    }

    /// Keeps the inodes of a tree that a search for what is new found, to be asked for later.
    pub(crate) fn keep_fresh(&mut self, tree: u64, fresh: Fresh) {
        self.runs_mut(tree).keep(fresh);
    }

    /// Returns what `decode` makes of the item with exactly this key; `None` when there is none.
    pub(crate) fn one<T>(
        &mut self,
        tree: u64,
        key: Key,
        mut decode: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, TreeError> {
        let mut found = None;
        let mut any = false;
        self.each(tree, (key, key), 0, 1, |item| {
            any = true;
            found = decode(item.data);
            ControlFlow::Break(())
        })?;
        if any && found.is_none() {
            return Err(TreeError::Undecodable(tree));
        }
        Ok(found)
    }

    /// Returns an inode, perhaps as an earlier search found it; that there is none is always fresh.
    pub(crate) fn inode(&mut self, tree: u64, inode: u64) -> Result<Option<Inode>, TreeError> {
        let key = (inode, INODE_ITEM, 0);
        let mut found = None;
        self.each_near(tree, (key, key), 1, |item| {
            found = Inode::decode(item.data);
            ControlFlow::Break(())
        })?;
        match found {
            Some(inode) => Ok(Some(inode)),
            None if self.is_known(tree, key) => Ok(None),
            None => self.one(tree, key, Inode::decode),
        }
    }

    /// Returns the root item of a subvolume; `None` when there is no such subvolume.
    pub(crate) fn root(&mut self, subvolume: u64) -> Result<Option<Root>, TreeError> {
        let mut root = None;
        let range = ((subvolume, ROOT_ITEM, 0), (subvolume, ROOT_ITEM, u64::MAX));
        self.each(ROOT_TREE, range, 0, 1, |item| {
            root = Root::decode(item.data);
            ControlFlow::Break(())
        })?;
        Ok(root.filter(|root| root.refs > 0))
    }

    /// Whether a directory's own record of its names has this one, and no other: it can have but one.
    /// The record may be as an earlier search found it.
    pub(crate) fn is_only_name(
        &mut self,
        tree: u64,
        inode: u64,
        (parent, name): (u64, &[u8]),
    ) -> Result<bool, TreeError> {
        let mut only = false;
        let mut first = true;
        let range = ((inode, INODE_REF, 0), (inode, INODE_EXTREF, u64::MAX));
        self.each_near(tree, range, 2, |item| {
            only = first
                && item.kind == INODE_REF
                && item.offset == parent
                && decode::inode_refs(item.data).eq([Some(name)]);
            first = false;
            match only {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        Ok(only)
    }

    /// Returns where a name leads in a directory; `None` when the directory has no such name.
    pub(crate) fn entry(
        &mut self,
        tree: u64,
        dir: u64,
        name: &[u8],
    ) -> Result<Option<Location>, TreeError> {
        let key = (dir, decode::DIR_ITEM, decode::name_hash(name));
        if let Some(run) = self.runs(tree).find(tree, key, key) {
            let found = run.items(key, key).next();
            if let Some(location) = found.map(|item| location_of(item.data, name))
                && location != Ok(None)
            {
                return location.map_err(|()| TreeError::Undecodable(tree));
            }
            if self.is_known(tree, key) {
                return Ok(None);
            }
        }
        // That there is none is always fresh.
        let mut location = Ok(None);
        self.each(tree, (key, key), 0, 1, |item| {
            location = location_of(item.data, name);
            ControlFlow::Break(())
        })?;
        location.map_err(|()| TreeError::Undecodable(tree))
    }

    /// Returns every name of an inode and the directory that it is in.
    pub(crate) fn names(&mut self, tree: u64, inode: u64) -> Result<Vec<Name>, TreeError> {
        let mut names: Vec<Name> = Vec::new();
        let mut odd = false;
        // From its own item on, which is asked for next.
        let range = ((inode, INODE_ITEM, 0), (inode, INODE_EXTREF, u64::MAX));
        self.each_near(tree, range, u32::MAX, |item| {
            let mut add = |found: Option<(u64, &[u8])>| match found {
                Some((parent, name)) => names.push((parent, name.into())),
                None => odd = true,
            };
            match item.kind {
                INODE_REF => decode::inode_refs(item.data)
                    .for_each(|name| add(name.map(|name| (item.offset, name)))),
                INODE_EXTREF => decode::inode_extrefs(item.data).for_each(add),
                _ => {}
            }
            ControlFlow::Continue(())
        })?;
        if odd {
            Err(TreeError::Undecodable(tree))
        } else {
            Ok(names)
        }
    }
}

/// Returns where a name leads by the entries of one hash; `None` when none of them has it.
fn location_of(data: &[u8], name: &[u8]) -> Result<Option<Location>, ()> {
    let mut location = None;
    for entry in decode::dir_entries(data) {
        let entry = entry.ok_or(())?;
        if entry.name == name {
            location = Some(entry.location.ok_or(())?);
        }
    }
    Ok(location)
}

/// Returns the key after this one.
fn after((objectid, kind, offset): Key) -> Option<Key> {
    match (offset.checked_add(1), kind.checked_add(1)) {
        (Some(offset), _) => Some((objectid, kind, offset)),
        (None, Some(kind)) => Some((objectid, kind, 0)),
        (None, None) => Some((objectid.checked_add(1)?, 0, 0)),
    }
}

fn explain(errno: Errno, tree: u64) -> TreeError {
    match errno {
        Errno::PERM => TreeError::NotPermitted,
        Errno::NOENT => TreeError::Gone(tree),
        Errno::NOTTY => TreeError::NotBtrfs,
        errno => TreeError::Io(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::after;

    #[test]
    fn keys_carry() {
        assert_eq!(after((1, 2, 3)), Some((1, 2, 4)));
        assert_eq!(after((1, 2, u64::MAX)), Some((1, 3, 0)));
        assert_eq!(after((1, 255, u64::MAX)), Some((2, 0, 0)));
        assert_eq!(after((u64::MAX, 255, u64::MAX)), None);
    }
}
