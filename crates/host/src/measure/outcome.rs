//! What a comparison found, within bounds that a container cannot exceed.

use plimsoll_core::model::{Change, Gap};

/// How much is kept of what a comparison finds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// List everything beneath a deleted directory.
    pub expand: bool,
    /// Changes kept at most.
    pub max_changes: usize,
}

/// Bytes of paths kept at most, over all changes: long paths count for more than one change.
const MAX_PATH_BYTES: usize = 64 << 20;

/// Gaps kept at most.
const MAX_GAPS: usize = 1000;

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

/// Collects an [`Outcome`], and counts what goes beyond the limits.
#[derive(Debug)]
pub(super) struct Recorder {
    outcome: Outcome,
    limits: Limits,
    path_bytes: usize,
    changes_omitted: u64,
    gaps_omitted: u64,
}

impl Recorder {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            outcome: Outcome::default(),
            limits,
            path_bytes: 0,
            changes_omitted: 0,
            gaps_omitted: 0,
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        let length = change.path.as_bytes().len();
        if self.outcome.changes.len() >= self.limits.max_changes
            || self.path_bytes + length > MAX_PATH_BYTES
        {
            self.changes_omitted += 1;
        } else {
            self.path_bytes += length;
            self.outcome.changes.push(change);
        }
    }

    pub(super) fn gap(&mut self, gap: Gap) {
        if self.outcome.gaps.len() >= MAX_GAPS {
            self.gaps_omitted += 1;
        } else {
            self.outcome.gaps.push(gap);
        }
    }

    pub(super) fn identical_copy(&mut self) {
        self.outcome.identical_copies += 1;
    }

    /// Returns what was found, sorted by path, with one gap for what went beyond the limits.
    pub(super) fn finish(mut self) -> Outcome {
        self.outcome.changes.sort_by(|a, b| a.path.cmp(&b.path));
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
