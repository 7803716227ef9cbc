//! Which trees are compared: what is pending written into them, and one known to be a snapshot of the
//! other.

use std::collections::HashSet;
use std::sync::Arc;

use super::batch::Batch;
use super::candidates::{Candidates, Dated};
use super::device::Devices;
use super::example::Example;
use super::shared::ImageTrees;
use super::steady::Start;
use super::{BtrfsPair, Scope};
use plimsoll_core::model::RuntimePath;

use crate::fs::Dir;
use crate::fs::btrfs::decode::Root;
use crate::fs::btrfs::{Still, Trees};
use crate::layers::Subvolume;
use crate::measure::{Confirm, Trouble};

/// The subvolumes that are compared.
pub(super) struct Sides<'a> {
    pub(super) image: &'a Subvolume,
    pub(super) container: &'a Subvolume,
    /// The container's, or a read-only snapshot of it.
    pub(super) looked_at: &'a Subvolume,
    pub(super) container_root: Root,
    /// Whether threads may read what there is much of.
    pub(super) may_have_threads: bool,
}

/// A subvolume that may become the example of those over its image, as of one transaction.
#[derive(Debug)]
pub struct Candidate {
    example: Example,
    generation: u64,
}

/// Returns the root of a subvolume that is a snapshot of another one, and the last transaction of that one.
fn snapshot_of(
    trees: &mut Trees<'_>,
    image: &Subvolume,
    snapshot: &Subvolume,
) -> Result<Option<(Root, u64)>, Trouble> {
    let (root, image) = (trees.root(snapshot.id)?, trees.root(image.id)?);
    let both = root.zip(image);
    let is_one =
        |(root, image): &(Root, Root)| root.parent_uuid == image.uuid && image.uuid != [0; 16];
    Ok(both
        .filter(is_one)
        .map(|(root, image)| (root, image.generation)))
}

fn gone(subvolume: &Subvolume) -> Trouble {
    Trouble(format!("subvolume {} is gone", subvolume.id))
}

impl<'s> BtrfsPair<'s> {
    /// Compares a subvolume with the one that it is a snapshot of, after writing out what is pending:
    /// a change is in the tree only from then on. `snapshot` is looked at in place of `container`
    /// where it is given: a read-only snapshot of it. Where there is much to read, threads do, if they may.
    ///
    /// # Errors
    /// [`Trouble`] when the one is no snapshot of the other, or a tree cannot be read.
    pub fn open(
        anchor: &'s Dir,
        image: &Subvolume,
        container: &Subvolume,
        snapshot: Option<&Subvolume>,
        (scope, confirm): (Scope, Confirm),
        may_have_threads: bool,
    ) -> Result<Self, Trouble> {
        let mut trees = Trees::new(anchor);
        let looked_at = snapshot.unwrap_or(container);
        // syncfs walks dirty inodes; BTRFS_IOC_SYNC misses pages that were dirtied without a reservation.
        // It commits only when the file system has something pending (kernel `fs/btrfs/disk-io.c`,
        // `btrfs_sync_fs`), which nothing tells for one subvolume alone.
        let (start, root) = Start::flush(&mut trees, looked_at.id, || rustix::fs::syncfs(anchor))?;
        let root = root.ok_or_else(|| gone(looked_at))?;
        let container_root = match snapshot {
            None => root,
            Some(_) => {
                let container_root = trees.root(container.id)?.ok_or_else(|| gone(container))?;
                if root.parent_uuid != container_root.uuid {
                    return Err(Trouble(
                        "the snapshot taken is not one of the container".into(),
                    ));
                }
                container_root
            }
        };
        let sides = Sides {
            image,
            container,
            looked_at,
            container_root,
            may_have_threads,
        };
        Self::over(trees, start, sides, scope, confirm, |_| None)
    }

    /// Compares a subvolume that the runtime put between image and container with the image's. Whatever
    /// was pending in it was written out when the container's was opened, and no container writes to it. What
    /// is known of the image's tree from others that were compared with it is not read again.
    ///
    /// # Errors
    /// Those of [`BtrfsPair::open`].
    pub fn injected(
        anchor: &'s Arc<Dir>,
        image: &Subvolume,
        injected: &Subvolume,
        scope: Scope,
        confirm: Confirm,
        trees_of_images: &ImageTrees,
    ) -> Result<Self, Trouble> {
        let mut trees = Trees::new(anchor);
        let root = trees.root(injected.id)?.ok_or_else(|| gone(injected))?;
        let start = Start::flushed(&root);
        let sides = Sides {
            image,
            container: injected,
            looked_at: injected,
            container_root: root,
            may_have_threads: false,
        };
        let known = |generation| Some(trees_of_images.take(anchor, image.id, generation));
        Self::over(trees, start, sides, scope, confirm, known)
    }

    /// Returns how many items were read of a subvolume that the runtime put between image and container, when
    /// that is as one over the same image in which nothing was found but what was expected. `None` where that is
    /// not so, or not known: then comparing it tells.
    ///
    /// # Errors
    /// [`Trouble`] when a tree cannot be read.
    pub fn as_example(
        anchor: &'s Arc<Dir>,
        image: &Subvolume,
        injected: &Subvolume,
        expected: &[RuntimePath],
        trees_of_images: &ImageTrees,
    ) -> Result<Option<u64>, Trouble> {
        let Some(example) = trees_of_images.example(anchor, image.id) else {
            return Ok(None);
        };
        let mut trees = Trees::new(anchor);
        let Some((root, generation)) = snapshot_of(&mut trees, image, injected)? else {
            return Ok(None);
        };
        let is_it = example.expected == expected
            && example.generation == generation
            && example.is_as(&mut trees, injected.id, root.otransid)?;
        Ok(is_it.then_some(trees.items_read()))
    }

    /// Reads a subvolume that the runtime put between image and container before it is compared, when it may
    /// become such an example.
    ///
    /// # Errors
    /// [`Trouble`] when a tree cannot be read.
    pub fn read_example(
        anchor: &'s Arc<Dir>,
        image: &Subvolume,
        injected: &Subvolume,
        expected: &[RuntimePath],
        trees_of_images: &ImageTrees,
    ) -> Result<Option<Candidate>, Trouble> {
        if !trees_of_images.wants_example(image.id) {
            return Ok(None);
        }
        let mut trees = Trees::new(anchor);
        let Some((root, generation)) = snapshot_of(&mut trees, image, injected)? else {
            return Ok(None);
        };
        let image = (image.id, generation);
        let tree = (injected.id, root.otransid);
        let example = Example::read(&mut trees, anchor, image, tree, expected)?;
        Ok(example.map(|example| Candidate {
            example,
            generation: root.generation,
        }))
    }

    /// Keeps it, once nothing was found in it but what was expected, when both trees are those that were read.
    ///
    /// # Errors
    /// [`Trouble`] when a tree cannot be read.
    pub fn keep_example(
        &mut self,
        candidate: Candidate,
        trees_of_images: &ImageTrees,
    ) -> Result<(), Trouble> {
        let Candidate {
            example,
            generation,
        } = candidate;
        let is_still = generation == self.start.generation
            && example.generation == self.image_generation
            && !self.trees.touched_since(self.container, generation)?
            && !(self.trees).touched_since(self.image, self.image_generation)?;
        if is_still {
            trees_of_images.keep(example);
        }
        Ok(())
    }

    /// Keeps what it read of the image's tree for others that are compared with that.
    pub fn share(mut self, anchor: &Arc<Dir>, trees_of_images: &ImageTrees) {
        if let Some(still) = self.trees.take_still() {
            trees_of_images.give(anchor, self.image_generation, still);
        }
    }

    pub(super) fn over(
        mut trees: Trees<'s>,
        start: Start,
        sides: Sides<'_>,
        scope: Scope,
        confirm: Confirm,
        known: impl FnOnce(u64) -> Option<Still>,
    ) -> Result<Self, Trouble> {
        let Sides {
            image,
            container,
            looked_at,
            container_root,
            may_have_threads,
        } = sides;
        let image_root = trees.root(image.id)?.ok_or_else(|| gone(image))?;
        let unset = [0; 16];
        if container_root.parent_uuid != image_root.uuid || image_root.uuid == unset {
            return Err(Trouble(format!(
                "subvolume {} is not a snapshot of subvolume {}, which is its image: use --engine digest",
                container.id, image.id
            )));
        }
        let known = known(image_root.generation);
        let is_injected = known.is_some();
        if let Some(still) = known {
            trees.keep_still(still);
        }
        let looked_at = looked_at.id;
        let base = container_root.otransid;
        let (candidates, moved) = match scope {
            Scope::Paths => (None, Vec::new()),
            Scope::Everything => {
                let dated = |tree, generation| Dated { tree, generation };
                let container = dated(looked_at, start.generation);
                let image = dated(image.id, image_root.generation);
                let (candidates, moved) = Candidates::find(
                    &mut trees,
                    container,
                    image,
                    base,
                    is_injected,
                    may_have_threads,
                )?;
                (Some(candidates), moved)
            }
        };
        Ok(Self {
            anchor: trees.anchor(),
            trees,
            devices: Devices::with_threads(may_have_threads),
            batch: Batch::default(),
            image: image.id,
            container: looked_at,
            nesting: container.id,
            base,
            made: container_root.otime,
            candidates,
            moved,
            start,
            image_generation: image_root.generation,
            replaced: HashSet::new(),
            last_entry: None,
            made_here: None,
            confirm,
            bytes_read: 0,
        })
    }
}
