//! Digest engine: every regular file of both sides read and hashed.
//!
//! It serves drivers without metadata, is the baseline that the paper compares with, and referees
//! the other engines. It uses nothing of what they conclude from metadata: every name is listed and
//! every file is read, whatever its identity, its size or its times say.

pub mod baseline;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod hash;
mod pool;
pub mod stored;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use plimsoll_core::model::{Algorithm, Attributes, Bytes, DiffId, RootPath};

use self::pool::{Contents, Subject};
use super::{Content, Listing, Names, Pair, Settled, Side, Trouble};
use crate::fs::Stat;

/// A pair whose files can be opened.
pub trait Readable: Pair {
    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// [`Trouble`] when it cannot be opened, or is another file by now.
    fn open(&self, side: Side, node: &Self::Node) -> Result<(OwnedFd, Stat), Trouble>;
}

/// Two trees compared by hashing, in place of what metadata says.
#[derive(Debug)]
pub struct DigestPair<P> {
    trees: P,
    contents: Contents,
}

impl<P: Readable> DigestPair<P> {
    /// Compares `trees` with `jobs` threads. The pair must list every name of both sides.
    #[must_use]
    pub fn new(trees: P, algorithm: Algorithm, jobs: usize) -> Self {
        Self {
            trees,
            contents: Contents::new(algorithm, jobs),
        }
    }
}

impl<P: Readable> Pair for DigestPair<P> {
    type Node = P::Node;
    type Cursor = P::Cursor;
    const KEEPS_COPIES: bool = false;

    fn root(&mut self, side: Side) -> Result<P::Node, Trouble> {
        self.trees.root(side)
    }

    fn list(
        &mut self,
        what: Listing<'_, P::Node>,
        cursor: &mut P::Cursor,
        out: &mut Names,
    ) -> Result<bool, Trouble> {
        self.trees.list(what, cursor, out)
    }

    fn lookup(
        &mut self,
        side: Side,
        dir: &P::Node,
        name: &[u8],
    ) -> Result<Option<P::Node>, Trouble> {
        self.trees.lookup(side, dir, name)
    }

    fn proven_same(&self, _: &P::Node, _: &P::Node) -> bool {
        false
    }

    fn identity(&self, node: &P::Node) -> (u64, u64) {
        self.trees.identity(node)
    }

    fn attributes(&mut self, side: Side, node: &P::Node) -> Result<Attributes, Trouble> {
        self.trees.attributes(side, node)
    }

    fn xattrs(&mut self, side: Side, node: &P::Node) -> Result<Vec<(Bytes, Bytes)>, Trouble> {
        self.trees.xattrs(side, node)
    }

    fn doubt(&mut self, image: Option<&P::Node>, container: &P::Node) -> Option<Trouble> {
        self.trees.doubt(image, container)
    }

    fn doubt_alone(&mut self, container: &P::Node) -> Option<Trouble> {
        self.trees.doubt_alone(container)
    }

    fn same_content(&mut self, image: &P::Node, container: &P::Node) -> Result<Content, Trouble> {
        let (image, _) = self.trees.open(Side::Image, image)?;
        let (container, _) = self.trees.open(Side::Container, container)?;
        Ok(self
            .contents
            .compare(Subject::File(image), Subject::File(container)))
    }

    fn settle(&mut self, all: bool) -> Option<Settled<P::Node>> {
        self.contents.settle(all)
    }

    fn renamed_from(&mut self, _: &P::Node, _: &RootPath) -> Option<RootPath> {
        None
    }

    fn origin(&mut self, image: &P::Node) -> Option<Arc<DiffId>> {
        self.trees.origin(image)
    }

    fn cost(&self) -> (u64, u64) {
        (self.trees.cost().0, self.contents.bytes_read)
    }
}
