//! What a comparison found, within bounds that a container cannot exceed.

use plimsoll_core::model::{Bytes, Change, Gap};

/// How much is kept of what a comparison finds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// List everything beneath a deleted directory.
    pub expand: bool,
    /// Changes kept at most.
    pub max_changes: usize,
}

/// Bytes of paths, link targets and names of attributes kept at most, over all changes: a container
/// chooses how long they are.
const MAX_NAME_BYTES: usize = 64 << 20;

/// Changes that room is made for before they are found.
const EXPECTED_MAX: usize = 100_000;

/// Gaps kept at most.
const MAX_GAPS: usize = 1000;

/// Bytes of what gaps are about kept at most.
const MAX_GAP_BYTES: usize = 16 << 20;

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Changes, sorted by path.
    pub changes: Vec<Change>,
    /// What could not be seen.
    pub gaps: Vec<Gap>,
    /// Paths that the driver holds a copy of although nothing differs.
    pub identical_copies: u64,
}

impl Outcome {
    /// Adds another one, of a comparison of its own: where both tell of a path, this one holds.
    pub(crate) fn extend(&mut self, other: Self) {
        self.changes.extend(other.changes);
        sort(&mut self.changes);
        self.changes.dedup_by(|b, a| a.path == b.path);
        self.gaps.extend(other.gaps);
        self.identical_copies += other.identical_copies;
    }
}

/// Sorts changes by path; those of one path stay in their order. The standard library's sort that keeps the
/// order takes as much room again as there are changes.
pub(crate) fn sort(changes: &mut [Change]) {
    if changes.is_sorted_by_key(|change| &change.path) {
        return;
    }
    let path = |at: usize| changes.get(at).map(|change| &change.path);
    let mut order: Vec<usize> = (0..changes.len()).collect();
    order.sort_unstable_by(|a, b| path(*a).cmp(&path(*b)).then(a.cmp(b)));
    // What belongs in a place goes there, what was there to the place that this leaves, and so around.
    for start in 0..order.len() {
        let mut at = start;
        while let Some(from) = order.get_mut(at).map(|from| std::mem::replace(from, at)) {
            if from == start {
                break;
            }
            changes.swap(at, from);
            at = from;
        }
    }
}

/// Returns how much memory the names in a change take.
fn name_bytes(change: &Change) -> usize {
    let targets = [change.before(), change.after()]
        .into_iter()
        .filter_map(|attributes| attributes?.target)
        .map(|target| target.as_bytes().len());
    let xattrs = change
        .xattrs
        .iter()
        .map(|name| name.as_bytes().len() + size_of::<Bytes>());
    let from = change.renamed_from.iter().map(|from| from.as_bytes().len());
    change.path.as_bytes().len() + targets.chain(xattrs).chain(from).sum::<usize>()
}

/// Collects an [`Outcome`], and counts what goes beyond the limits.
#[derive(Debug)]
pub(crate) struct Recorder {
    outcome: Outcome,
    limits: Limits,
    name_bytes: usize,
    gap_bytes: usize,
    changes_omitted: u64,
    gaps_omitted: u64,
}

impl Recorder {
    /// Makes room for as many changes as are expected, and some more: where the room grows with them instead,
    /// what it was before stays beside it. What of it is not used takes no memory.
    pub(crate) fn new(limits: Limits, expected: usize) -> Self {
        let expected = (expected + expected / 2).min(EXPECTED_MAX);
        let changes = Vec::with_capacity(expected.min(limits.max_changes));
        Self {
            outcome: Outcome {
                changes,
                ..Outcome::default()
            },
            limits,
            name_bytes: 0,
            gap_bytes: 0,
            changes_omitted: 0,
            gaps_omitted: 0,
        }
    }

    pub(crate) fn change(&mut self, change: Change) {
        let length = name_bytes(&change);
        if self.outcome.changes.len() >= self.limits.max_changes
            || self.name_bytes + length > MAX_NAME_BYTES
        {
            self.changes_omitted += 1;
        } else {
            self.name_bytes += length;
            self.outcome.changes.push(change);
        }
    }

    pub(crate) fn gap(&mut self, gap: Gap) {
        self.gap_bytes += gap.what.as_bytes().len();
        if self.outcome.gaps.len() >= MAX_GAPS || self.gap_bytes > MAX_GAP_BYTES {
            self.gaps_omitted += 1;
        } else {
            self.outcome.gaps.push(gap);
        }
    }

    pub(crate) fn identical_copy(&mut self) {
        self.outcome.identical_copies += 1;
    }

    /// Returns what was found, sorted by path, with one gap for what went beyond the limits.
    pub(crate) fn finish(mut self) -> Outcome {
        sort(&mut self.outcome.changes);
        self.outcome.changes.dedup_by(|b, a| a.path == b.path);
        if self.changes_omitted > 0 {
            let why = format!(
                "{} more changes were counted, not kept: raise --max-changes",
                self.changes_omitted
            );
            self.outcome.gaps.push(Gap::new("changes", why));
        }
        if self.gaps_omitted > 0 {
            let why = format!("{} more paths could not be seen", self.gaps_omitted);
            self.outcome.gaps.push(Gap::new("gaps", why));
        }
        self.outcome
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_core::model::{ChangeKind, RootPath};

    use super::*;

    #[test]
    fn changes_are_sorted_and_those_of_one_path_keep_their_order() {
        use ChangeKind::{Added, Changed, Deleted};
        let paths = ["/c", "/a", "/b", "/a", "/", "/c", "/a"];
        let kinds = [Added, Added, Added, Deleted, Added, Deleted, Changed];
        let made = paths.iter().zip(kinds).map(|(path, kind)| {
            let path = RootPath::parse(path.as_bytes()).unwrap();
            Change::new(path, kind)
        });
        let mut changes: Vec<Change> = made.collect();
        let mut expected = changes.clone();
        expected.sort_by(|a, b| a.path.cmp(&b.path));
        sort(&mut changes);
        assert_eq!(changes, expected);
    }
}
