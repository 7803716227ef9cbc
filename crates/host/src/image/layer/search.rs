//! What is on disk and the layer's stream does not tell of.

use plimsoll_core::model::{Aspect, Change, ChangeKind, FileType, Gap, RootPath, Sides};

use super::members::OPAQUE;
use super::{Below, Check, LIMITS, bare};
use crate::fs::Stat;
use crate::image::tree::Object;
use crate::measure::Trouble;
use crate::measure::outcome::{Limits, Outcome};

impl Check<'_> {
    /// Holds what differs from the tree beneath against the stream.
    pub(super) fn beyond(&mut self, differences: &dyn Fn(Limits) -> Result<Outcome, Trouble>) {
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
    pub(super) fn extra(&mut self, top: &RootPath) {
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
        drop(reader);
        names.sort();
        for path in names {
            let Some(object) = self.tree.look(&path)? else {
                continue;
            };
            let is_directory = object.stat.file_type == FileType::Directory;
            let is_known =
                self.told.contains(&path) || is_directory && self.is_implied(&path, &object)?;
            if !is_known {
                let after = self.tree.attributes(&object)?;
                self.record(Change {
                    sides: Sides::new(None, Some(&after)),
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
            change.xattrs = Box::new([b"trusted.overlay.opaque"[..].into()]);
            self.record(change);
        }
        Ok(())
    }
}
