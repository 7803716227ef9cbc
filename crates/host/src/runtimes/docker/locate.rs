//! Where a container's layers lie, for each storage driver.
//!
//! Layout of `overlay2`: moby `daemon/graphdriver/overlay2/overlay.go`; of `btrfs`:
//! `daemon/graphdriver/btrfs/btrfs.go`; of `vfs`: `daemon/graphdriver/vfs/driver.go`.

use std::sync::Arc;

use plimsoll_core::model::{DiffId, ExpectedMount, Gap, RuntimePath};

use super::disk::{DataRoot, OVERLAYS, RecordError, SUBVOLUMES};
use super::injected;
use super::layerdb::MountLayers;
use super::memo::Memo;
use crate::fs::{Dir, RECORD_LIMIT};
use crate::layers::btrfs::Subvolumes;
use crate::layers::stored::{Beneath, Form};
use crate::layers::{
    BtrfsStack, Held, InjectedTree, Layer, LayerStack, MarkNamespace, OverlayStack, PlainStack,
    Subvolume, index,
};
use crate::proc::mountinfo::OverlayMount;
use crate::runtimes::Located;
use crate::runtimes::links::{followed, followed_mounts};
use crate::runtimes::lower::{self, LayerName, excerpt, last_two, layer_at};
use crate::runtimes::mounted::{mounted, not_the_driver, not_the_subvolume};

/// A storage driver that keeps its layers in a way that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    Overlay2,
    Btrfs,
    Vfs,
}

impl Driver {
    /// Every one.
    pub(super) const ALL: [Self; 3] = [Self::Overlay2, Self::Btrfs, Self::Vfs];

    /// Returns the driver of this name; `None` for any other, snapshotters of containerd included.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "overlay2" => Some(Self::Overlay2),
            "btrfs" => Some(Self::Btrfs),
            "vfs" => Some(Self::Vfs),
            _ => None,
        }
    }

    /// Returns its name, which is that of its directories.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Overlay2 => "overlay2",
            Self::Btrfs => "btrfs",
            Self::Vfs => "vfs",
        }
    }
}

/// A container whose layers are to be found.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) root: &'a DataRoot,
    pub(super) layers: &'a MountLayers,
    /// Its first process, while it has one on this machine.
    pub(super) pid: Option<u32>,
    /// What it mounts over its rootfs, while it runs.
    pub(super) mounts: Vec<ExpectedMount>,
}

/// Finds the layers.
///
/// # Errors
/// [`RecordError`] when one is missing or is not what it should be.
pub(super) fn locate(driver: Driver, wanted: &Wanted<'_>) -> Result<Located, RecordError> {
    match driver {
        Driver::Overlay2 => overlay2(wanted),
        Driver::Btrfs => btrfs(wanted),
        Driver::Vfs => vfs(wanted),
    }
}

fn overlay2(wanted: &Wanted<'_>) -> Result<Located, RecordError> {
    let Wanted { root, layers, .. } = wanted;
    let mount = &layers.mount;
    let mut gaps = Vec::new();
    let mut marks = match root.memo.marks.get() {
        Some(marks) => *marks,
        None => {
            let marks = resting_marks(root)?;
            *root.memo.marks.get_or_init(|| marks)
        }
    };
    let links = Links::open(root, layers)?;
    let overlays = root.overlays()?;
    let whole = |relative: &str| format!("{OVERLAYS}/{relative}");
    let lower = format!("{mount}/lower");
    let recorded = overlays
        .dir
        .read_file(lower.as_bytes(), RECORD_LIMIT)
        .map_err(|error| RecordError::from(error).of(&whole(&lower)))?;
    let recorded_lowers: Vec<&[u8]> = recorded.split(|b| *b == b':').collect();
    if let Err(why) = links.agree(&recorded_lowers) {
        gaps.push(Gap::new(whole(&lower).as_str(), why));
    }
    if let Some(mounted) = mounted(wanted.pid, &mut gaps) {
        if mounted.fs_type.as_bytes() == b"overlay" {
            let options = OverlayMount::decode(mounted.super_options.as_bytes());
            let lowers: Vec<&[u8]> = options.lower.iter().map(Vec::as_slice).collect();
            marks = if options.userxattr {
                MarkNamespace::User
            } else {
                MarkNamespace::Trusted
            };
            let upper = options.upper.as_deref().and_then(last_two);
            if upper != Some((mount.as_str().as_bytes(), b"diff")) {
                gaps.push(Gap::new(
                    "mountinfo",
                    format!(
                        "the container runs on the upper layer \"{}\", its record says {mount}",
                        excerpt(options.upper.as_deref().unwrap_or_default())
                    ),
                ));
            }
            // Mostly they are named as they were in the record, and have been followed already.
            let as_recorded = lowers.len() == recorded_lowers.len()
                && lowers
                    .iter()
                    .zip(&recorded_lowers)
                    .all(|(a, b)| last_two(a) == last_two(b));
            if !as_recorded && let Err(why) = links.agree(&lowers) {
                gaps.push(Gap::new("mountinfo", why));
            }
        } else {
            gaps.push(not_the_driver(&mounted, "overlay"));
        }
    }
    let image = layers
        .image
        .iter()
        .rev()
        .map(|(name, diff_id)| {
            let open = || overlay_layer(root, name, Some(*diff_id));
            root.memo.layer(name, open)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let work = format!("{mount}/work");
    let index_path = format!("{work}/index");
    let stack = OverlayStack {
        upper: overlay_layer(root, mount, None)?,
        index: match index(overlays.dir.open_beneath(index_path.as_bytes()))
            .map_err(|errno| RecordError::from(errno).of(&whole(&index_path)))?
        {
            None if !overlays.dir.has(work.as_bytes()) => {
                return Err(RecordError::Absent.of(&whole(&work)));
            }
            index => index,
        },
        injected: vec![overlay_layer(root, &layers.init, None)?],
        injected_paths: injected::init_layer(),
        image,
        data_only: Vec::new(),
        marks,
        held: Held::default(),
    };
    let mounts = match wanted.mounts.as_slice() {
        [] => Vec::new(),
        mounts => followed_mounts(mounts, &beneath(&stack)),
    };
    Ok(Located {
        stack: LayerStack::Overlay(stack),
        mounts,
        gaps,
    })
}

/// Returns the paths that `made` become as the links of the layers beneath the writable one lead them:
/// there Docker makes them.
pub(super) fn led(root: &DataRoot, stack: &LayerStack, made: &[RuntimePath]) -> Vec<RuntimePath> {
    match stack {
        LayerStack::Overlay(stack) => followed(made, &beneath(stack)),
        LayerStack::Btrfs(stack) => match root.open_shown(&stack.image.path) {
            Some(image) => followed(made, &[&image]),
            None => Vec::new(),
        },
        LayerStack::Plain(stack) => match &stack.injected {
            Some(injected) => followed(made, &[&injected.over_image.image.dir]),
            None => Vec::new(),
        },
    }
}

/// Returns mounts that a container may have as the links of the layers beneath the writable one lead them.
pub(super) fn mounts_led(
    root: &DataRoot,
    stack: &LayerStack,
    mounts: &[ExpectedMount],
) -> Vec<ExpectedMount> {
    match stack {
        LayerStack::Overlay(stack) => followed_mounts(mounts, &beneath(stack)),
        LayerStack::Btrfs(stack) => {
            let beneath = stack.injected.as_ref().unwrap_or(&stack.image);
            match root.open_shown(&beneath.path) {
                Some(tree) => followed_mounts(mounts, &[&tree]),
                None => Vec::new(),
            }
        }
        LayerStack::Plain(stack) => followed_mounts(mounts, &[&stack.image.dir]),
    }
}

/// Returns the layers beneath the writable one, the topmost first.
fn beneath(stack: &OverlayStack) -> Vec<&Dir> {
    let image = stack.image.iter().map(Arc::as_ref);
    let layers = stack.injected.iter().chain(image);
    layers.map(|layer| &*layer.dir).collect()
}

/// Opens a layer of an image, which lies over the one `beneath`, and tells in which form it is.
pub(super) fn image_layer(
    root: &DataRoot,
    driver: Driver,
    name: &LayerName,
    diff_id: DiffId,
    beneath: Option<&LayerName>,
) -> Result<(Arc<Layer>, Form), RecordError> {
    let whole = |dir: &str, name: &LayerName| layer(root, &format!("{dir}/{name}"), Some(diff_id));
    Ok(match driver {
        Driver::Overlay2 => {
            let open = || overlay_layer(root, name, Some(diff_id));
            (
                root.memo.layer(name, open)?,
                Form::Own(resting_marks(root)?),
            )
        }
        Driver::Btrfs => {
            let beneath = match beneath {
                Some(beneath) => {
                    let (anchor, home) = root.subvolumes()?;
                    let mut subvolumes = Subvolumes::at(anchor, *home);
                    let mut find = |name: &LayerName| subvolume(root, &mut subvolumes, name);
                    let (image, container) = (find(beneath)?, find(name)?);
                    Some(Beneath::Subvolume(BtrfsStack {
                        anchor: Arc::clone(anchor),
                        container,
                        injected: None,
                        injected_paths: Vec::new(),
                        image,
                    }))
                }
                None => None,
            };
            (Arc::new(whole(SUBVOLUMES, name)?), Form::Whole(beneath))
        }
        Driver::Vfs => {
            const DIR: &str = "vfs/dir";
            let beneath = match beneath {
                Some(beneath) => Some(Beneath::Copy(PlainStack {
                    image: whole(DIR, beneath)?,
                    container: whole(DIR, name)?,
                    injected: None,
                })),
                None => None,
            };
            (Arc::new(whole(DIR, name)?), Form::Whole(beneath))
        }
    })
}

/// Finds the subvolume of a layer.
fn subvolume(
    root: &DataRoot,
    subvolumes: &mut Subvolumes<'_>,
    name: &LayerName,
) -> Result<Subvolume, RecordError> {
    let path = format!("{SUBVOLUMES}/{name}");
    subvolumes
        .named(name.as_str().as_bytes(), root.show(&path))
        .map_err(|error| RecordError::Broken(format!("{path}: {error}")))
}

/// Opens the directory of one overlay layer.
fn overlay_layer(
    root: &DataRoot,
    name: &LayerName,
    diff_id: Option<DiffId>,
) -> Result<Layer, RecordError> {
    Ok(Layer {
        dir: Arc::new(root.overlay_dir(&format!("{name}/diff"))?),
        path: root.show(&format!("overlay2/{name}/diff")),
        diff_id,
    })
}

/// Returns which attributes carry the marks of a container that is not mounted.
///
/// A daemon in a user namespace mounts with `userxattr` (overlay2.go, `needsUserXattr`), and its
/// directories belong to the user who started it. Those of a remapped daemon, which runs as root,
/// belong to another user as well, but its data root has a name of its own.
fn resting_marks(root: &DataRoot) -> Result<MarkNamespace, RecordError> {
    let owner = root.stat("overlay2")?.uid;
    Ok(if owner == 0 || root.is_remapped() {
        MarkNamespace::Trusted
    } else {
        MarkNamespace::User
    })
}

/// The short links of a data root, and where a container's must lead.
struct Links<'a> {
    memo: &'a Memo,
    dir: &'a Dir,
    /// The names of the layers beneath the writable one, top first.
    expected: Vec<&'a str>,
}

impl<'a> Links<'a> {
    fn open(root: &'a DataRoot, layers: &'a MountLayers) -> Result<Self, RecordError> {
        let image = layers.image.iter().rev().map(|(name, _)| name.as_str());
        let dir = match root.memo.links.get() {
            Some(dir) => dir,
            None => {
                let dir = root.overlay_dir("l")?;
                root.memo.links.get_or_init(|| dir)
            }
        };
        Ok(Self {
            memo: &root.memo,
            dir,
            expected: std::iter::once(layers.init.as_str()).chain(image).collect(),
        })
    }

    /// Whether lower directories are the expected ones in their order.
    fn agree(&self, lowers: &[&[u8]]) -> Result<(), String> {
        // Those of the image's layers are the same for all containers on them; the first one is not.
        let of_image = self.expected.get(1..).unwrap_or_default();
        let is_of_image = |target: &[u8]| {
            layer_at(target).is_some_and(|name| of_image.iter().any(|of| of.as_bytes() == name))
        };
        let read_link = |link: &[u8]| {
            let read = || self.dir.read_link(link);
            self.memo.led(link, is_of_image, read)
        };
        lower::agree(lowers, &self.expected, "the layer database", read_link)
    }
}

fn btrfs(wanted: &Wanted<'_>) -> Result<Located, RecordError> {
    let Wanted { root, layers, .. } = wanted;
    let (anchor, home) = root.subvolumes()?;
    let image = top_layer(layers)?;
    let mut subvolumes = Subvolumes::at(anchor, *home);
    let mut find = |name: &LayerName| subvolume(root, &mut subvolumes, name);
    let container = find(&layers.mount)?;
    let injected = find(&layers.init)?;
    let image = root.memo.image_at(image, || find(image))?;
    let mut gaps = Vec::new();
    if let Some(mounted) = mounted(wanted.pid, &mut gaps) {
        gaps.extend(not_the_subvolume(&mounted, container.id));
    }
    let mounts = match wanted.mounts.as_slice() {
        [] => Vec::new(),
        mounts => {
            let init_tree = root.need(&format!("{SUBVOLUMES}/{}", layers.init))?;
            followed_mounts(mounts, &[&init_tree])
        }
    };
    Ok(Located {
        stack: LayerStack::Btrfs(BtrfsStack {
            anchor: Arc::clone(anchor),
            container,
            injected: Some(injected),
            injected_paths: injected::init_layer(),
            image,
        }),
        mounts,
        gaps,
    })
}

/// Whole trees, each layer a copy of the one beneath with something changed in it.
fn vfs(wanted: &Wanted<'_>) -> Result<Located, RecordError> {
    let Wanted { root, layers, .. } = wanted;
    // Which of the image's layers a file came from cannot be told from a copy of all of them.
    let tree = |name: &LayerName| layer(root, &format!("vfs/dir/{name}"), None);
    let image = tree(top_layer(layers)?)?;
    let mounts = followed_mounts(&wanted.mounts, &[&tree(&layers.init)?.dir]);
    let stack = PlainStack {
        image: tree(&layers.init)?,
        container: tree(&layers.mount)?,
        injected: Some(Box::new(InjectedTree {
            over_image: PlainStack {
                image,
                container: tree(&layers.init)?,
                injected: None,
            },
            paths: injected::init_layer(),
        })),
    };
    Ok(Located {
        stack: LayerStack::Plain(stack),
        mounts,
        gaps: Vec::new(),
    })
}

fn layer(root: &DataRoot, relative: &str, diff_id: Option<DiffId>) -> Result<Layer, RecordError> {
    let dir = root.need(relative)?;
    Ok(Layer {
        dir: Arc::new(dir),
        path: root.show(relative),
        diff_id,
    })
}

/// Returns the top layer of an image: for drivers whose layers are whole trees, the image.
fn top_layer(layers: &MountLayers) -> Result<&LayerName, RecordError> {
    layers
        .image
        .last()
        .map(|(name, _)| name)
        .ok_or_else(|| RecordError::Broken("its image has no layer to compare with".into()))
}
