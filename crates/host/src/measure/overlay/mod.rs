//! Overlay engine: what the upper layer says.
//!
//! Overlayfs copies a file up before the first byte of it changes, and what upper says of an image
//! path is sticky: a copy can become a whiteout, never absent again. So a path without an entry of
//! its own in upper, without a mark on a directory above it and without an index entry is the
//! lower's file, unchanged, and only upper has to be walked (kernel `fs/overlayfs/copy_up.c`,
//! `namei.c`, `dir.c`).

mod again;
mod content;
mod example;
pub(crate) mod fuse;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod image;
mod index;
mod listing;
pub(crate) mod marks;
mod node;
mod readers;
mod redirect;
mod untouched;

use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use plimsoll_core::model::{Attributes, Bytes, DiffId, RootPath};

pub use self::example::Root;
use self::image::Shared;
pub use self::image::{Examples, Images};
use self::index::Index;
pub use self::listing::Cursor;
use self::marks::{MarkReader, Marks};
pub use self::node::Node;
use self::node::{Leaf, Part};
use self::readers::Readers;
use super::digest::Readable;
use super::{Confirm, Content, Listing, Names, Pair, Settled, Side, Trouble};
use crate::fs::{Dir, Stat};
use crate::layers::{Held, Layer, MarkNamespace, OverlayStack, PlainStack};

/// Layer number of the writable layer; the lowers follow, the top one first.
const UPPER: usize = 0;

/// A directory of a lower layer, a name that was looked up from it on, and what was found.
type Memo = (Arc<Dir>, Box<[u8]>, Option<Node>);

/// An upper layer over lower ones.
#[derive(Debug)]
pub struct OverlayPair<'s> {
    /// The upper layer, then the lowers, then the data-only ones.
    layers: Vec<&'s Layer>,
    /// How many of them take part in the merge.
    merged: usize,
    /// Whether the container's side is upper over the lowers, or the upper tree alone.
    stacked: bool,
    marks: MarkReader,
    index: Index,
    readers: Readers,
    /// Files of the upper layer that more may have been written to than lies there.
    held: Option<&'s Held>,
    /// Whether the upper layer is one that no process writes to, so that it stands still.
    at_rest: bool,
    /// Whether every name has to be looked at, because the index or the caller says so.
    exhaustive: bool,
    /// The roots of the layers that take part in the merge, opened once.
    roots: Vec<Part>,
    /// The image's side of the last directory looked up on the container's, to look it up once.
    memo: Option<Memo>,
    /// What is known of the image's layers, where other containers are on them too.
    shared: Option<Shared>,
    /// The layers that something was told to come from.
    origins: Vec<Arc<DiffId>>,
    entries_read: u64,
    bytes_read: u64,
}

impl<'s> OverlayPair<'s> {
    /// Has it share what it finds in the layers of the image with the other containers on them.
    #[must_use]
    pub fn sharing(mut self, stack: &OverlayStack, images: &Images) -> Self {
        if let Some(from) = self.merged.checked_sub(stack.image.len())
            && stack.data_only.is_empty()
        {
            self.shared = images.of(stack, from);
        }
        self
    }

    /// Returns the container's side against the image with what the runtime put over it.
    ///
    /// # Errors
    /// [`Trouble`] when the index cannot be read.
    pub fn container(stack: &'s OverlayStack, confirm: Confirm) -> Result<Self, Trouble> {
        let image = stack.image.iter().map(Arc::as_ref);
        let lowers = stack.injected.iter().chain(image);
        let mut pair = Self::new(
            &stack.upper,
            lowers.collect(),
            &stack.data_only,
            Some(stack.marks),
            confirm,
        );
        pair.held = Some(&stack.held);
        if let Some(index) = &stack.index {
            pair.index = Index::read(index)?;
            pair.exhaustive = !pair.index.is_empty();
            if pair.exhaustive {
                pair.index.require_one_file_system(&pair.layers)?;
            }
        }
        Ok(pair)
    }

    /// Returns one layer that the runtime put between image and container, against what is beneath.
    #[must_use]
    pub fn injected(stack: &'s OverlayStack, layer: usize, confirm: Confirm) -> Option<Self> {
        let upper = stack.injected.get(layer)?;
        let image = stack.image.iter().map(Arc::as_ref);
        let lowers = stack.injected.iter().skip(layer + 1).chain(image);
        let mut pair = Self::new(
            upper,
            lowers.collect(),
            &stack.data_only,
            Some(stack.marks),
            confirm,
        );
        pair.at_rest = true;
        Some(pair)
    }

    /// Returns two whole trees: nothing is merged and no mark has a meaning.
    #[must_use]
    pub fn plain(stack: &'s PlainStack, confirm: Confirm) -> Self {
        let mut pair = Self::new(&stack.container, vec![&stack.image], &[], None, confirm);
        pair.stacked = false;
        pair.exhaustive = true;
        pair
    }

    /// Compares contents with this many threads once there are many, as many as there are processors for
    /// when absent.
    #[must_use]
    pub fn with_threads(mut self, threads: Option<NonZero<usize>>) -> Self {
        self.readers.set_threads(threads);
        self
    }

    /// Looks at every name of both sides from now on, whatever the metadata says.
    pub fn look_at_everything(&mut self) {
        self.exhaustive = true;
    }

    fn new(
        upper: &'s Layer,
        lowers: Vec<&'s Layer>,
        data_only: &'s [Layer],
        marks: Option<MarkNamespace>,
        confirm: Confirm,
    ) -> Self {
        let mut layers = vec![upper];
        layers.extend(lowers);
        let merged = layers.len();
        layers.extend(data_only);
        Self {
            readers: Readers::new(confirm),
            layers,
            merged,
            stacked: true,
            marks: MarkReader::new(marks),
            index: Index::default(),
            held: None,
            at_rest: false,
            exhaustive: false,
            roots: Vec::new(),
            memo: None,
            shared: None,
            origins: Vec::new(),
            entries_read: 0,
            bytes_read: 0,
        }
    }

    /// Returns the roots of the layers that take part in the merge. They all do, whatever the marks on
    /// one of them say (`ovl_get_root` in `fs/overlayfs/super.c`); what the topmost one of each side has
    /// is told as the root's own.
    fn open_roots(&mut self) -> Result<Vec<Part>, Trouble> {
        let mut roots = Vec::with_capacity(self.merged);
        for (layer, opened) in self.layers.iter().take(self.merged).enumerate() {
            let shared = self.shared.as_ref();
            let known = shared.and_then(|image| image.root(layer));
            let is_top = layer <= 1 || shared.is_some_and(|image| image.is_top(layer));
            let is_known = known.is_some();
            let (stat, marks) = match known {
                Some(known) => known,
                None => {
                    let stat = opened.dir.stat_self()?;
                    let marks = match is_top {
                        true => self.marks.of(&opened.dir, b"", &stat)?,
                        false => Marks::default(),
                    };
                    (stat, marks)
                }
            };
            let part = Part {
                layer,
                dir: Arc::clone(&opened.dir),
                stat,
                marks,
            };
            if let (false, Some(image)) = (is_known, &self.shared) {
                image.keep_root(&part);
            }
            roots.push(part);
        }
        Ok(roots)
    }

    /// Whether more may have been written to a file than lies in its layer.
    fn is_held(&self, leaf: &Leaf) -> bool {
        leaf.layer == UPPER && self.held.is_some_and(|held| held.has(&leaf.stat))
    }

    fn part(&mut self, layer: usize, dir: Dir) -> Result<Part, Trouble> {
        let stat = dir.stat_self()?;
        let marks = self.marks.of(&dir, b"", &stat)?;
        Ok(Part {
            layer,
            dir: Arc::new(dir),
            stat,
            marks,
        })
    }
}

impl Pair for OverlayPair<'_> {
    type Node = Node;
    type Cursor = Cursor;
    const KEEPS_COPIES: bool = true;

    fn root(&mut self, side: Side) -> Result<Node, Trouble> {
        if self.roots.is_empty() {
            self.roots = self.open_roots()?;
        }
        let parts = match (side, self.stacked) {
            (Side::Image, _) => self.roots.get(UPPER + 1..),
            (Side::Container, true) => self.roots.get(UPPER..),
            (Side::Container, false) => self.roots.get(UPPER..=UPPER),
        };
        let parts = parts.unwrap_or_default().to_vec();
        Ok(Node::Dir {
            parts,
            parent_shifted: false,
            shifted: false,
        })
    }

    fn list(
        &mut self,
        what: Listing<'_, Node>,
        cursor: &mut Cursor,
        out: &mut Names,
    ) -> Result<bool, Trouble> {
        let parts: Vec<&Part> = match what {
            Listing::All { dir, .. } => dir.parts().iter().collect(),
            Listing::Suspects { image, container } => {
                let (image, container) = (image.parts(), container.parts());
                match container.split_first() {
                    Some((upper, lowers))
                        if upper.layer == UPPER
                            && same_parts(image, lowers)
                            && !self.exhaustive =>
                    {
                        vec![upper]
                    }
                    _ => {
                        let other = |part: &&Part| !container.iter().any(|of| of.same_as(part));
                        container.iter().chain(image.iter().filter(other)).collect()
                    }
                }
            }
        };
        self.list_parts(&parts, cursor, out)
    }

    fn lookup(&mut self, side: Side, dir: &Node, name: &[u8]) -> Result<Option<Node>, Trouble> {
        let Node::Dir { parts, shifted, .. } = dir else {
            return Ok(None);
        };
        if side == Side::Image {
            if let (Some((of, memo_name, node)), Some(first)) = (&self.memo, parts.first())
                && Arc::ptr_eq(of, &first.dir)
                && **memo_name == *name
            {
                return Ok(node.clone());
            }
            return self.find(parts, name, *shifted);
        }
        let found = self.find(parts, name, *shifted)?;
        if found.is_none() && self.marks.are_fuse() {
            self.require_of_program(parts, name)?;
        }
        if let Some(Node::Leaf(leaf)) = &found
            && leaf.layer != UPPER
            && let Some((dir, name)) = self.index.entry_of(&leaf.stat)
        {
            let mut indexed = self.leaf(UPPER, &dir, &name, leaf.shifted)?;
            if let Some(indexed) = &mut indexed
                && indexed.marks.metacopy
            {
                indexed.data = Some(leaf.data.clone().unwrap_or_else(|| Box::new(leaf.clone())));
            }
            return Ok(indexed.map(Node::Leaf));
        }
        Ok(found)
    }

    fn proven_same(&self, image: &Node, container: &Node) -> bool {
        match (image, container) {
            (
                Node::Dir { parts: image, .. },
                Node::Dir {
                    parts: container, ..
                },
            ) => !self.exhaustive && same_parts(image, container),
            (Node::Leaf(image), Node::Leaf(container)) => {
                image.layer == container.layer
                    && image.stat.ino == container.stat.ino
                    && image.stat.dev == container.stat.dev
                    && image.data_identity() == container.data_identity()
            }
            _ => false,
        }
    }

    fn identity(&self, node: &Node) -> (u64, u64) {
        let (layer, stat) = match node {
            Node::Dir { parts, .. } => match parts.first() {
                Some(part) => (part.layer, &part.stat),
                None => return (u64::MAX, 0),
            },
            Node::Leaf(leaf) => (leaf.layer, &leaf.stat),
        };
        (layer as u64, stat.ino)
    }

    fn again(&mut self, container: &Node) -> Result<Option<Node>, Trouble> {
        match self.at_rest {
            true => Ok(None),
            false => self.look_again(container),
        }
    }

    fn attributes(&mut self, _: Side, node: &Node) -> Result<Attributes, Trouble> {
        match node {
            Node::Dir { parts, .. } => {
                let top = parts.first();
                let top = top.ok_or_else(|| Trouble("it has no layer".into()))?;
                Ok(top.attributes())
            }
            Node::Leaf(leaf) => {
                let target = leaf.target()?.map(Bytes::from);
                Ok(leaf.marks.shown(leaf.stat.attributes(target)))
            }
        }
    }

    fn xattrs(&mut self, _: Side, node: &Node) -> Result<Vec<(Bytes, Bytes)>, Trouble> {
        match node {
            Node::Dir { parts, .. } => match parts.first() {
                Some(top) => self.marks.visible(&top.dir, b"", &top.marks),
                None => Ok(Vec::new()),
            },
            Node::Leaf(leaf) => self.marks.visible(&leaf.parent, &leaf.name, &leaf.marks),
        }
    }

    fn doubt(&mut self, image: Option<&Node>, container: &Node) -> Option<Trouble> {
        match self.marks.are_fuse() {
            true => self.doubt_of_fuse(image, container).unwrap_or_else(Some),
            false => None,
        }
    }

    fn doubt_alone(&mut self, container: &Node) -> Option<Trouble> {
        match (container, self.marks.are_fuse()) {
            (Node::Leaf(leaf), true) => fuse::doubt_alone(leaf),
            _ => None,
        }
    }

    fn same_content(&mut self, image: &Node, container: &Node) -> Result<Content, Trouble> {
        let (image, container) = (leaf(image)?, leaf(container)?);
        let held = self.is_held(container);
        let (content, bytes_read) = match held {
            true => self.readers.compare_alone(image, container)?,
            false => self.readers.compare(image, container)?,
        };
        self.bytes_read += bytes_read;
        match content {
            Content::Same if held => Err(kept_back()),
            content => Ok(content),
        }
    }

    fn settle(&mut self, all: bool) -> Option<Settled<Node>> {
        let (settled, bytes_read) = self.readers.next(all)?;
        self.bytes_read += bytes_read;
        Some(settled)
    }

    fn renamed_from(&mut self, container: &Node, path: &RootPath) -> Option<RootPath> {
        let (layer, marks, parent_shifted) = match container {
            Node::Dir {
                parts,
                parent_shifted,
                ..
            } => {
                let top = parts.first()?;
                (top.layer, &top.marks, *parent_shifted)
            }
            Node::Leaf(leaf) => (leaf.layer, &leaf.marks, leaf.shifted),
        };
        // A layer of the image leads on to where it has the data.
        if layer != UPPER {
            return None;
        }
        let redirect = marks.redirect.as_deref()?;
        if redirect.first() == Some(&b'/') {
            return RootPath::parse(redirect).ok();
        }
        // A bare name is relative to where the parent directory was, which is known only while no
        // directory above was renamed itself.
        let known = !parent_shifted && !redirect.contains(&b'/');
        known
            .then(|| path.parent().map(|parent| parent.join(redirect)))
            .flatten()
    }

    fn origin(&mut self, image: &Node) -> Option<Arc<DiffId>> {
        let layer = match image {
            Node::Dir { parts, .. } => parts.first()?.layer,
            Node::Leaf(leaf) => leaf.layer,
        };
        let diff_id = self.layers.get(layer)?.diff_id?;
        let known = self.origins.iter().find(|origin| ***origin == diff_id);
        Some(known.cloned().unwrap_or_else(|| {
            let origin = Arc::new(diff_id);
            self.origins.push(Arc::clone(&origin));
            origin
        }))
    }

    fn cost(&self) -> (u64, u64) {
        (self.entries_read, self.bytes_read)
    }
}

impl Readable for OverlayPair<'_> {
    fn open(&self, side: Side, node: &Node) -> Result<(OwnedFd, Stat), Trouble> {
        let leaf = leaf(node)?;
        match side == Side::Container && self.is_held(leaf) {
            true => Err(kept_back()),
            false => content::open(leaf.data()),
        }
    }
}

/// Why the content of a file is not known.
fn kept_back() -> Trouble {
    Trouble(
        "a process of the container has it open for writing, or another file by a name that is not known: what it wrote last may not lie in its layer yet"
            .into(),
    )
}

/// Returns the leaf that a file is.
fn leaf(node: &Node) -> Result<&Leaf, Trouble> {
    match node {
        Node::Leaf(leaf) => Ok(leaf),
        Node::Dir { .. } => Err(Trouble(
            "it became a directory while it was being looked at".into(),
        )),
    }
}

fn same_parts(a: &[Part], b: &[Part]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_as(b))
}
