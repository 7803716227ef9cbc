//! Runs of neighbouring items that were read with the one asked for.
//!
//! A search for one item costs the kernel about as much as one for all that lie beside it in its leaf,
//! and who asks for an inode asks for its attributes and extents next, then for the next inode.
//! What comes from a run is as it was when the run was read: later than the start of the check, which
//! is what is promised, but not the newest.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::decode::{self, INODE_ITEM, Item};
use super::search::Key;

/// Runs kept.
const RUNS: usize = 4;

/// Runs kept of a tree that stands still, for all that are compared with it.
const MANY_RUNS: usize = 32;

/// Directories kept whose entries were read, of either tree those of four levels.
const DIRECTORIES: usize = 8;

/// Items read where nothing is known of what comes next: an inode and what belongs to it, mostly.
const FEW: u32 = 6;

/// Inodes kept of those that will be asked for once more, and bytes of items of one.
const KEPT_MAX: usize = 512;
const KEPT_BYTES: usize = 512;

/// Items read at most, where inodes are asked for one after the other.
pub(super) const MANY: u32 = 256;

/// How many inodes further on still counts as one after the other.
const NEAR: u64 = 4;

/// Of so many inodes of a run one must have been asked for, so that longer runs are worth their reading: a
/// search takes as long as copying ten items, and an inode has three or four.
const DENSITY: u64 = 4;

/// The highest key that there is.
pub(super) const LAST_KEY: Key = (u64::MAX, u8::MAX, u64::MAX);

/// All items of a tree from one key up to another.
#[derive(Debug)]
pub(super) struct Run {
    tree: u64,
    /// How many inodes it has items of.
    inodes: u64,
    /// Of how many of these some were asked for, and the last one.
    asked: Cell<(u64, u64)>,
    from: Key,
    upto: Key,
    /// The key of each item, and from where up to where its data lies.
    keys: Vec<(Key, u32, u32)>,
    data: Vec<u8>,
}

impl Run {
    /// Starts a run at a key; it is empty, and holds all there is up to nowhere.
    pub(super) fn new(tree: u64, from: Key) -> Self {
        Self {
            tree,
            inodes: 0,
            asked: Cell::default(),
            from,
            upto: LAST_KEY,
            keys: Vec::new(),
            data: Vec::new(),
        }
    }

    /// Adds the next item. The run reaches as far as the last one added; with none, to the end of the
    /// tree.
    pub(super) fn push(&mut self, item: &Item<'_>) {
        let start = self.data.len();
        self.data.extend_from_slice(item.data);
        self.add(item, start);
    }

    /// Adds the items that a search returned, as they stand there, and returns how many there are: copied at
    /// one go, since copies of a few bytes each take as long as the search.
    pub(super) fn extend(&mut self, bytes: &[u8], count: u32) -> u32 {
        let first = self.data.len();
        let mut used = 0;
        let mut found = 0;
        for item in decode::items(bytes, count) {
            used += decode::HEADER;
            self.add(&item, first + used);
            used += item.data.len();
            found += 1;
        }
        self.data
            .extend_from_slice(bytes.get(..used).unwrap_or_default());
        found
    }

    /// Notes an item whose data lies from `start` on.
    fn add(&mut self, item: &Item<'_>, start: usize) {
        let key = (item.objectid, item.kind, item.offset);
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let end = start.saturating_add(item.data.len());
        self.keys.push((key, place(start), place(end)));
        if self.inodes == 0 || self.upto.0 != item.objectid {
            self.inodes += 1;
        }
        self.upto = key;
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Lets the run reach up to a key: there is nothing else before it.
    pub(super) fn reach(&mut self, upto: Key) {
        self.upto = upto;
    }

    /// Whether it has every item of this range.
    pub(super) fn covers(&self, tree: u64, min: Key, max: Key) -> bool {
        self.tree == tree && self.from <= min && max <= self.upto
    }

    /// Returns what it has of an inode itself, as much as `bytes` of it, and without its entries.
    fn of_inode(&self, inode: u64, bytes: usize) -> Self {
        let mut own = Self::new(self.tree, (inode, INODE_ITEM, 0));
        // All that there is up to here, unless something is left out.
        let mut upto = self.upto.min((inode, u8::MAX, u64::MAX));
        for item in self.items(own.from, upto) {
            if item.kind >= decode::DIR_ITEM && item.kind <= decode::DIR_INDEX {
                upto = (inode, decode::DIR_ITEM - 1, u64::MAX);
                break;
            }
            if own.data.len() + item.data.len() > bytes {
                upto = own.upto;
                break;
            }
            own.push(&item);
        }
        own.reach(upto);
        own
    }

    /// Notes that items of this inode were asked for.
    fn note(&self, inode: u64) {
        let (count, last) = self.asked.get();
        if last != inode {
            self.asked.set((count + 1, inode));
        }
    }

    /// Returns how many items to read where this run ends: the more, the more of it was of use.
    fn next_length(&self) -> u32 {
        let (asked, _) = self.asked.get();
        let length = u32::try_from(self.len()).unwrap_or(MANY);
        let next = if asked * DENSITY >= self.inodes + DENSITY - 1 {
            length.saturating_mul(4)
        } else if asked * DENSITY * 2 >= self.inodes {
            length
        } else {
            FEW
        };
        next.clamp(FEW, MANY)
    }

    /// Returns the items from `min` up to `max`.
    pub(super) fn items(&self, min: Key, max: Key) -> impl Iterator<Item = Item<'_>> {
        let first = self.keys.partition_point(|(key, ..)| *key < min);
        let keys = self.keys.get(first..).unwrap_or_default();
        keys.iter().take_while(move |(key, ..)| *key <= max).map(
            |&((objectid, kind, offset), start, end)| Item {
                objectid,
                kind,
                offset,
                data: self
                    .data
                    .get(start as usize..end as usize)
                    .unwrap_or_default(),
            },
        )
    }
}

/// Inodes that a search for what is new found in a tree: runs that begin with the inode's own item.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    runs: Vec<Run>,
    bytes: usize,
}

impl Fresh {
    /// Inodes and bytes of items kept at most.
    const INODES_MAX: usize = 64;
    const BYTES_MAX: usize = 16 << 10;

    /// Adds an inode's own item. Of one that is new every item is: [`Fresh::item`] takes the others.
    pub(crate) fn inode(&mut self, tree: u64, item: &Item<'_>, is_new: bool) {
        self.bytes += item.data.len();
        if self.runs.len() == Self::INODES_MAX || self.bytes > Self::BYTES_MAX {
            return;
        }
        let key = (item.objectid, item.kind, item.offset);
        let mut run = Run::new(tree, key);
        run.push(item);
        if is_new {
            run.reach((item.objectid, u8::MAX, u64::MAX));
        }
        self.runs.push(run);
    }

    /// Adds the next item of the new inode that was added last.
    pub(crate) fn item(&mut self, item: &Item<'_>) {
        self.bytes += item.data.len();
        let full = self.bytes > Self::BYTES_MAX;
        let Some(run) = self.runs.last_mut() else {
            return;
        };
        let end = (item.objectid, u8::MAX, u64::MAX);
        if run.from.0 != item.objectid || run.upto != end {
            return;
        }
        // One of which anything is missing is none.
        if full {
            self.runs.pop();
            return;
        }
        run.push(item);
        run.reach(end);
    }
}

/// The runs last read, the newest first.
#[derive(Debug)]
pub(super) struct Runs {
    runs: Vec<Run>,
    max: usize,
    /// The entries of directories, which are asked for while many runs come and go.
    directories: Vec<Run>,
    max_directories: usize,
    fresh: Vec<Run>,
    /// By tree and inode.
    kept: BTreeMap<(u64, u64), Run>,
}

impl Default for Runs {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            max: RUNS,
            directories: Vec::new(),
            max_directories: DIRECTORIES,
            fresh: Vec::new(),
            kept: BTreeMap::new(),
        }
    }
}

impl Runs {
    /// Returns room for more of them than elsewhere.
    pub(super) fn of_many() -> Self {
        Self {
            max: MANY_RUNS,
            max_directories: MANY_RUNS,
            ..Self::default()
        }
    }

    /// Returns the run that has every item of a range, if one does.
    pub(super) fn find(&self, tree: u64, min: Key, max: Key) -> Option<&Run> {
        let runs = self.runs.iter().chain(&self.directories);
        let covers = |run: &&Run| run.covers(tree, min, max);
        let run = runs.chain(&self.fresh).find(covers);
        let run = run.or_else(|| self.kept.get(&(tree, min.0)).filter(covers))?;
        run.note(min.0);
        Some(run)
    }

    /// Keeps what a run has of an inode itself, its entries aside, while other runs come and go.
    pub(super) fn keep_inode(&mut self, tree: u64, inode: u64) {
        let first = (inode, INODE_ITEM, 0);
        let run = self.runs.iter().find(|run| run.covers(tree, first, first));
        let (Some(run), true) = (run, self.kept.len() < KEPT_MAX) else {
            return;
        };
        let kept = run.of_inode(inode, KEPT_BYTES);
        if kept.len() > 0 {
            self.kept.insert((tree, inode), kept);
        }
    }

    /// Keeps the inodes that a search for what is new found.
    pub(super) fn keep(&mut self, fresh: Fresh) {
        self.fresh = fresh.runs;
    }

    /// Whether entries of a directory were read from just this key on, however far that reaches.
    pub(super) fn has_directory(&self, tree: u64, from: Key) -> bool {
        self.directories
            .iter()
            .any(|run| run.tree == tree && run.from == from)
    }

    /// Returns how many items to read from a key on: the more, the longer inodes were asked for one
    /// after the other, or almost.
    pub(super) fn wanted(&self, tree: u64, (inode, kind, _): Key) -> u32 {
        // Who knows the inode already asks for what belongs to it alone.
        if kind != INODE_ITEM && self.fresh.iter().any(|run| run.from.0 == inode) {
            return FEW;
        }
        let follows = |run: &&Run| {
            run.tree == tree && (run.from.0..=run.upto.0.saturating_add(NEAR)).contains(&inode)
        };
        let following = self.runs.iter().filter(follows);
        following.map(Run::next_length).max().unwrap_or(FEW)
    }

    pub(super) fn add(&mut self, run: Run) {
        self.runs.truncate(self.max - 1);
        self.runs.insert(0, run);
    }

    /// Adds entries of a directory.
    pub(super) fn add_directory(&mut self, run: Run) {
        self.directories.truncate(self.max_directories - 1);
        self.directories.insert(0, run);
    }

    /// Forgets all of them: what is asked for next is read anew.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.directories.clear();
        self.fresh.clear();
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: Key, data: &[u8]) -> Item<'_> {
        Item {
            objectid: key.0,
            kind: key.1,
            offset: key.2,
            data,
        }
    }

    #[test]
    fn a_run_answers_for_what_it_covers_and_nothing_else() {
        let mut run = Run::new(5, (300, 1, 0));
        for (key, data) in [
            ((300, 1, 0), &b"inode"[..]),
            ((300, 12, 256), b"name"),
            ((301, 1, 0), b""),
            ((301, 12, 256), b"other"),
        ] {
            run.push(&item(key, data));
        }
        let end = (300, 255, u64::MAX);
        assert!(run.covers(5, (300, 1, 0), end));
        assert!(!run.covers(6, (300, 1, 0), end));
        assert!(!run.covers(5, (299, 1, 0), end));
        assert!(!run.covers(5, (301, 1, 0), (301, 255, 0)));
        let data = |min, max| {
            run.items(min, max)
                .map(|i| i.data.to_vec())
                .collect::<Vec<_>>()
        };
        assert_eq!(data((300, 1, 0), end), [&b"inode"[..], b"name"]);
        assert_eq!(
            data((300, 12, 0), (301, 12, 256)),
            [&b"name"[..], b"", b"other"]
        );
        assert_eq!(
            data((300, 24, 0), (300, 24, u64::MAX)),
            Vec::<Vec<u8>>::new()
        );
        // As a search returns them.
        let mut returned = Vec::new();
        let ours: Vec<_> = run.items((0, 0, 0), LAST_KEY).collect();
        for item in &ours {
            returned.extend_from_slice(&7_u64.to_le_bytes());
            returned.extend_from_slice(&item.objectid.to_le_bytes());
            returned.extend_from_slice(&item.offset.to_le_bytes());
            returned.extend_from_slice(&u32::from(item.kind).to_le_bytes());
            returned.extend_from_slice(&(item.data.len() as u32).to_le_bytes());
            returned.extend_from_slice(item.data);
        }
        let mut other = Run::new(5, (300, 1, 0));
        assert_eq!(other.extend(&returned, 4), 4);
        let told = |run: &Run| format!("{:?}", run.items((0, 0, 0), LAST_KEY).collect::<Vec<_>>());
        assert_eq!(told(&other), told(&run));
        let mut torn = Run::new(5, (300, 1, 0));
        assert_eq!(torn.extend(&returned[..returned.len() - 1], 4), 3);
        // Nothing found is all that there is.
        assert!(Run::new(5, (400, 1, 0)).covers(5, (500, 0, 0), LAST_KEY));
    }

    #[test]
    fn what_is_kept_of_an_inode_outlives_its_run() {
        let mut run = Run::new(5, (300, 1, 0));
        for (key, length) in [
            ((300, 1, 0), 160),
            ((300, 12, 256), 14),
            ((300, 84, 7), 40),
            ((301, 1, 0), 160),
            ((301, 12, 256), 14),
            ((301, 108, 0), KEPT_BYTES),
            ((302, 1, 0), 160),
            ((302, 108, 0), 53),
        ] {
            run.push(&item(key, &vec![0; length]));
        }
        let mut runs = Runs::default();
        runs.add(run);
        (300..=303).for_each(|inode| runs.keep_inode(5, inode));
        for _ in 0..RUNS {
            runs.add(Run::new(5, (1 << 40, 1, 0)));
        }
        let knows = |runs: &Runs, inode, kinds: (u8, u8)| {
            let (min, max) = ((inode, kinds.0, 0), (inode, kinds.1, u64::MAX));
            runs.find(5, min, max)
                .map(|run| run.items(min, max).count())
        };
        // A directory without its entries, and that it has no attributes.
        assert_eq!(knows(&runs, 300, (1, 13)), Some(2));
        assert_eq!(knows(&runs, 300, (24, 24)), Some(0));
        assert_eq!(knows(&runs, 300, (84, 84)), None);
        // Too much is left out, and is not known.
        assert_eq!(knows(&runs, 301, (1, 1)), Some(1));
        assert_eq!(knows(&runs, 301, (108, 108)), None);
        // As far as the run went.
        assert!(runs.find(5, (302, 1, 0), (302, 108, 0)).is_some());
        assert_eq!(knows(&runs, 302, (108, 108)), None);
        assert_eq!(knows(&runs, 303, (1, 1)), None);
        assert!(runs.find(6, (300, 1, 0), (300, 1, 0)).is_none());
        runs.clear();
        assert!(runs.find(5, (300, 1, 0), (300, 1, 0)).is_none());
    }

    #[test]
    fn runs_grow_where_inodes_follow_each_other() {
        let mut runs = Runs::default();
        assert_eq!(runs.wanted(5, (300, 1, 0)), FEW);
        let mut run = Run::new(5, (300, 1, 0));
        run.push(&item((302, 1, 0), b""));
        runs.add(run);
        assert_eq!(runs.wanted(5, (303, 1, 0)), FEW);
        let mut run = Run::new(5, (303, 1, 0));
        (303..343).for_each(|inode| run.push(&item((inode, 1, 0), b"")));
        runs.add(run);
        let ask =
            |runs: &Runs, inode| assert!(runs.find(5, (inode, 1, 0), (inode, 1, 0)).is_some());
        // Of no use so far, then of some, then of much.
        assert_eq!(runs.wanted(5, (343, 1, 0)), FEW);
        (0..5).for_each(|n| ask(&runs, 303 + 8 * n));
        assert_eq!(runs.wanted(5, (343, 1, 0)), 40);
        (0..10).for_each(|n| ask(&runs, 304 + 4 * n));
        assert_eq!(runs.wanted(5, (343, 1, 0)), 160);
        assert_eq!(runs.wanted(5, (900, 1, 0)), FEW);
        assert_eq!(runs.wanted(6, (343, 1, 0)), FEW);
        runs.clear();
        assert!(runs.find(5, (300, 1, 0), (300, 1, 0)).is_none());
    }
}
