//! Whether a tree was written to since.

use std::ops::ControlFlow;

use super::runs::LAST_KEY;
use super::{TreeError, Trees};

impl Trees<'_> {
    /// Whether anything in a tree was written in a later transaction than this one. Each change of an item
    /// makes a new block of it and of each above it, up to the root, so that one search tells.
    pub(crate) fn touched_since(&mut self, tree: u64, generation: u64) -> Result<bool, TreeError> {
        let everything = ((0, 0, 0), LAST_KEY);
        let mut touched = false;
        self.each(tree, everything, generation.saturating_add(1), 1, |_| {
            touched = true;
            ControlFlow::Break(())
        })?;
        Ok(touched)
    }
}
