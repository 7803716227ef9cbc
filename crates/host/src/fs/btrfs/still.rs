//! What earlier searches found, and of which trees it says all.

use super::runs::Runs;
use super::search::{Key, Trees};

/// What searches found in a tree that stands still: that there is nothing holds as well.
#[derive(Debug)]
pub(crate) struct Still {
    tree: u64,
    runs: Runs,
}

impl Still {
    /// Returns that nothing is known yet of this tree.
    pub(crate) fn of(tree: u64) -> Self {
        Self {
            tree,
            runs: Runs::of_many(),
        }
    }

    /// Whether it is of this tree.
    pub(crate) fn is_of(&self, tree: u64) -> bool {
        self.tree == tree
    }
}

impl Trees<'_> {
    /// Looks up in what earlier searches found in a tree that stood still since, and adds to it.
    pub(crate) fn keep_still(&mut self, still: Still) {
        self.still = Some(still);
    }

    /// Gives that back.
    pub(crate) fn take_still(&mut self) -> Option<Still> {
        self.still.take()
    }

    pub(super) fn stands_still(&self, tree: u64) -> bool {
        self.still.as_ref().is_some_and(|still| still.tree == tree)
    }

    pub(super) fn runs(&self, tree: u64) -> &Runs {
        match &self.still {
            Some(still) if still.tree == tree => &still.runs,
            _ => &self.runs,
        }
    }

    pub(super) fn runs_mut(&mut self, tree: u64) -> &mut Runs {
        match &mut self.still {
            Some(still) if still.tree == tree => &mut still.runs,
            _ => &mut self.runs,
        }
    }

    /// Whether it is known for sure if there is an item of this key: in a tree that stands still.
    pub(super) fn is_known(&self, tree: u64, key: Key) -> bool {
        self.stands_still(tree) && self.runs(tree).find(tree, key, key).is_some()
    }

    /// Forgets what earlier searches found beside what was asked for.
    pub(crate) fn refresh(&mut self) {
        self.runs.clear();
        if let Some(still) = &mut self.still {
            still.runs.clear();
        }
    }

    /// Lets `look` see nothing of what earlier searches found, which is known again afterwards.
    pub(crate) fn afresh<T>(&mut self, look: impl FnOnce(&mut Self) -> T) -> T {
        let (known, still) = (std::mem::take(&mut self.runs), self.still.take());
        let found = look(self);
        (self.runs, self.still) = (known, still);
        found
    }
}
