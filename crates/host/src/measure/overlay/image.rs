//! What was found in the layers of an image once, and holds for all containers on it.
//!
//! The layers of an image are what a container is held against: one look at each name in them serves all
//! containers of a run that ask about it. What belongs to a container alone is never kept here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::example::{Example, Known, Root};
use super::marks::Marks;
use super::node::{Leaf, Node, Part};
use crate::fs::{Dir, Stat};
use crate::layers::{Layer, MarkNamespace, OverlayStack};
use plimsoll_core::model::RuntimePath;

/// Images of which anything is kept: those that were asked about last.
const IMAGES_MAX: usize = 8;

/// Names that are kept of one image, and the longest of them: containers choose which are asked about.
const NAMES_MAX: usize = 1024;
const NAME_LENGTH: usize = 64;

/// Directories of the layers of one image that are held open.
const OPEN_MAX: usize = 48;

/// What is known of images, for as long as one run lasts.
#[derive(Debug, Default)]
pub struct Images {
    /// The one that was asked about last stands last.
    known: Mutex<Vec<Arc<Image>>>,
}

impl Images {
    /// Returns what is known of the layers of a stack's image, of which the topmost has this number there.
    pub(super) fn of(&self, stack: &OverlayStack, from: usize) -> Option<Shared> {
        let image = self.image(stack);
        Some(Shared { image, from })
    }

    /// Returns what is known of the layer that a runtime put between a stack's image and the container, where
    /// there is one and its marks are the kernel's.
    #[must_use]
    pub fn examples(&self, stack: &OverlayStack) -> Option<Examples> {
        let prefix = stack.marks.prefix()?;
        let is_one = stack.injected.len() == 1 && stack.data_only.is_empty();
        is_one.then(|| Examples {
            image: self.image(stack),
            prefix,
        })
    }

    fn image(&self, stack: &OverlayStack) -> Arc<Image> {
        let mut known = locked(&self.known);
        let image = match known.iter().position(|image| image.is_of(stack)) {
            Some(at) => known.remove(at),
            None => {
                if known.len() == IMAGES_MAX {
                    known.remove(0);
                }
                Arc::new(Image {
                    layers: stack.image.clone(),
                    marks: stack.marks,
                    found: Mutex::new(Found::of(&stack.image)),
                    example: Known::default(),
                })
            }
        };
        known.push(Arc::clone(&image));
        image
    }
}

/// What is known of the layers that a runtime put over one image for its containers.
#[derive(Debug)]
pub struct Examples {
    image: Arc<Image>,
    prefix: &'static [u8],
}

impl Examples {
    /// Returns how many entries a layer has, when it is as one of another container on the image in which
    /// nothing was found but what was expected. `root` is what was read of its root just now.
    #[must_use]
    pub fn have(
        &self,
        layer: &Layer,
        root: Option<&Root>,
        expected: &[RuntimePath],
    ) -> Option<u64> {
        let known = &self.image.example;
        known.is_of(layer, root, expected, self.prefix)
    }

    /// Reads a layer before it is compared, when it may become the example.
    pub(in crate::measure) fn read(&self, layer: &Layer) -> Option<Example> {
        self.image.example.read(layer, self.prefix)
    }

    /// Keeps it, when nothing was found in it but what was expected.
    pub(in crate::measure) fn keep(
        &self,
        layer: &Layer,
        example: Example,
        expected: &[RuntimePath],
    ) {
        let known = &self.image.example;
        known.keep(layer, example, expected, self.prefix);
    }
}

/// The layers of one image.
#[derive(Debug)]
struct Image {
    /// The very handles that were looked through, the topmost first.
    layers: Vec<Arc<Layer>>,
    /// Which attributes were taken for marks.
    marks: MarkNamespace,
    found: Mutex<Found>,
    /// The layer that the runtime put over it for one of its containers.
    example: Known,
}

impl Image {
    fn is_of(&self, stack: &OverlayStack) -> bool {
        self.marks == stack.marks
            && self.layers.len() == stack.image.len()
            && (self.layers.iter().zip(&stack.image)).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

/// What was found in them. Layers are counted from the topmost one of the image on.
#[derive(Debug, Default)]
struct Found {
    /// What the root of each layer is, and what its marks say where that matters.
    roots: Vec<Option<(Stat, Marks)>>,
    /// What names mean in the merged directory that begins with this one: that of the roots, and each that is
    /// among the answers. A handle in a key stays open, so that its address is no other's.
    names: HashMap<DirKey, HashMap<Box<[u8]>, Option<Node>>>,
    /// How many names that are.
    count: usize,
    /// How many directories are held open.
    open: usize,
}

impl Found {
    fn of(layers: &[Arc<Layer>]) -> Self {
        let root = layers.first().map(|top| DirKey(Arc::clone(&top.dir)));
        Self {
            roots: vec![None; layers.len()],
            names: root
                .map(|root| (root, HashMap::new()))
                .into_iter()
                .collect(),
            ..Self::default()
        }
    }
}

/// A directory by its very handle.
#[derive(Debug, Clone)]
struct DirKey(Arc<Dir>);

impl PartialEq for DirKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for DirKey {}

impl std::hash::Hash for DirKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// What is known of an image, seen from one container on it.
#[derive(Debug)]
pub(super) struct Shared {
    image: Arc<Image>,
    /// The number that the image's topmost layer has there.
    from: usize,
}

impl Shared {
    /// Whether a layer is the topmost one of the image.
    pub(super) fn is_top(&self, layer: usize) -> bool {
        layer == self.from
    }

    /// Returns what the root of a layer is, when it is one of the image's and known.
    pub(super) fn root(&self, layer: usize) -> Option<(Stat, Marks)> {
        let found = locked(&self.image.found);
        found.roots.get(layer.checked_sub(self.from)?)?.clone()
    }

    /// Keeps what the root of a layer is, when it is one of the image's.
    pub(super) fn keep_root(&self, part: &Part) {
        let mut found = locked(&self.image.found);
        let at = part.layer.checked_sub(self.from);
        if let Some(root) = at.and_then(|at| found.roots.get_mut(at)) {
            *root = Some((part.stat, part.marks.clone()));
        }
    }

    /// Whether the layers of the image begin with this part of a merged directory.
    pub(super) fn begins_with(&self, parts: &[Part], part: &Part) -> bool {
        let first = parts.iter().find(|part| part.layer >= self.from);
        first.is_some_and(|first| Arc::ptr_eq(&first.dir, &part.dir))
    }

    /// Returns what a name means in the merged directory of the image that begins with this part, when that
    /// is known.
    pub(super) fn known(&self, first: &Part, name: &[u8]) -> Option<Option<Node>> {
        let found = locked(&self.image.found);
        let names = found.names.get(&DirKey(Arc::clone(&first.dir)))?;
        let mut node = names.get(name)?.clone();
        if let Some(node) = &mut node {
            renumber(node, |layer| layer + self.from);
        }
        Some(node)
    }

    /// Keeps what a name means there, while there is room.
    pub(super) fn keep(&self, first: &Part, name: &[u8], node: Option<&Node>) {
        let mut found = locked(&self.image.found);
        let parts = node.map_or(&[][..], Node::parts);
        if found.count >= NAMES_MAX
            || name.len() > NAME_LENGTH
            || found.open + parts.len() > OPEN_MAX
        {
            return;
        }
        let mut kept = node.cloned();
        if let Some(node) = &mut kept {
            renumber(node, |layer| layer - self.from);
        }
        // In a directory that is not kept nobody asks again.
        let Some(names) = found.names.get_mut(&DirKey(Arc::clone(&first.dir))) else {
            return;
        };
        names.insert(name.into(), kept);
        found.count += 1;
        found.open += parts.len();
        if let Some(first) = parts.first() {
            let key = DirKey(Arc::clone(&first.dir));
            found.names.entry(key).or_default();
        }
    }
}

/// Gives everything that a node consists of another layer number.
fn renumber(node: &mut Node, number: impl Fn(usize) -> usize) {
    match node {
        Node::Dir { parts, .. } => {
            for part in parts {
                part.layer = number(part.layer);
            }
        }
        Node::Leaf(leaf) => {
            let mut next: Option<&mut Leaf> = Some(leaf);
            while let Some(leaf) = next {
                leaf.layer = number(leaf.layer);
                next = leaf.data.as_deref_mut();
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked has left a memo behind that holds less, not something else.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
