//! Which trees are compared: what is pending written into them, and one known to be a snapshot of the
//! other.

use std::collections::HashSet;
use std::sync::Arc;

use super::batch::Batch;
use super::candidates::{Candidates, Dated};
use super::device::Devices;
use super::shared::ImageTrees;
use super::steady::Start;
use super::{BtrfsPair, Scope};
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
