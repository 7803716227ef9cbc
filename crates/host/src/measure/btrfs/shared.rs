//! What was read of the trees of images once, and holds for all containers on them.
//!
//! A tree that was changed has a later generation in its root item once that is committed, and a check
//! commits what is pending first: with the same generation it is the tree that was read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::example::Example;
use crate::fs::Dir;
use crate::fs::btrfs::Still;

/// Trees of which anything is kept: those that were compared with last, one for each thread that does.
const TREES_MAX: usize = 8;

/// Images of which an example is kept.
const IMAGES_MAX: usize = 64;

/// How many subvolumes over one image may be tried for one.
const TRIES: usize = 8;

/// What is known of the trees of images, for as long as one run lasts.
#[derive(Debug, Default)]
pub struct ImageTrees {
    /// The one that was compared with last stands last.
    known: Mutex<Vec<Known>>,
    /// What is known of the subvolumes that the runtime put over images for their containers.
    examples: Mutex<Vec<Tried>>,
}

/// An image that such subvolumes were compared with.
#[derive(Debug)]
struct Tried {
    image: u64,
    times: usize,
    example: Option<Arc<Example>>,
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

    /// Returns the subvolume over an image in which nothing was found but what was expected, if there is one;
    /// of the very same tree only where the image still has the example's transaction.
    pub(super) fn example(&self, anchor: &Arc<Dir>, image: u64) -> Option<Arc<Example>> {
        let examples = self.examples.lock();
        let examples = examples.unwrap_or_else(PoisonError::into_inner);
        let of_image = examples.iter().find(|tried| tried.image == image)?;
        let example = of_image.example.as_ref()?;
        Arc::ptr_eq(&example.anchor, anchor).then(|| Arc::clone(example))
    }

    /// Whether the next subvolume over an image may become the example: not the first one, which may be the
    /// only one, and not after some that could not.
    pub(super) fn wants_example(&self, image: u64) -> bool {
        let examples = self.examples.lock();
        let mut examples = examples.unwrap_or_else(PoisonError::into_inner);
        match examples.iter_mut().find(|tried| tried.image == image) {
            Some(tried) => {
                tried.times += 1;
                tried.times <= TRIES
            }
            None => {
                if examples.len() == IMAGES_MAX {
                    examples.remove(0);
                }
                examples.push(Tried {
                    image,
                    times: 0,
                    example: None,
                });
                false
            }
        }
    }

    /// Keeps an example.
    pub(super) fn keep(&self, example: Example) {
        let examples = self.examples.lock();
        let mut examples = examples.unwrap_or_else(PoisonError::into_inner);
        let mut tried = examples.iter_mut();
        if let Some(tried) = tried.find(|tried| tried.image == example.image) {
            tried.example = Some(Arc::new(example));
        }
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
