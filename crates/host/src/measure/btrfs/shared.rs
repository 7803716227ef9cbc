//! What was read of the trees of images once, and holds for all containers on them.
//!
//! A tree that was changed has a later generation in its root item once that is committed, and a check
//! commits what is pending first: with the same generation it is the tree that was read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fs::Dir;
use crate::fs::btrfs::Still;

/// Trees of which anything is kept: those that were compared with last, one for each thread that does.
const TREES_MAX: usize = 8;

/// What is known of the trees of images, for as long as one run lasts.
#[derive(Debug, Default)]
pub struct ImageTrees {
    /// The one that was compared with last stands last.
    known: Mutex<Vec<Known>>,
}

/// A tree as of one generation of it.
#[derive(Debug)]
struct Known {
    /// A directory of its file system, the very handle.
    anchor: Arc<Dir>,
    generation: u64,
    still: Still,
}

impl ImageTrees {
    /// Takes out what is known of a tree of this generation.
    pub(super) fn take(&self, anchor: &Arc<Dir>, tree: u64, generation: u64) -> Still {
        let mut known = self.locked();
        let is_it = |known: &Known| {
            known.still.is_of(tree)
                && known.generation == generation
                && Arc::ptr_eq(&known.anchor, anchor)
        };
        match known.iter().rposition(is_it) {
            Some(at) => known.remove(at).still,
            None => Still::of(tree),
        }
    }

    /// Puts it back, for the next one.
    pub(super) fn give(&self, anchor: &Arc<Dir>, generation: u64, still: Still) {
        let mut known = self.locked();
        if known.len() == TREES_MAX {
            known.remove(0);
        }
        known.push(Known {
            anchor: Arc::clone(anchor),
            generation,
            still,
        });
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
