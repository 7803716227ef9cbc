//! Names resolved through the layers, by the rules of the kernel's own lookup
//! (`ovl_lookup` in `fs/overlayfs/namei.c`).

use std::sync::Arc;

use plimsoll_core::model::{Attributes, FileType};
use rustix::io::Errno;

use super::marks::Marks;
use super::redirect::Redirect;
use super::{OverlayPair, UPPER};
use crate::fs::{Dir, Stat};
use crate::measure::Trouble;

/// Inode number of the root directory of a Btrfs subvolume (`BTRFS_FIRST_FREE_OBJECTID`).
const SUBVOLUME_ROOT: u64 = 256;

/// An object of a merged tree.
#[derive(Debug, Clone)]
pub enum Node {
    /// A directory: those of the layers that show through, the top one first, which gives it its
    /// attributes.
    Dir {
        /// The directories.
        parts: Vec<Part>,
        /// Whether a directory above it shows another path of the layers beneath.
        parent_shifted: bool,
        /// Whether it, or a directory above it, shows another path of the layers beneath.
        shifted: bool,
    },
    /// Anything else.
    Leaf(Leaf),
}

/// A directory of one layer.
#[derive(Debug, Clone)]
pub struct Part {
    pub(super) layer: usize,
    pub(super) dir: Arc<Dir>,
    pub(super) stat: Stat,
    pub(super) marks: Marks,
}

/// An entry of one layer that is no directory.
#[derive(Debug, Clone)]
pub struct Leaf {
    pub(super) layer: usize,
    pub(super) parent: Arc<Dir>,
    pub(super) name: Box<[u8]>,
    pub(super) stat: Stat,
    pub(super) marks: Marks,
    pub(super) shifted: bool,
    /// Where its bytes are, when it is a copy of the metadata alone.
    pub(super) data: Option<Box<Leaf>>,
}

impl Node {
    /// Returns the directories of a directory; none of anything else.
    pub(super) fn parts(&self) -> &[Part] {
        match self {
            Self::Dir { parts, .. } => parts,
            Self::Leaf(_) => &[],
        }
    }
}

impl Part {
    /// Returns its attributes.
    pub(super) fn attributes(&self) -> Attributes {
        self.marks.shown(self.stat.attributes(None))
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.layer == other.layer
            && self.stat.ino == other.stat.ino
            && self.stat.dev == other.stat.dev
    }
}

impl Leaf {
    /// Returns the leaf that holds its bytes.
    pub(super) fn data(&self) -> &Self {
        self.data.as_deref().unwrap_or(self)
    }

    pub(super) fn data_identity(&self) -> ((u32, u32), u64) {
        let stat = &self.data().stat;
        (stat.dev, stat.ino)
    }

    /// Returns the target when it is a symbolic link.
    pub(super) fn target(&self) -> Result<Option<Vec<u8>>, Trouble> {
        if self.stat.file_type != FileType::Symlink {
            return Ok(None);
        }
        Ok(Some(self.parent.read_link(&self.name)?))
    }
}

/// Where the lookup of one name goes on in the layers beneath.
enum Way<'p> {
    /// In the directories that the parent consists of.
    Parts(&'p [Part], Vec<u8>),
    /// From the root of every layer from this one on, by a path.
    Roots(usize, Redirect),
}

impl OverlayPair<'_> {
    /// Resolves a name in a merged directory.
    pub(super) fn find(
        &mut self,
        parts: &[Part],
        name: &[u8],
        shifted: bool,
    ) -> Result<Option<Node>, Trouble> {
        if self.marks.are_fuse() && name.starts_with(super::fuse::MARK) {
            return Ok(None);
        }
        let mut dirs: Vec<Part> = Vec::new();
        let mut copy: Option<Leaf> = None;
        let parent_shifted = shifted;
        let mut shifted = shifted;
        let mut way = Way::Parts(parts, name.to_vec());
        loop {
            let (layer, parent, name) = match &mut way {
                Way::Parts(rest, name) => {
                    let Some((part, lower)) = rest.split_first() else {
                        break;
                    };
                    *rest = lower;
                    // Beneath a plain entry of upper, both sides go through the same directories.
                    if let [above] = &dirs[..]
                        && above.layer == UPPER
                        && !shifted
                    {
                        let beneath = self.beneath(part, lower, parts, name)?;
                        if let Some(Node::Dir { parts, .. }) = beneath {
                            dirs.extend(parts);
                        }
                        break;
                    }
                    // What only the image's layers tell is the same for all containers on them.
                    if copy.is_none()
                        && !shifted
                        && let Some(known) = self.in_image(part, lower, parts, name)?
                    {
                        match known {
                            Some(Node::Dir {
                                parts,
                                shifted: of_it,
                                ..
                            }) if !dirs.is_empty() => {
                                dirs.extend(parts);
                                shifted = of_it;
                                break;
                            }
                            _ if !dirs.is_empty() => break,
                            found => return Ok(found),
                        }
                    }
                    (part.layer, Arc::clone(&part.dir), name.clone())
                }
                Way::Roots(layer, redirect) => {
                    let at = *layer;
                    let Some(found) = self.layers.get(at) else {
                        break;
                    };
                    // Data-only layers hold nothing but data; nothing there hides another one, and
                    // nothing above hides them: the root of a composefs layer has whiteouts in the
                    // place of their directories.
                    let merged = at < self.merged;
                    if copy.is_none() && (redirect.stopped || !merged) {
                        break;
                    }
                    if redirect.stopped && merged {
                        *layer = self.merged;
                        continue;
                    }
                    *layer += 1;
                    match redirect.walk(&found.dir, &mut self.marks, merged)? {
                        Some((parent, name)) => (at, Arc::new(parent), name),
                        None => continue,
                    }
                }
            };
            if self.marks.hides(&parent, &name)? {
                break;
            }
            let stat = match parent.stat(&name) {
                Ok(stat) => stat,
                Err(Errno::NOENT | Errno::NAMETOOLONG) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if stat.is_whiteout_device() && self.marks_have_meaning() {
                break;
            }
            let next_layer = layer + 1;
            let redirect = if stat.file_type == FileType::Directory {
                if copy.is_some() {
                    break;
                }
                let dir = match parent.child(&name) {
                    Ok(dir) => dir,
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno.into()),
                };
                let mut part = self.part(layer, dir)?;
                if !self.stacked
                    && part.stat.ino == SUBVOLUME_ROOT
                    && part.stat.dev != parent.stat_self()?.dev
                {
                    part.stat.file_type = FileType::Subvolume;
                }
                let (opaque, redirect) = (part.marks.opaque, part.marks.redirect.clone());
                dirs.push(part);
                if opaque {
                    break;
                }
                redirect
            } else {
                if !dirs.is_empty() {
                    break;
                }
                let leaf = self.leaf_of(layer, &parent, &name, stat, shifted)?;
                if leaf.marks.whiteout || copy.is_some() && stat.file_type != FileType::File {
                    break;
                }
                // The data of a copy is never hidden by a directory on the way to the copy.
                if let Way::Roots(_, redirect) = &mut way {
                    redirect.stopped = false;
                }
                let (metacopy, redirect) = (leaf.marks.metacopy, leaf.marks.redirect.clone());
                match (&mut copy, metacopy) {
                    (None, false) => return Ok(Some(Node::Leaf(leaf))),
                    (None, true) => copy = Some(leaf),
                    (Some(copy), false) => copy.data = Some(Box::new(leaf)),
                    (Some(_), true) => {}
                }
                if copy.as_ref().is_some_and(|copy| copy.data.is_some()) {
                    break;
                }
                redirect
            };
            if let Some(name) = redirect {
                shifted = true;
                match &mut way {
                    Way::Roots(_, redirect) => redirect.follow(&name),
                    Way::Parts(_, sought) if name.first() != Some(&b'/') => {
                        *sought = name.into_vec()
                    }
                    Way::Parts(..) => {
                        way = Way::Roots(next_layer, Redirect::new(name.into_vec()));
                    }
                }
            }
        }
        if let Some(copy) = copy {
            if copy.data.is_none() {
                return Err(Trouble("the layer that holds its data is missing".into()));
            }
            return Ok(Some(Node::Leaf(copy)));
        }
        Ok((!dirs.is_empty()).then_some(Node::Dir {
            parts: dirs,
            parent_shifted,
            shifted,
        }))
    }

    /// Resolves a name in the layers of the image, where what is found there is shared and these are all of
    /// the layers that are left.
    fn in_image(
        &mut self,
        first: &Part,
        rest: &[Part],
        all: &[Part],
        name: &[u8],
    ) -> Result<Option<Option<Node>>, Trouble> {
        // Taken out while its own question is answered: what it does not know is looked up as ever.
        let Some(shared) = self.shared.take_if(|image| image.begins_with(all, first)) else {
            return Ok(None);
        };
        let found = match shared.known(first, name) {
            Some(known) => Ok(known),
            None => {
                let from = all.len() - rest.len() - 1;
                let found = self.find(all.get(from..).unwrap_or_default(), name, false);
                found.inspect(|found| shared.keep(first, name, found.as_ref()))
            }
        };
        self.shared = Some(shared);
        found.map(Some)
    }

    /// Resolves a name in the layers beneath upper, and remembers the answer for the image's side.
    fn beneath(
        &mut self,
        first: &Part,
        rest: &[Part],
        all: &[Part],
        name: &[u8],
    ) -> Result<Option<Node>, Trouble> {
        let from = all.len() - rest.len() - 1;
        let found = self.find(all.get(from..).unwrap_or_default(), name, false)?;
        if from == 1 {
            self.memo = Some((Arc::clone(&first.dir), name.into(), found.clone()));
        }
        Ok(found)
    }

    /// Returns an entry that is no directory; `None` when it vanished meanwhile.
    pub(super) fn leaf(
        &mut self,
        layer: usize,
        parent: &Arc<Dir>,
        name: &[u8],
        shifted: bool,
    ) -> Result<Option<Leaf>, Trouble> {
        match parent.stat(name) {
            Ok(stat) => Ok(Some(self.leaf_of(layer, parent, name, stat, shifted)?)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Returns an entry that is no directory, of which it was just told what it is.
    fn leaf_of(
        &mut self,
        layer: usize,
        parent: &Arc<Dir>,
        name: &[u8],
        stat: Stat,
        shifted: bool,
    ) -> Result<Leaf, Trouble> {
        let marks = self.marks.of(parent, name, &stat)?;
        Ok(Leaf {
            layer,
            parent: Arc::clone(parent),
            name: name.into(),
            stat,
            marks,
            shifted,
            data: None,
        })
    }

    fn marks_have_meaning(&self) -> bool {
        self.stacked
    }
}
