//! One layer: its stream rebuilt and hashed, each header held against the disk, and the disk searched for
//! what no header tells of.
//!
//! All three are needed. A digest that agrees proves the headers and the contents of the files that they
//! name; it says nothing of a mode that was changed on disk, nor of a file that was planted.

use std::collections::HashSet;
use std::io::Read;

use plimsoll_core::model::{Aspect, Aspects, Change, ChangeKind, Digest, FileType, Gap, RootPath};

use super::checksum::Checksum;
use super::expected::{aspects, attributes};
use super::member::{self, Kind, Member};
use super::rebuilt::Rebuilt;
use super::stream::Stream;
use super::tar_split::{Record, Records};
use super::tree::{Object, Tree};
use crate::fs::read_at;
use crate::measure::Trouble;
use crate::measure::outcome::{Limits, Outcome, Recorder};

/// What came of one layer.
#[derive(Debug)]
pub(super) struct Found {
    /// The digest of the rebuilt stream; `None` when it could not be rebuilt to its end.
    pub(super) digest: Option<Digest>,
    /// Its length in bytes.
    pub(super) bytes: u64,
    /// What differs from the stream, and what could not be seen.
    pub(super) outcome: Outcome,
    /// What differs from the tree beneath, and by no word of the stream: here, or there.
    pub(super) unexplained: Vec<Change>,
}

/// What is kept of one layer.
const LIMITS: Limits = Limits {
    expand: true,
    max_changes: 100_000,
};

/// Prefix of the members that are no files (OCI image specification, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// The member that makes its directory opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a layer must be.
pub(super) struct Expected {
    /// The digest of its stream.
    pub(super) digest: Digest,
    /// The mode that its root may have, whatever the stream says.
    pub(super) root_mode: Option<u16>,
}

/// What lies beneath a layer.
pub(super) enum Below<'t> {
    /// Directories of an overlay, the next one first.
    Layers(&'t [&'t Tree]),
    /// A whole tree: what this one differs in from it.
    Tree(&'t dyn Fn(Limits) -> Result<Outcome, Trouble>),
}

/// Verifies the layer in `tree`. `records` opens the records of its stream,
/// and is asked again when files have to be named.
pub(super) fn verify<R: Read>(
    tree: &Tree,
    below: Below<'_>,
    expected: &Expected,
    records: impl Fn() -> std::io::Result<Records<R>>,
    progress: &dyn Fn(u64),
) -> Found {
    let mut check = Check {
        tree,
        below,
        root_mode: expected.root_mode,
        recorder: Recorder::new(LIMITS),
        unexplained: Vec::new(),
        told: HashSet::new(),
        above: HashSet::new(),
        opaque: HashSet::new(),
        whiteouts: HashSet::new(),
        changed: HashSet::new(),
    };
    let rebuilt = records().and_then(|records| {
        let mut stream = Stream::new(Rebuilt::new(records, tree), progress);
        member::each(&mut stream, |member| check.member(&member))?;
        stream.finish()
    });
    let (digest, bytes) = match rebuilt {
        Ok((digest, bytes, _)) => (Some(digest), bytes),
        Err(error) => {
            let why = format!("its tar stream cannot be rebuilt: {error}");
            check.recorder.gap(Gap::new("layer", why));
            (None, 0)
        }
    };
    if digest.is_some() {
        match check.below {
            Below::Layers(_) => check.extra(&RootPath::root()),
            Below::Tree(differences) => check.beyond(differences),
        }
    }
    if digest.as_ref() != Some(&expected.digest)
        && let Ok(records) = records()
    {
        check.contents(records);
    }
    Found {
        digest,
        bytes,
        unexplained: check.unexplained,
        outcome: check.recorder.finish(),
    }
}

struct Check<'t> {
    tree: &'t Tree,
    below: Below<'t>,
    root_mode: Option<u16>,
    recorder: Recorder,
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
}

impl Check<'_> {
    /// Holds a member against what is on disk.
    fn member(&mut self, member: &Member) {
        let name = member.path.components().last().unwrap_or_default();
        let parent = member.path.parent().unwrap_or_else(RootPath::root);
        // In a store of fuse-overlayfs such a member lies there as a file of its own.
        let is_there =
            self.tree.is_of_fuse() && name.starts_with(WHITEOUT) && self.is_there(member);
        match name.strip_prefix(WHITEOUT) {
            Some(_) if is_there => {
                self.tell(member.path.clone());
                if name == OPAQUE {
                    self.opaque.insert(parent);
                }
            }
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
                self.tell(member.path.clone());
                if let Err(trouble) = self.object(member) {
                    self.recorder
                        .gap(Gap::new(member.path.as_bytes(), trouble.0));
                }
            }
        }
    }

    /// Whether something lies at the very path of a member.
    fn is_there(&mut self, member: &Member) -> bool {
        match self.tree.look(&member.path) {
            Ok(object) => object.is_some(),
            Err(trouble) => {
                let gap = Gap::new(member.path.as_bytes(), trouble.0);
                self.recorder.gap(gap);
                false
            }
        }
    }

    /// Looks for the mark that stands for a path that the layer takes away.
    fn whiteout(&mut self, path: &RootPath) {
        match self.tree.look(path) {
            Ok(Some(object)) if object.is_whiteout() => {}
            Ok(Some(_)) => self.record(bare(path, ChangeKind::Replaced)),
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

    fn object(&mut self, member: &Member) -> Result<(), Trouble> {
        let path = &member.path;
        let Some(object) = self.tree.look(path)? else {
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
            if *path == RootPath::root() {
                // Unpacking the rest moves its time again.
                let is_made = Some(after.mode) == self.root_mode;
                let counts = |aspect: &Aspect| match aspect {
                    Aspect::Times => false,
                    Aspect::Mode => !is_made,
                    _ => true,
                };
                change.aspects = change.aspects.iter().filter(counts).collect();
            }
            let xattrs = self.tree.xattrs(&object)?;
            let differ = |(a, b): (&[_], &[_])| {
                let lacks = |list: &[_], one: &(_, _)| !list.contains(one);
                let of_a = a.iter().filter(|one| lacks(b, one));
                of_a.map(|(name, _): &(plimsoll_core::model::Bytes, _)| name.clone())
                    .collect::<Vec<_>>()
            };
            change.xattrs = [
                differ((&member.xattrs, &xattrs)),
                differ((&xattrs, &member.xattrs)),
            ]
            .concat();
            change.xattrs.sort();
            change.xattrs.dedup();
            if !change.xattrs.is_empty() {
                change.aspects.insert(Aspect::Xattr);
            }
        }
        (change.before, change.after) = (Some(Box::new(before)), Some(Box::new(after)));
        if change.kind == ChangeKind::Replaced || change.aspects != Aspects::NONE {
            self.record(change);
        }
        Ok(())
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
    /// root and with nothing to them.
    fn is_implied(&self, path: &RootPath, object: &Object) -> Result<bool, Trouble> {
        let stat = &object.stat;
        Ok((stat.uid, stat.gid) == (0, 0)
            && [0o755, 0o700, 0o600].contains(&stat.mode)
            && self.above.contains(path)
            && self.tree.xattrs(object)?.is_empty())
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
                if below.is_gone(path)? {
                    return Ok(false);
                }
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
        if !agrees && should && self.tree.is_of_fuse() {
            self.record(bare(&path.join(OPAQUE), ChangeKind::Deleted));
        } else if !agrees {
            let mut change = bare(path, ChangeKind::Changed);
            change.aspects.insert(Aspect::Xattr);
            change.xattrs.push(b"trusted.overlay.opaque"[..].into());
            self.record(change);
        }
        Ok(())
    }

    /// Names the files whose content is not what the records say.
    fn contents<R: Read>(&mut self, mut records: Records<R>) {
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
        self.recorder.change(change);
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
