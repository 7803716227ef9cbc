//! One layer: its stream read and hashed, each of its members held against the disk, and the disk searched
//! for what the stream does not tell of.
//!
//! All three are needed. Of a stream that is rebuilt from the disk, a digest that agrees proves the headers
//! and the contents of the files that they name; it says nothing of a mode that was changed on disk, nor of
//! a file that was planted. Of a stream that is kept as it is, a digest that agrees proves the stream alone,
//! and contents are held against it one by one.

use std::collections::{BTreeMap, HashSet};
use std::io::BufRead;

use plimsoll_core::model::{Aspect, Aspects, Change, ChangeKind, Digest, FileType, Gap, RootPath};

use super::checksum::Checksum;
use super::expected::{aspects, attributes, differing};
use super::member::{self, Content, Kind, Member};
use super::rebuilt::Rebuilt;
use super::stream::{Pieces, Stream};
use super::tar_split::Record;
use super::tree::{Object, Tree};
use crate::fs::{Stat, read_at};
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

/// Prefix of the members that are no files (OCI image specification, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// The member that makes its directory opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";

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
        recorder: Recorder::new(LIMITS),
        differing: BTreeMap::new(),
        unexplained: Vec::new(),
        told: HashSet::new(),
        above: HashSet::new(),
        opaque: HashSet::new(),
        whiteouts: HashSet::new(),
        changed: HashSet::new(),
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
    /// Paths that were recorded as changed.
    changed: HashSet<RootPath>,
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

    /// Holds a member against what is on disk.
    ///
    /// # Errors
    /// Those of reading the stream.
    fn member<S: BufRead>(
        &mut self,
        mut member: Member,
        content: &mut Content<'_, S>,
    ) -> std::io::Result<()> {
        let name = member.path.components().last().unwrap_or_default();
        let parent = member.path.parent().unwrap_or_else(RootPath::root);
        match name.strip_prefix(WHITEOUT) {
            _ if name == OPAQUE => {
                self.opaque.insert(parent);
            }
            // What a storage driver of long ago kept for itself; nothing is made of it.
            Some(hidden) if hidden.starts_with(WHITEOUT) || hidden.is_empty() => {}
            Some(hidden) => {
                let path = parent.join(hidden);
                if matches!(self.below, Below::Layers(_)) {
                    self.whiteout(&path);
                    self.tell(path);
                } else {
                    self.whiteouts.insert(path);
                }
            }
            None => {
                // The last word on a path is the one that holds.
                self.differing.remove(&member.path);
                self.tell(member.path.clone());
                if self.is_blob {
                    // containerd leaves them out (`pkg/archive/tar_unix.go`, `setxattr`).
                    let is_trusted = |name: &[u8]| name.starts_with(b"trusted.");
                    member
                        .xattrs
                        .retain(|(name, _)| !is_trusted(name.as_bytes()));
                }
                if self.tree.take_notes(&mut member.xattrs) {
                    self.opaque.insert(member.path.clone());
                }
                let mut read = Ok(());
                if let Err(trouble) = self.object(&member, content, &mut read) {
                    self.recorder
                        .gap(Gap::new(member.path.as_bytes(), trouble.0));
                }
                return read;
            }
        }
        Ok(())
    }

    /// Looks for the mark that stands for a path that the layer takes away.
    fn whiteout(&mut self, path: &RootPath) {
        match self.tree.look(path) {
            Ok(Some(object)) if object.is_whiteout() => {}
            Ok(Some(_)) => self.record(bare(path, ChangeKind::Replaced)),
            // Where nothing lies beneath there was nothing to hide, and containerd makes no mark.
            Ok(None) if matches!(self.below, Below::Layers([])) => {}
            // What it hid can be seen again.
            Ok(None) => self.record(bare(path, ChangeKind::Deleted)),
            Err(trouble) => self.recorder.gap(Gap::new(path.as_bytes(), trouble.0)),
        }
    }

    /// Notes a path that the stream tells of.
    fn tell(&mut self, path: RootPath) {
        let mut above = path.parent();
        while let Some(dir) = above {
            above = dir.parent();
            if !self.above.insert(dir) {
                break;
            }
        }
        self.told.insert(path);
    }

    fn object<S: BufRead>(
        &mut self,
        member: &Member,
        content: &mut Content<'_, S>,
        read: &mut std::io::Result<()>,
    ) -> Result<(), Trouble> {
        let path = &member.path;
        let is_root = *path == RootPath::root();
        if is_root && matches!(self.root, LayerRoot::Snapshotter { .. }) {
            return Ok(());
        }
        let Some(object) = self.tree.look(path)? else {
            let is_device = matches!(member.kind, Kind::CharDevice(_) | Kind::BlockDevice(_));
            if is_device && self.lacks_devices {
                return Ok(());
            }
            let before = Some(Box::new(attributes(member, 1)));
            self.record(Change {
                before,
                ..bare(path, ChangeKind::Deleted)
            });
            return Ok(());
        };
        if let Kind::HardLink(target) = &member.kind {
            return self.hard_link(member, target, &object);
        }
        let after = self.tree.attributes(&object)?;
        let before = attributes(member, after.links);
        let mut change = bare(path, ChangeKind::Changed);
        if before.file_type != after.file_type || object.is_whiteout() {
            change.kind = ChangeKind::Replaced;
        } else {
            change.aspects = aspects(&before, &after, member.is_exact);
            if let (true, LayerRoot::Stream { or_mode }) = (is_root, self.root) {
                // Unpacking the rest moves its time again.
                let is_made = Some(after.mode) == or_mode;
                let counts = |aspect: &Aspect| match aspect {
                    Aspect::Times => false,
                    Aspect::Mode => !is_made,
                    _ => true,
                };
                change.aspects = change.aspects.iter().filter(counts).collect();
            }
            change.xattrs = differing(&member.xattrs, &self.tree.xattrs(&object)?);
            if !change.xattrs.is_empty() {
                change.aspects.insert(Aspect::Xattr);
            }
            let is_file = before.file_type == FileType::File;
            if self.is_blob
                && is_file
                && before.size > 0
                && before.size == after.size
                && !self.is_content(&object, content, read)?
            {
                change.aspects.insert(Aspect::Content);
            }
        }
        (change.before, change.after) = (Some(Box::new(before)), Some(Box::new(after)));
        if change.kind == ChangeKind::Replaced || change.aspects != Aspects::NONE {
            self.record(change);
        }
        Ok(())
    }

    /// Whether a file holds what the stream says, which is read as far as that is so. That the stream cannot
    /// be read goes to `read`.
    fn is_content<S: BufRead>(
        &mut self,
        object: &Object,
        content: &mut Content<'_, S>,
        read: &mut std::io::Result<()>,
    ) -> Result<bool, Trouble> {
        let fd = object.open()?;
        let mut at = 0;
        let mut same = Ok(true);
        loop {
            let next = content.next(|expected| {
                self.buffer.resize(expected.len(), 0);
                same = read_at(&fd, &mut self.buffer, at)
                    .map(|length| length == expected.len() && self.buffer == expected);
                at += expected.len() as u64;
            });
            match (next, same) {
                (Ok(true), Ok(true)) => {}
                (Err(error), _) => {
                    *read = Err(error);
                    return Ok(true);
                }
                (Ok(_), same) => return Ok(same?),
            }
        }
    }

    /// Holds a root that a snapshotter made against what it makes.
    fn made_root(&mut self) {
        let LayerRoot::Snapshotter { mode } = self.root else {
            return;
        };
        let root = RootPath::root();
        let look = |tree: &Tree| -> Result<Option<Change>, Trouble> {
            let Some(object) = tree.look(&root)? else {
                return Ok(None);
            };
            let after = tree.attributes(&object)?;
            let mut change = bare(&root, ChangeKind::Changed);
            if after.mode != mode {
                change.aspects.insert(Aspect::Mode);
            }
            if (after.uid, after.gid) != (0, 0) {
                change.aspects.insert(Aspect::Owner);
            }
            change.xattrs = differing(&[], &tree.xattrs(&object)?);
            if !change.xattrs.is_empty() {
                change.aspects.insert(Aspect::Xattr);
            }
            change.after = Some(Box::new(after));
            Ok((change.aspects != Aspects::NONE).then_some(change))
        };
        match look(self.tree) {
            Ok(change) => change.into_iter().for_each(|change| self.record(change)),
            Err(trouble) => self.recorder.gap(Gap::new(root.as_bytes(), trouble.0)),
        }
    }

    /// Holds a hard link against what is on disk: it is one with its target, which is a member itself.
    fn hard_link(
        &mut self,
        member: &Member,
        target: &RootPath,
        object: &Object,
    ) -> Result<(), Trouble> {
        let same = self.tree.look(target)?.is_some_and(|target| {
            (target.stat.dev, target.stat.ino) == (object.stat.dev, object.stat.ino)
        });
        if !same {
            let mut change = bare(&member.path, ChangeKind::Changed);
            change.aspects.insert(Aspect::Links);
            change.after = Some(Box::new(self.tree.attributes(object)?));
            self.record(change);
        }
        Ok(())
    }

    /// Holds what differs from the tree beneath against the stream.
    fn beyond(&mut self, differences: &dyn Fn(Limits) -> Result<Outcome, Trouble>) {
        let outcome = match differences(LIMITS) {
            Ok(outcome) => outcome,
            Err(trouble) => return self.recorder.gap(Gap::new("layer", trouble.0)),
        };
        for gap in outcome.gaps {
            self.recorder.gap(gap);
        }
        let here = |path: &RootPath| self.tree.look(path).ok().flatten();
        for change in outcome.changes {
            let explained = self.told.contains(&change.path)
                || match change.kind {
                    ChangeKind::Deleted => self.is_taken_away(&change.path),
                    ChangeKind::Added => here(&change.path)
                        .is_some_and(|object| self.is_implied(&change.path, &object) == Ok(true)),
                    ChangeKind::Changed | ChangeKind::Replaced => false,
                };
            if !explained {
                self.unexplained.push(change);
            }
        }
        self.made_anew();
        // A path that was taken away may have been made again.
        let mut gone: Vec<RootPath> = self.whiteouts.difference(&self.told).cloned().collect();
        gone.sort();
        for path in gone {
            match self.tree.look(&path) {
                Ok(None) => {}
                Ok(Some(_)) if self.above.contains(&path) => {}
                Ok(Some(_)) => self.record(bare(&path, ChangeKind::Added)),
                Err(trouble) => self.recorder.gap(Gap::new(path.as_bytes(), trouble.0)),
            }
        }
    }

    /// Searches the directories that hold nothing of what was beneath: what is back in one is the same there,
    /// and no difference.
    fn made_anew(&mut self) {
        let all = self.opaque.union(&self.whiteouts);
        let mut anew: Vec<RootPath> = all
            .filter(|path| {
                let object = self.tree.look(path).ok().flatten();
                let is_directory = object.is_some_and(|o| o.stat.file_type == FileType::Directory);
                let is_meant = self.told.contains(path) || self.above.contains(path);
                is_directory && is_meant
            })
            .cloned()
            .collect();
        anew.sort();
        for path in anew {
            self.extra(&path);
        }
    }

    /// Whether the stream takes a path away: it or what is above it, by name or as all that a directory
    /// held before; or something else stands in the place of a directory above it.
    fn is_taken_away(&self, path: &RootPath) -> bool {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            let parent = path.parent();
            if self.whiteouts.contains(&path)
                || self.told.contains(&path)
                || parent.as_ref().is_some_and(|dir| self.opaque.contains(dir))
            {
                // A directory that the stream only tells of again keeps what it held.
                let is_directory = || {
                    let object = self.tree.look(&path).ok().flatten();
                    object.is_some_and(|object| object.stat.file_type == FileType::Directory)
                };
                if !self.told.contains(&path) || self.whiteouts.contains(&path) || !is_directory() {
                    return true;
                }
            }
            at = parent;
        }
        false
    }

    /// Searches a directory, and all beneath it, for what the stream does not tell of.
    fn extra(&mut self, top: &RootPath) {
        // By a stack of its own: how deep a tree is, is for who made it to choose.
        let mut todo = vec![top.clone()];
        while let Some(path) = todo.pop() {
            if let Err(trouble) = self.extra_in(&path, &mut todo) {
                self.recorder.gap(Gap::new(path.as_bytes(), trouble.0));
            }
        }
    }

    fn extra_in(&mut self, path: &RootPath, todo: &mut Vec<RootPath>) -> Result<(), Trouble> {
        if let Some(object) = self.tree.look(path)? {
            self.marks_of(path, &object)?;
        }
        let dir = self.tree.directory(path)?;
        let mut names = Vec::new();
        let mut reader = dir.reader(0)?;
        while reader.next_portion(|name| names.push(path.join(name)))? {}
        names.sort();
        for path in names {
            let Some(object) = self.tree.look(&path)? else {
                continue;
            };
            let is_directory = object.stat.file_type == FileType::Directory;
            let is_known =
                self.told.contains(&path) || is_directory && self.is_implied(&path, &object)?;
            if !is_known {
                let after = Some(Box::new(self.tree.attributes(&object)?));
                self.record(Change {
                    after,
                    ..bare(&path, ChangeKind::Added)
                });
            } else if is_directory {
                todo.push(path);
            }
        }
        Ok(())
    }

    /// Whether a directory was made on the way to a member: runtimes make these for themselves, owned by
    /// root and with nothing to them, or as the one that they lie over is (containerd
    /// `pkg/archive/tar.go`, `mkparent`).
    fn is_implied(&self, path: &RootPath, object: &Object) -> Result<bool, Trouble> {
        if !self.above.contains(path) {
            return Ok(false);
        }
        let stat = &object.stat;
        let xattrs = self.tree.xattrs(object)?;
        if (stat.uid, stat.gid) == (0, 0)
            && [0o755, 0o700, 0o600].contains(&stat.mode)
            && xattrs.is_empty()
        {
            return Ok(true);
        }
        let Below::Layers(below) = self.below else {
            return Ok(false);
        };
        for below in below {
            let Some(beneath) = below.look(path)? else {
                continue;
            };
            let is = |stat: &Stat| (stat.file_type, stat.mode, stat.uid, stat.gid);
            return Ok(is(&beneath.stat) == is(stat) && below.xattrs(&beneath)? == xattrs);
        }
        Ok(false)
    }

    /// Holds the mark of an opaque directory against the stream. One that no layer beneath has may have
    /// it anyway: a running kernel marks the directories so that it makes anew.
    fn marks_of(&mut self, path: &RootPath, object: &Object) -> Result<(), Trouble> {
        let should = self.opaque.contains(path);
        let hides = || -> Result<bool, Trouble> {
            let Below::Layers(below) = self.below else {
                return Ok(false);
            };
            for below in below {
                match below.look(path)? {
                    None => {}
                    Some(object) if object.is_whiteout() => return Ok(false),
                    Some(_) => return Ok(true),
                }
            }
            Ok(false)
        };
        let agrees = match (should, object.is_opaque()) {
            (true, true) | (false, false) => true,
            (true, false) | (false, true) => !hides()?,
        };
        if !agrees {
            let mut change = bare(path, ChangeKind::Changed);
            change.aspects.insert(Aspect::Xattr);
            change.xattrs.push(b"trusted.overlay.opaque"[..].into());
            self.record(change);
        }
        Ok(())
    }

    /// Names the files whose content is not what the records say.
    fn contents(&mut self, records: &TarSplit) {
        let Ok(mut records) = records.open() else {
            // That was told already.
            return;
        };
        while let Ok(Some(record)) = records.next() {
            let Record::File {
                name,
                size,
                checksum: Some(expected),
            } = record
            else {
                continue;
            };
            let (Ok(path), Ok((fd, stat))) = (member::path(&name), self.tree.open(&name)) else {
                continue;
            };
            if stat.size != size || self.changed.contains(&path) {
                continue;
            }
            let mut checksum = Checksum::default();
            let mut buffer = vec![0; 128 << 10];
            let mut at = 0;
            loop {
                match read_at(&fd, &mut buffer, at) {
                    Ok(0) => break,
                    Ok(read) => {
                        checksum.update(buffer.get(..read).unwrap_or_default());
                        at += read as u64;
                    }
                    Err(errno) => {
                        let gap = Gap::new(path.as_bytes(), Trouble::from(errno).0);
                        self.recorder.gap(gap);
                        break;
                    }
                }
            }
            if checksum.finish() != expected {
                let mut change = bare(&path, ChangeKind::Changed);
                change.aspects.insert(Aspect::Content);
                change.after = Some(Box::new(stat.attributes(None)));
                self.record(change);
            }
        }
    }

    fn record(&mut self, change: Change) {
        self.changed.insert(change.path.clone());
        match self.differing.len() < LIMITS.max_changes {
            true => drop(self.differing.insert(change.path.clone(), change)),
            // Counted there.
            false => self.recorder.change(change),
        }
    }
}

fn bare(path: &RootPath, kind: ChangeKind) -> Change {
    Change {
        path: path.clone(),
        kind,
        aspects: Aspects::NONE,
        confirmed: true,
        before: None,
        after: None,
        xattrs: Vec::new(),
        renamed_from: None,
        origin: None,
    }
}
