//! Where the layers of a container lie, for each snapshotter that an engine understands.
//!
//! Layout of `overlayfs`: containerd `plugins/snapshots/overlay/overlay.go`; of `btrfs`:
//! `plugins/snapshots/btrfs/btrfs.go`; of `native`: `plugins/snapshots/native/native.go`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plimsoll_core::model::{ChainId, DiffId, ExpectedMount, Gap, RuntimePath};
use plimsoll_core::trust::chain_ids;
use rustix::io::Errno;

use super::excerpt;
use super::metadata::Snapshot;
use super::snapshots::{Kind, Stored};
use super::store::{Chain, Image, Store, chain_id};
use crate::fs::Dir;
use crate::layers::btrfs::Subvolumes;
use crate::layers::{
    BtrfsStack, Held, InjectedTree, Layer, LayerStack, MarkNamespace, OverlayStack, PlainStack,
    Subvolume, index,
};
use crate::proc::mountinfo::OverlayMount;
use crate::runtimes::links::{followed, followed_mounts};
use crate::runtimes::mounted::{mounted, not_the_driver, not_the_subvolume};
use crate::runtimes::{Located, RuntimeError};

/// A container whose layers are to be found.
#[derive(Debug)]
pub(in crate::runtimes) struct Wanted<'a> {
    pub(in crate::runtimes) store: &'a Store,
    pub(in crate::runtimes) chain: &'a Chain,
    pub(in crate::runtimes) image: &'a Image,
    /// What may be in snapshots that lie between those of the image and the container's own.
    pub(in crate::runtimes) injected_paths: Vec<RuntimePath>,
    /// Its first process, while it has one on this machine.
    pub(in crate::runtimes) pid: Option<u32>,
    /// What it mounts over its rootfs, while it runs.
    pub(in crate::runtimes) mounts: Vec<ExpectedMount>,
    /// Whether a snapshotter without an engine is located as whole trees.
    pub(in crate::runtimes) plain: bool,
}

/// Finds the layers.
///
/// # Errors
/// [`RuntimeError`] when one is missing or is not what it should be, or no engine understands them.
pub(in crate::runtimes) fn locate(wanted: &Wanted<'_>) -> Result<Located, RuntimeError> {
    let place = Place::of(wanted.store, &wanted.chain.snapshotter)?;
    let mut located = match wanted.chain.snapshotter.as_str() {
        "overlayfs" => overlay(wanted, &place),
        "btrfs" => btrfs(wanted, place),
        "native" if wanted.plain => native(wanted, &place),
        other => Err(RuntimeError::UnsupportedDriver {
            driver: excerpt(other.as_bytes()),
        }),
    }?;
    located.gaps.extend(wanted.image.gap.clone());
    Ok(located)
}

/// The directory of a snapshotter.
pub(super) struct Place {
    dir: Dir,
    path: PathBuf,
    /// The same seen so that no link that is read keeps a time of it.
    view: Option<Dir>,
}

impl Place {
    pub(super) fn of(store: &Store, snapshotter: &str) -> Result<Self, RuntimeError> {
        let (dir, path) = store.snapshotter(snapshotter)?;
        Ok(Self {
            dir,
            path,
            view: None,
        })
    }

    /// Returns it with one view for everything in it, where links are read in many directories.
    pub(super) fn viewed(self) -> Self {
        Self {
            // Without one, what needs it says so.
            view: self.dir.view().unwrap_or_default(),
            ..self
        }
    }

    fn open(&self, relative: &str) -> Result<Dir, RuntimeError> {
        let relative_bytes = relative.as_bytes();
        if let Some(view) = &self.view
            && let Ok(dir) = view.open_beneath(relative_bytes)
            // What is mounted over it is not in the view.
            && self.dir.leads_to(relative_bytes, &dir) == Ok(true)
        {
            return Ok(dir);
        }
        let opened = self.dir.open_beneath(relative_bytes);
        opened.map_err(|errno| self.broken(relative, &why(errno)))
    }

    pub(super) fn layer(
        &self,
        relative: &str,
        diff_id: Option<DiffId>,
    ) -> Result<Layer, RuntimeError> {
        Ok(Layer {
            dir: Arc::new(self.open(relative)?),
            path: self.path.join(relative),
            diff_id,
        })
    }

    fn broken(&self, relative: &str, why: &str) -> RuntimeError {
        use std::os::unix::ffi::OsStrExt as _;
        let path = self.path.join(relative);
        RuntimeError::Inconsistent(format!("{}: {why}", excerpt(path.as_os_str().as_bytes())))
    }
}

fn why(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "is missing".into(),
        Errno::LOOP | Errno::XDEV => {
            "a link stands in its path, which containerd never makes".into()
        }
        errno => std::io::Error::from(errno).to_string(),
    }
}

fn overlay(wanted: &Wanted<'_>, place: &Place) -> Result<Located, RuntimeError> {
    let (_, top) = top(wanted)?;
    let upper = format!("snapshots/{}/fs", top.id);
    let layer =
        |stored: &Stored, diff_id| place.layer(&format!("snapshots/{}/fs", stored.id), diff_id);
    let mut gaps = Vec::new();
    let mut marks = MarkNamespace::Trusted;
    if let Some(mounted) = mounted(wanted.pid, &mut gaps) {
        // With one layer and nothing to write to there is nothing to mount.
        if mounted.fs_type.as_bytes() == b"overlay" {
            let options = OverlayMount::decode(mounted.super_options.as_bytes());
            if options.userxattr {
                marks = MarkNamespace::User;
            }
            let on = options.upper.as_deref().unwrap_or_default();
            if top.kind == Kind::Active && !ends_with(on, &upper) {
                gaps.push(contradiction("the upper layer", on, &upper));
            }
        } else if top.kind == Kind::Active && wanted.chain.snapshots.len() > 1 {
            gaps.push(not_the_driver(&mounted, "overlay"));
        }
    }
    let work = format!("snapshots/{}/work", top.id);
    let index = index(place.dir.open_beneath(format!("{work}/index").as_bytes()))
        .map_err(|errno| place.broken(&work, &why(errno)))?;
    let injected = between(wanted).map(|(_, stored)| layer(stored, None));
    let diff_ids = diff_ids(wanted.image);
    let mut image = Vec::new();
    for (snapshot, stored) in wanted.chain.image() {
        let diff_id = chain_id(&snapshot.key).and_then(|chain_id| diff_ids.get(&chain_id));
        image.push(Arc::new(layer(stored, diff_id.copied())?));
    }
    let stack = OverlayStack {
        upper: layer(top, None)?,
        index,
        injected: injected.collect::<Result<_, _>>()?,
        injected_paths: wanted.injected_paths.clone(),
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

/// Returns the layers beneath the writable one, the topmost first.
fn beneath(stack: &OverlayStack) -> Vec<&Dir> {
    let image = stack.image.iter().map(Arc::as_ref);
    let layers = stack.injected.iter().chain(image);
    layers.map(|layer| &*layer.dir).collect()
}

/// Returns the paths that `made` become as the links of the layers beneath the writable one lead them.
pub(in crate::runtimes) fn led(stack: &LayerStack, made: &[RuntimePath]) -> Vec<RuntimePath> {
    match stack {
        LayerStack::Overlay(stack) => followed(made, &beneath(stack)),
        // The paths that containerd gives are those of committed snapshots, which nothing can watch.
        LayerStack::Btrfs(stack) => match Dir::open(&stack.image.path) {
            Ok(image) => followed(made, &[&image]),
            Err(_) => Vec::new(),
        },
        LayerStack::Plain(stack) => followed(made, &[&stack.image.dir]),
    }
}

/// Returns which layer of an image each snapshot of it is, by the chainIDs that they are called by.
///
/// An image that was built by running containers has what was put between these and their images among
/// its snapshots: those are no layers (moby `daemon/containerd/image_builder.go`).
fn diff_ids(image: &Image) -> HashMap<ChainId, DiffId> {
    let layers = image.found.as_ref().map(|found| found.layers.as_slice());
    let layers = layers.unwrap_or_default();
    let chain = chain_ids(layers).into_iter();
    chain.zip(layers.iter().copied()).collect()
}

fn btrfs(wanted: &Wanted<'_>, place: Place) -> Result<Located, RuntimeError> {
    let (_, top) = top(wanted)?;
    let between = wanted.chain.between();
    if between > 0 {
        // A committed snapshot is one of a subvolume that is gone: no parent leads on from it.
        return match wanted.plain {
            true => whole_trees(wanted, &place, "active"),
            false => Err(RuntimeError::Unavailable(format!(
                "{between} snapshots lie between it and its image, and the snapshotter btrfs does not keep what they were made from: use --engine digest"
            ))),
        };
    }
    let kind = kind_dir(top.kind);
    let anchor = place.open(kind)?;
    let committed = place.open("snapshots")?;
    let find = |dir: &Dir, of: &str, stored: &Stored| -> Result<Subvolume, RuntimeError> {
        let relative = format!("{of}/{}", stored.id);
        let path = place.path.join(&relative);
        let mut subvolumes =
            Subvolumes::of(dir).map_err(|error| place.broken(of, &error.to_string()))?;
        let found = subvolumes.named(stored.id.to_string().as_bytes(), path);
        found.map_err(|error| place.broken(&relative, &error.to_string()))
    };
    let container = find(&anchor, kind, top)?;
    let image = find(&committed, "snapshots", image_top(wanted)?)?;
    let mut gaps = Vec::new();
    if let Some(mounted) = mounted(wanted.pid, &mut gaps) {
        gaps.extend(not_the_subvolume(&mounted, container.id));
    }
    let mounts = match wanted.mounts.as_slice() {
        [] => Vec::new(),
        mounts => {
            let tree = format!("snapshots/{}", image_top(wanted)?.id);
            followed_mounts(mounts, &[&place.open(&tree)?])
        }
    };
    Ok(Located {
        stack: LayerStack::Btrfs(BtrfsStack {
            anchor: Arc::new(anchor),
            container,
            injected: None,
            injected_paths: Vec::new(),
            image,
        }),
        mounts,
        gaps,
    })
}

fn kind_dir(kind: Kind) -> &'static str {
    match kind {
        Kind::View => "view",
        Kind::Active => "active",
        Kind::Committed => "snapshots",
    }
}

/// Whole copies, each with something changed in it.
fn native(wanted: &Wanted<'_>, place: &Place) -> Result<Located, RuntimeError> {
    let (_, top) = top(wanted)?;
    let tree = format!("snapshots/{}", top.id);
    let mut located = whole_trees(wanted, place, "snapshots")?;
    if let Some(mounted) = mounted(wanted.pid, &mut located.gaps)
        && !ends_with(mounted.root.as_bytes(), &tree)
    {
        let gap = contradiction("the directory", mounted.root.as_bytes(), &tree);
        located.gaps.push(gap);
    }
    Ok(located)
}

/// Locates a container as two whole trees; `own` is the directory that its own tree is in.
fn whole_trees(wanted: &Wanted<'_>, place: &Place, own: &str) -> Result<Located, RuntimeError> {
    let (_, top) = top(wanted)?;
    // Which of the image's layers a file came from cannot be told from a copy of all of them.
    let tree = |stored: &Stored| place.layer(&format!("snapshots/{}", stored.id), None);
    let container = place.layer(&format!("{own}/{}", top.id), None)?;
    let image = image_top(wanted)?;
    let stack = match between(wanted).next() {
        None => PlainStack {
            image: tree(image)?,
            container,
            injected: None,
        },
        Some((_, injected)) => PlainStack {
            image: tree(injected)?,
            container,
            injected: Some(Box::new(InjectedTree {
                over_image: PlainStack {
                    image: tree(image)?,
                    container: tree(injected)?,
                    injected: None,
                },
                paths: wanted.injected_paths.clone(),
            })),
        },
    };
    let mounts = followed_mounts(&wanted.mounts, &[&*stack.image.dir]);
    Ok(Located {
        stack: LayerStack::Plain(stack),
        mounts,
        gaps: Vec::new(),
    })
}

/// The container's own snapshot.
fn top<'w>(wanted: &Wanted<'w>) -> Result<&'w (Snapshot, Stored), RuntimeError> {
    wanted.chain.snapshots.first().ok_or(RuntimeError::Gone)
}

/// The snapshots that lie between the container's own and those of its image, the topmost first.
fn between<'w>(wanted: &Wanted<'w>) -> impl Iterator<Item = &'w (Snapshot, Stored)> {
    let beneath = wanted.chain.snapshots.iter().skip(1);
    beneath.take(wanted.chain.between())
}

/// The snapshot of the image's topmost layer: for snapshotters that keep whole trees, the image.
fn image_top<'w>(wanted: &Wanted<'w>) -> Result<&'w Stored, RuntimeError> {
    let top = wanted.chain.image().next();
    top.map(|(_, stored)| stored).ok_or_else(|| {
        RuntimeError::Inconsistent("its snapshot lies on no image to compare with".into())
    })
}

/// Whether a path ends with these components.
fn ends_with(path: &[u8], components: &str) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(path)).ends_with(components)
}

fn contradiction(what: &str, on: &[u8], told: &str) -> Gap {
    Gap::new(
        "mountinfo",
        format!(
            "the container runs on {what} \"{}\", its record says {told}",
            excerpt(on)
        ),
    )
}
