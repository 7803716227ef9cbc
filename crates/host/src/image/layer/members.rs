//! The members of a layer's stream, each held against the disk.

use std::io::BufRead;

use plimsoll_core::model::{Aspect, Aspects, Change, ChangeKind, FileType, Gap, RootPath, Sides};

use super::{Below, Check, bare};
use crate::fs::read_at;
use crate::image::expected::{aspects, attributes, differing};
use crate::image::member::{Content, Kind, Member};
use crate::image::tree::{Object, Tree};
use crate::layers::stored::LayerRoot;
use crate::measure::Trouble;

/// Prefix of the members that are no files (OCI image specification, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// The member that makes its directory opaque.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";

impl Check<'_> {
    /// Holds a member against what is on disk.
    ///
    /// # Errors
    /// Those of reading the stream.
    pub(super) fn member<S: BufRead>(
        &mut self,
        mut member: Member,
        content: &mut Content<'_, S>,
    ) -> std::io::Result<()> {
        let name = member.path.components().last().unwrap_or_default();
        let parent = member.path.parent().unwrap_or_else(RootPath::root);
        // In a store of fuse-overlayfs such a member lies there as a file of its own.
        let is_there =
            self.tree.is_of_fuse() && name.starts_with(WHITEOUT) && self.is_there(&member);
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
            let before = attributes(member, 1);
            self.record(Change {
                sides: Sides::new(Some(&before), None),
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
            change.xattrs = differing(&member.xattrs, &self.tree.xattrs(&object)?).into();
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
        change.sides = Sides::new(Some(&before), Some(&after));
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
            change.sides = Sides::new(None, Some(&self.tree.attributes(object)?));
            self.record(change);
        }
        Ok(())
    }

    /// Holds a root that a snapshotter made against what it makes.
    pub(super) fn made_root(&mut self) {
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
            change.xattrs = differing(&[], &tree.xattrs(&object)?).into();
            if !change.xattrs.is_empty() {
                change.aspects.insert(Aspect::Xattr);
            }
            change.sides = Sides::new(None, Some(&after));
            Ok((change.aspects != Aspects::NONE).then_some(change))
        };
        match look(self.tree) {
            Ok(change) => change.into_iter().for_each(|change| self.record(change)),
            Err(trouble) => self.recorder.gap(Gap::new(root.as_bytes(), trouble.0)),
        }
    }
}
