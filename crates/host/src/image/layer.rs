//! One layer: its stream read and hashed, each of its members held against the disk, and the disk searched
//! for what the stream does not tell of.
//!
//! All three are needed. Of a stream that is rebuilt from the disk, a digest that agrees proves the headers
//! and the contents of the files that they name; it says nothing of a mode that was changed on disk, nor of
//! a file that was planted. Of a stream that is kept as it is, a digest that agrees proves the stream alone,
//! and contents are held against it one by one.

mod contents;
mod members;
mod search;

use std::collections::{BTreeMap, HashSet};

use plimsoll_core::model::{Change, ChangeKind, Digest, Gap, RootPath};

use super::member;
use super::rebuilt::Rebuilt;
use super::stream::{Pieces, Stream};
use super::tree::Tree;
use crate::layers::stored::{Blob, LayerRoot, Reference, TarSplit};
use crate::measure::Trouble;
use crate::measure::outcome::{Limits, Outcome, Recorder};

/// What came of one layer.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The digest of its stream; `None` when that could not be had to its end.
    pub(super) digest: Option<Digest>,
    /// Its length in bytes.
    pub(super) bytes: u64,
    /// What differs from the stream, and what could not be seen.
    pub(super) outcome: Outcome,
    /// What differs from the tree beneath, and by no word of the stream: here, or there.
    pub(super) unexplained: Vec<Change>,
}

/// What is kept of one layer.
pub(super) const LIMITS: Limits = Limits {
    expand: true,
    max_changes: 100_000,
};

/// What a layer must be.
pub(super) struct Expected<'l> {
    /// The digest of its stream.
    pub(super) digest: Digest,
    /// Where its root has its attributes from.
    pub(super) root: LayerRoot,
    /// Where its stream is had from.
    pub(super) reference: &'l Reference,
    /// Whether it was unpacked by somebody who cannot make devices.
    pub(super) lacks_devices: bool,
}

/// What lies beneath a layer.
pub(super) enum Below<'t> {
    /// Directories of an overlay, the next one first.
    Layers(&'t [&'t Tree]),
    /// A whole tree: what this one differs in from it.
    Tree(&'t dyn Fn(Limits) -> Result<Outcome, Trouble>),
}

/// Verifies the layer in `tree`.
pub(super) fn verify(
    tree: &Tree,
    below: Below<'_>,
    expected: &Expected<'_>,
    progress: &dyn Fn(u64),
) -> Found {
    let check = Check {
        tree,
        below,
        root: expected.root,
        is_blob: matches!(expected.reference, Reference::Blob(_)),
        lacks_devices: expected.lacks_devices,
        recorder: Recorder::new(LIMITS, 0),
        differing: BTreeMap::new(),
        unexplained: Vec::new(),
        told: HashSet::new(),
        above: HashSet::new(),
        opaque: HashSet::new(),
        whiteouts: HashSet::new(),
        buffer: Vec::new(),
    };
    match expected.reference {
        Reference::TarSplit(records) => check.by_records(records, &expected.digest, progress),
        Reference::Blob(blob) => check.by_blob(blob, &expected.digest, progress),
        Reference::Nothing(why) => nothing(why.clone()),
    }
}

/// What came of a layer that there is nothing to hold against.
fn nothing(why: String) -> Found {
    let mut found = Found::default();
    found.outcome.gaps.push(Gap::new("layer", why));
    found
}

struct Check<'t> {
    tree: &'t Tree,
    below: Below<'t>,
    root: LayerRoot,
    /// Whether the stream is a blob's, and no word of it comes from the disk.
    is_blob: bool,
    lacks_devices: bool,
    recorder: Recorder,
    /// What was found to differ so far: of a path that is told of twice, what was said last holds.
    differing: BTreeMap<RootPath, Change>,
    unexplained: Vec<Change>,
    /// Paths that the stream tells of.
    told: HashSet<RootPath>,
    /// Directories above them.
    above: HashSet<RootPath>,
    /// Directories that it makes opaque, and paths that it takes away.
    opaque: HashSet<RootPath>,
    whiteouts: HashSet<RootPath>,
    /// What was read of a file.
    buffer: Vec<u8>,
}

impl Check<'_> {
    /// Verifies a layer whose stream is rebuilt from records and the disk.
    fn by_records(
        mut self,
        records: &TarSplit,
        expected: &Digest,
        progress: &dyn Fn(u64),
    ) -> Found {
        let tree = self.tree;
        let pieces = records.open().map(|records| Rebuilt::new(records, tree));
        let (digest, bytes) = match self.stream(pieces, progress) {
            Ok((digest, bytes)) => (Some(digest), bytes),
            Err(error) => {
                let why = format!("its tar stream cannot be rebuilt: {error}");
                self.recorder.gap(Gap::new("layer", why));
                (None, 0)
            }
        };
        if digest.is_some() {
            self.beside();
        }
        if digest.as_ref() != Some(expected) {
            self.contents(records);
        }
        self.finish(digest, bytes)
    }

    /// Verifies a layer whose stream is kept: what that says counts once its digest was proved.
    fn by_blob(mut self, blob: &Blob, expected: &Digest, progress: &dyn Fn(u64)) -> Found {
        match self.stream(blob.pieces(), progress) {
            Ok((digest, bytes)) if digest == *expected => {
                self.beside();
                self.finish(Some(digest), bytes)
            }
            Ok((digest, _)) => nothing(blob.why_not(Ok(digest))),
            Err(error) => nothing(blob.why_not(Err(error))),
        }
    }

    /// Reads a stream to its end, each member held against the disk; returns its digest and its length.
    fn stream<P: Pieces>(
        &mut self,
        pieces: std::io::Result<P>,
        progress: &dyn Fn(u64),
    ) -> std::io::Result<(Digest, u64)> {
        let mut stream = Stream::new(pieces?, progress);
        member::each(&mut stream, |member, content| self.member(member, content))?;
        let (digest, bytes, _) = stream.finish()?;
        Ok((digest, bytes))
    }

    /// Looks at what the stream does not tell of.
    fn beside(&mut self) {
        self.made_root();
        match self.below {
            Below::Layers(_) => self.extra(&RootPath::root()),
            Below::Tree(differences) => self.beyond(differences),
        }
    }

    fn finish(mut self, digest: Option<Digest>, bytes: u64) -> Found {
        for change in std::mem::take(&mut self.differing).into_values() {
            self.recorder.change(change);
        }
        Found {
            digest,
            bytes,
            unexplained: self.unexplained,
            outcome: self.recorder.finish(),
        }
    }

    fn record(&mut self, change: Change) {
        match self.differing.len() < LIMITS.max_changes {
            true => drop(self.differing.insert(change.path.clone(), change)),
            // Counted there.
            false => self.recorder.change(change),
        }
    }
}

fn bare(path: &RootPath, kind: ChangeKind) -> Change {
    Change::new(path.clone(), kind)
}
