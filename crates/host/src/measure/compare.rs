//! One path on both sides: in which respects it differs.

use std::collections::HashMap;

use plimsoll_core::model::{
    Aspect, Aspects, Attributes, Bytes, Change, ChangeKind, FileType, Gap, RootPath, Sides,
};

use super::outcome::{Limits, Outcome, Recorder};
use super::{Content, Pair, Side, Trouble};

/// Times that a path is looked at when it changes meanwhile.
const LOOKS: usize = 5;

/// Extended attributes that security modules give to every file.
pub(crate) const LABELS: [&[u8]; 2] = [b"security.selinux", b"security.SMACK64"];

/// Those that a host which appraises files gives to what is written (kernel `include/uapi/linux/xattr.h`).
const APPRAISALS: [&[u8]; 2] = [b"security.ima", b"security.evm"];

/// How two objects at one path differ, as they were when they were looked at.
struct Claim {
    types: (FileType, FileType),
    change: Change,
    content: Result<Content, Trouble>,
    /// What of it could not be seen.
    trouble: Option<Trouble>,
}

/// Compares objects of a pair and records what differs.
pub(super) struct Comparison<'p, P: Pair> {
    pub(super) pair: &'p mut P,
    pub(super) recorder: Recorder,
    pub(super) expand: bool,
    /// Changes whose content a worker is still looking at, by ticket.
    pending: HashMap<u64, Change>,
}

impl<'p, P: Pair> Comparison<'p, P> {
    pub(super) fn new(pair: &'p mut P, limits: Limits) -> Self {
        let expected = pair.expected();
        Self {
            pair,
            recorder: Recorder::new(limits, expected),
            expand: limits.expand,
            pending: HashMap::new(),
        }
    }

    /// Waits for what is under way and returns everything that was found.
    pub(super) fn finish(mut self) -> Outcome {
        self.settle(true);
        for change in std::mem::take(&mut self.pending).into_values() {
            let why = Trouble("its content was not compared: a thread ended".into());
            self.conclude(change, Err(why));
        }
        self.recorder.finish()
    }

    /// Records that only the image has `path`, and returns the attributes that it has there.
    pub(super) fn deleted(&mut self, path: &RootPath, image: &P::Node) -> Option<Attributes> {
        let before = self.attributes(path, Side::Image, image)?;
        let change = Change {
            origin: self.pair.origin(image),
            sides: Sides::new(Some(&before), None),
            ..bare(path, ChangeKind::Deleted)
        };
        self.recorder.change(change);
        Some(before)
    }

    /// Records that only the container has `path`, and returns the attributes that it has there.
    pub(super) fn added(&mut self, path: &RootPath, container: &P::Node) -> Option<Attributes> {
        let after = match self.pair.attributes(Side::Container, container) {
            Ok(after) => after,
            Err(trouble) => {
                // It is there: that much is proven, whatever its attributes are.
                self.recorder.change(bare(path, ChangeKind::Added));
                self.recorder.gap(Gap::new(path.as_bytes(), trouble.0));
                return None;
            }
        };
        let renamed_from = self.pair.renamed_from(container, path).map(Box::new);
        if let Some(doubt) = self.pair.doubt(None, container) {
            self.recorder.gap(Gap::new(path.as_bytes(), doubt.0));
        }
        let xattrs = match self.own_xattrs(container) {
            Ok(names) => names,
            Err(trouble) => {
                self.recorder.gap(Gap::new(path.as_bytes(), trouble.0));
                Vec::new()
            }
        };
        let change = Change {
            renamed_from,
            sides: Sides::new(None, Some(&after)),
            xattrs: xattrs.into(),
            ..bare(path, ChangeKind::Added)
        };
        self.recorder.change(change);
        Some(after)
    }

    /// Compares the two objects at one path, records how they differ, and returns both file types;
    /// `None` when that could not be seen, which is then recorded.
    ///
    /// What is told of the container's side is of one moment: when it changed between the first look
    /// and the last, it is looked at again.
    pub(super) fn both(
        &mut self,
        path: &RootPath,
        image: &P::Node,
        container: &P::Node,
    ) -> Option<(FileType, FileType)> {
        let mut fresh = None;
        for _ in 0..LOOKS {
            let container = fresh.as_ref().unwrap_or(container);
            let claim = match self.claim(path, image, container) {
                Ok(claim) => claim,
                Err(trouble) => {
                    self.recorder.gap(Gap::new(path.as_bytes(), trouble.0));
                    return None;
                }
            };
            if let Ok(Content::Pending(_)) = claim.content {
                return Some(self.accept(claim));
            }
            match self.pair.again(container) {
                Ok(None) => return Some(self.accept(claim)),
                Ok(Some(again)) => fresh = Some(again),
                Err(trouble) => {
                    self.recorder.gap(Gap::new(path.as_bytes(), trouble.0));
                    return None;
                }
            }
        }
        let why = "it changed each time while it was being compared";
        self.recorder.gap(Gap::new(path.as_bytes(), why));
        None
    }

    /// Compares the two objects at one path, and records nothing.
    fn claim(
        &mut self,
        path: &RootPath,
        image: &P::Node,
        container: &P::Node,
    ) -> Result<Claim, Trouble> {
        let before = self.pair.attributes(Side::Image, image)?;
        let after = self.pair.attributes(Side::Container, container)?;
        let types = (before.file_type, after.file_type);
        let kind = match types.0 == types.1 {
            true => ChangeKind::Changed,
            false => ChangeKind::Replaced,
        };
        let mut claim = Claim {
            types,
            change: Change {
                origin: self.pair.origin(image),
                ..bare(path, kind)
            },
            content: Ok(Content::Same),
            trouble: self.pair.doubt(Some(image), container),
        };
        let change = &mut claim.change;
        if kind == ChangeKind::Replaced {
            match self.own_xattrs(container) {
                Ok(names) => change.xattrs = names.into(),
                Err(trouble) => claim.trouble = Some(trouble),
            }
        } else {
            change.aspects = aspects(&before, &after);
            match self.differing_xattrs(image, container) {
                Ok(names) if names.is_empty() => {}
                Ok(names) => {
                    change.aspects.insert(Aspect::Xattr);
                    change.xattrs = names.into();
                }
                Err(trouble) => claim.trouble = Some(trouble),
            }
            if types.0 == FileType::File {
                claim.content = match before.size == after.size {
                    true => self.pair.same_content(image, container),
                    false => Ok(Content::Different),
                };
            }
        }
        change.sides = Sides::new(Some(&before), Some(&after));
        Ok(claim)
    }

    /// Records what was claimed, and returns both file types.
    fn accept(&mut self, claim: Claim) -> (FileType, FileType) {
        let Claim {
            types,
            change,
            content,
            trouble,
        } = claim;
        if let Some(trouble) = trouble {
            let gap = Gap::new(change.path.as_bytes(), trouble.0);
            self.recorder.gap(gap);
        }
        if change.kind == ChangeKind::Replaced {
            self.recorder.change(change);
        } else if let Ok(Content::Pending(ticket)) = content {
            self.pending.insert(ticket, change);
            self.settle(false);
        } else {
            self.conclude(change, content);
        }
        types
    }

    fn attributes(&mut self, path: &RootPath, side: Side, node: &P::Node) -> Option<Attributes> {
        self.pair
            .attributes(side, node)
            .map_err(|trouble| self.recorder.gap(Gap::new(path.as_bytes(), trouble.0)))
            .ok()
    }

    fn settle(&mut self, all: bool) {
        while let Some(settled) = self.pair.settle(all) {
            let Some(change) = self.pending.remove(&settled.ticket) else {
                continue;
            };
            match settled.moved {
                None => self.conclude(change, settled.content),
                Some((image, container)) => {
                    self.both(&change.path, &image, &container);
                }
            }
        }
    }

    /// Records a change of a regular file now that its content is known, or known to be unknown.
    fn conclude(&mut self, mut change: Change, content: Result<Content, Trouble>) {
        match content {
            Ok(Content::Same) => {}
            Ok(Content::Different) => change.aspects.insert(Aspect::Content),
            Ok(Content::Undecided | Content::Pending(_)) => {
                change.aspects.insert(Aspect::Content);
                change.confirmed = false;
            }
            Err(trouble) => {
                self.recorder
                    .gap(Gap::new(change.path.as_bytes(), trouble.0));
                if !change.aspects.is_change() {
                    return;
                }
            }
        }
        self.record(change);
    }

    fn record(&mut self, change: Change) {
        if change.aspects.is_change() {
            self.recorder.change(change);
        } else if P::KEEPS_COPIES {
            let after = change.after();
            if !after.is_some_and(|after| after.file_type.has_entries()) {
                self.recorder.identical_copy();
            }
        }
    }

    /// Returns the names of the extended attributes of an object that the image does not have, but for those that
    /// the host's security modules give to every file.
    fn own_xattrs(&mut self, container: &P::Node) -> Result<Vec<Bytes>, Trouble> {
        let xattrs = self.pair.xattrs(Side::Container, container)?.into_iter();
        let names = xattrs.map(|(name, _)| name);
        let is_given = |name: &[u8]| LABELS.contains(&name) || APPRAISALS.contains(&name);
        Ok(names.filter(|name| !is_given(name.as_bytes())).collect())
    }

    /// Returns the names of the extended attributes that one side lacks or that differ.
    fn differing_xattrs(
        &mut self,
        image: &P::Node,
        container: &P::Node,
    ) -> Result<Vec<Bytes>, Trouble> {
        let before = self.pair.xattrs(Side::Image, image)?;
        let after = self.pair.xattrs(Side::Container, container)?;
        if before == after {
            return Ok(Vec::new());
        }
        let lacks = |of: &[(Bytes, Bytes)], attribute: &(Bytes, Bytes)| !of.contains(attribute);
        let mut names: Vec<Bytes> = before
            .iter()
            .filter(|a| lacks(&after, a))
            .chain(after.iter().filter(|a| lacks(&before, a)))
            .map(|(name, _)| name.clone())
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }
}

fn bare(path: &RootPath, kind: ChangeKind) -> Change {
    Change::new(path.clone(), kind)
}

/// Returns in which respects the attributes of two objects of one type differ.
pub(super) fn aspects(before: &Attributes, after: &Attributes) -> Aspects {
    let mut aspects = Aspects::NONE;
    let mut note = |differs: bool, aspect| {
        if differs {
            aspects.insert(aspect);
        }
    };
    note(before.mode != after.mode, Aspect::Mode);
    note(
        (before.uid, before.gid) != (after.uid, after.gid),
        Aspect::Owner,
    );
    note(before.target != after.target, Aspect::Target);
    note(before.device != after.device, Aspect::Device);
    note(
        (before.immutable, before.append_only) != (after.immutable, after.append_only),
        Aspect::Flags,
    );
    if !before.file_type.has_entries() {
        // A directory's count and times follow its entries, which are compared by themselves.
        note(before.links != after.links, Aspect::Links);
        note(before.mtime != after.mtime, Aspect::Times);
    }
    aspects
}
