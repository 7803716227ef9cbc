//! COMPARE: which paths differ between the two sides of a layer stack.
//!
//! Every engine is a [`Pair`]: two trees that can be looked into, and what the storage driver knows
//! about where they may differ. One [`walk`] drives all of them, so that added, deleted, replaced
//! and changed mean the same everywhere.

mod agreement;
pub mod btrfs;
pub(crate) mod compare;
pub mod digest;
mod options;
pub mod outcome;
pub mod overlay;
pub mod paths;
mod select;
mod several;
mod threads;
pub mod view;
pub mod walk;

pub use options::Options;
pub use select::measure;
pub use several::{Compared, Comparisons};

use std::sync::Arc;

use plimsoll_core::model::{Attributes, Bytes, DiffId, RootPath};

/// What a gap is about that says that the image's subvolume was changed after the container was made from it.
/// What differs between the two was found all the same: it means nothing where the image itself is proved.
pub const REFERENCE: &str = "reference";

/// What was found of images once, and holds for all containers on them: for as long as one run lasts.
#[derive(Debug, Default)]
pub struct Images {
    /// In the layers of overlays.
    layers: overlay::Images,
    /// In the trees of Btrfs.
    trees: btrfs::ImageTrees,
}

/// Which of the two trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The reference: the image, with what the runtime itself put over it.
    Image,
    /// The container.
    Container,
}

/// Why one path could not be seen. The walk turns it into a gap at that path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(pub String);

impl From<rustix::io::Errno> for Trouble {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(std::io::Error::from(errno).to_string())
    }
}

impl From<crate::fs::btrfs::TreeError> for Trouble {
    fn from(error: crate::fs::btrfs::TreeError) -> Self {
        Self(error.to_string())
    }
}

/// What is known about the content of two regular files of equal size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The same bytes: shared on disk, or compared.
    Same,
    /// Other bytes.
    Different,
    /// Metadata alone cannot tell, and it was not asked to look closer.
    Undecided,
    /// A worker is looking; [`Pair::settle`] will tell.
    Pending(u64),
}

/// How a [`Content::Pending`] came out.
#[derive(Debug)]
pub struct Settled<N> {
    /// Which one.
    pub ticket: u64,
    /// What is known now.
    pub content: Result<Content, Trouble>,
    /// Both objects, when the container's changed since it was looked up: then nothing is known, and
    /// they are to be compared once more.
    pub moved: Option<(N, N)>,
}

/// When the content of a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Confirm {
    /// When metadata cannot decide (the default): exact, and reads the least.
    #[default]
    Auto,
    /// Each candidate is read, whatever metadata says.
    Always,
    /// Never: the paper's pure mechanism.
    Never,
}

/// Names read from directories, packed.
#[derive(Debug, Default)]
pub struct Names {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Names {
    /// Adds one name.
    pub fn push(&mut self, name: &[u8]) {
        self.bytes.extend_from_slice(name);
        self.ends
            .push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    /// Forgets all names, keeping the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Forgets all names but the first `length`.
    pub fn truncate(&mut self, length: usize) {
        self.ends.truncate(length);
        self.bytes
            .truncate(self.ends.last().map_or(0, |end| *end as usize));
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the name at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 {
            0
        } else {
            *self.ends.get(index - 1)? as usize
        };
        self.bytes.get(start..end)
    }
}

/// Which entries of a directory are wanted.
#[derive(Debug)]
pub enum Listing<'a, N> {
    /// Of a directory that both sides have at one path: every name beneath which they may differ,
    /// and perhaps more.
    Suspects {
        /// The image's directory.
        image: &'a N,
        /// The container's directory.
        container: &'a N,
    },
    /// Of a directory on one side: every name.
    All {
        /// On which side.
        side: Side,
        /// The directory.
        dir: &'a N,
    },
}

/// Two trees and what the storage driver knows about their differences.
///
/// A `Node` is one object of one tree. It may hold file descriptors; the walk keeps at most
/// [`walk::OPEN_LEVELS`] levels of directory nodes alive at once and looks the others up again.
pub trait Pair {
    /// An object of one of the trees.
    type Node;
    /// Where a listing stands between two calls of [`Pair::list`].
    type Cursor: Default;

    /// Whether an object that is compared and found the same is a copy that the driver keeps of it,
    /// which is worth counting.
    const KEEPS_COPIES: bool;

    /// Returns how many objects are known to be all that may differ but for new ones, if that is known: room
    /// is made for so many changes.
    fn expected(&self) -> usize {
        0
    }

    /// Returns the root directory of one tree.
    ///
    /// # Errors
    /// [`Trouble`] when it cannot be read: nothing can be compared then.
    fn root(&mut self, side: Side) -> Result<Self::Node, Trouble>;

    /// Adds a bounded number of names to `out` and returns whether there are more. A name may come
    /// more than once only for [`Listing::Suspects`], and then the walk looks at it once a call.
    ///
    /// # Errors
    /// [`Trouble`] when the directory cannot be read, or moved while it was read.
    fn list(
        &mut self,
        what: Listing<'_, Self::Node>,
        cursor: &mut Self::Cursor,
        out: &mut Names,
    ) -> Result<bool, Trouble>;

    /// Returns the object of this name in a directory; `None` when there is none, and when `dir` is
    /// not a directory.
    ///
    /// # Errors
    /// [`Trouble`] when that cannot be known.
    fn lookup(
        &mut self,
        side: Side,
        dir: &Self::Node,
        name: &[u8],
    ) -> Result<Option<Self::Node>, Trouble>;

    /// Whether both are proven to be the same with everything beneath them, by identity alone.
    fn proven_same(&self, image: &Self::Node, container: &Self::Node) -> bool;

    /// Returns what tells an object of one tree from all others: for a directory that was looked up
    /// again, whether it is still the same one.
    fn identity(&self, node: &Self::Node) -> (u64, u64);

    /// Looks at an object of the container once more, after it was compared. Returns it as it is now
    /// when it changed meanwhile; `None` when it is the same, or when that is known by other means.
    ///
    /// # Errors
    /// [`Trouble`] when it went away, or cannot be looked at any more.
    fn again(&mut self, container: &Self::Node) -> Result<Option<Self::Node>, Trouble> {
        let _ = container;
        Ok(None)
    }

    /// Returns the attributes. Sizes of directories and such are 0.
    ///
    /// # Errors
    /// [`Trouble`] when they cannot be read.
    fn attributes(&mut self, side: Side, node: &Self::Node) -> Result<Attributes, Trouble>;

    /// Returns the extended attributes that a process in the container sees, sorted by name.
    ///
    /// # Errors
    /// [`Trouble`] when they cannot be read, or are larger than the kernel allows.
    fn xattrs(&mut self, side: Side, node: &Self::Node) -> Result<Vec<(Bytes, Bytes)>, Trouble>;

    /// Returns what makes it uncertain what a process sees of an object of the container's side, or of others
    /// because of it; `image` is what the image has at its path.
    fn doubt(&mut self, image: Option<&Self::Node>, container: &Self::Node) -> Option<Trouble> {
        let _ = (image, container);
        None
    }

    /// Returns what makes it uncertain what a process sees of an object of the container's side that is as the
    /// image has it, when nothing but this one is looked at.
    fn doubt_alone(&mut self, container: &Self::Node) -> Option<Trouble> {
        let _ = container;
        None
    }

    /// Compares two regular files of equal size.
    ///
    /// # Errors
    /// [`Trouble`] when that cannot be known.
    fn same_content(
        &mut self,
        image: &Self::Node,
        container: &Self::Node,
    ) -> Result<Content, Trouble>;

    /// Waits for a [`Content::Pending`] and returns its outcome; `None` when none is under way. With
    /// `all` false it returns `None` as well while there is room for more.
    fn settle(&mut self, all: bool) -> Option<Settled<Self::Node>> {
        let _ = all;
        None
    }

    /// Returns where the driver knows an object of the container, which is at `path` now, to come
    /// from, if from elsewhere.
    fn renamed_from(&mut self, container: &Self::Node, path: &RootPath) -> Option<RootPath>;

    /// Returns the image layer that an object of the image lies in, where layers can be told apart.
    fn origin(&mut self, image: &Self::Node) -> Option<Arc<DiffId>>;

    /// Returns directory entries or tree items read so far, and bytes of file content read so far.
    fn cost(&self) -> (u64, u64);
}
