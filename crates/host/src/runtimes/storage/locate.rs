//! Where a container's layers lie, for each storage driver of containers/storage.
//!
//! Layouts: `storage/drivers/overlay/overlay.go`, `btrfs/btrfs.go` and `vfs/driver.go`.

use std::sync::Arc;

use plimsoll_core::model::{ExpectedMount, Gap};
use rustix::io::Errno;

use super::chain::{Chain, Link};
use super::composefs::Composed;
use super::fuse;
use super::record::{self, ContainerRecord};
use super::store::{Store, clause};
use crate::fs::{Dir, Owners};
use crate::layers::btrfs::Subvolumes;
use crate::layers::{
    BtrfsStack, Held, Layer, LayerStack, MarkNamespace, OverlayStack, PlainStack, Subvolume, index,
};
use crate::proc::mountinfo::OverlayMount;
use crate::runtimes::links::followed_mounts;
use crate::runtimes::lower::{self, excerpt, last_two};
use crate::runtimes::mounted::{mounted, not_the_driver, not_the_subvolume};
use crate::runtimes::{Located, RuntimeError};

/// Which directories of one layer the overlay driver stacks at most: `diff`, and `diff1` and so on that
/// it leaves when it changes the owners of all files.
const DIFFS_MAX: usize = 32;

/// A container whose layers are to be found.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) store: &'a Store,
    pub(super) record: &'a ContainerRecord,
    pub(super) chain: &'a Chain,
    /// Its first process, while it has one on this machine.
    pub(super) pid: Option<u32>,
    /// What it mounts over its rootfs, while it runs.
    pub(super) mounts: Vec<ExpectedMount>,
}

/// Finds the layers. With `plain` those that no engine compares are located as two whole trees.
///
/// # Errors
/// [`RuntimeError::UnsupportedDriver`] for a driver that has no engine; else one where a layer is
/// missing or is not what it should be.
pub(super) fn locate(wanted: &Wanted<'_>, plain: bool) -> Result<Located, RuntimeError> {
    match (wanted.store.driver.as_str(), plain) {
        ("overlay", _) => overlay(wanted),
        ("btrfs", _) => btrfs(wanted),
        ("vfs", true) => vfs(wanted),
        (driver, _) => Err(RuntimeError::UnsupportedDriver {
            driver: driver.to_owned(),
        }),
    }
}

pub(super) fn inconsistent(why: impl Into<String>) -> RuntimeError {
    RuntimeError::Inconsistent(why.into())
}

fn overlay(wanted: &Wanted<'_>) -> Result<Located, RuntimeError> {
    let Wanted { store, chain, .. } = wanted;
    let mut gaps = Vec::new();
    let (marks, mounted_with) = marks(wanted, &mut gaps)?;
    let own = format!("overlay/{}", chain.own.name);
    let has = |path: String| store.graph.dir.has(path.as_bytes());
    if has(format!("{own}/diff1")) {
        return Err(RuntimeError::Unavailable(
            "the owners of all files were changed in the container's own layer when it was made: what it differs in from its image cannot be told from that"
                .into(),
        ));
    }
    // The program maps the container's own layer as it maps those of the image.
    let owners = match marks.is_fuse() {
        true => None,
        false => owners(wanted)?.map(Arc::new),
    };
    let mut image = Vec::new();
    let mut composed = Composed::default();
    for link in chain.stacked() {
        match composed.add(store, link, owners.as_ref())? {
            Some(layer) => image.push(Arc::new(layer)),
            None => lowers(store, link, owners.as_ref(), &mut image)?,
        }
    }
    let upper = layer(store, &chain.own, "diff", None)?;
    let lower = format!("{own}/lower");
    match store
        .graph
        .dir
        .read_file(lower.as_bytes(), crate::fs::RECORD_LIMIT)
    {
        Ok(recorded) => {
            let recorded: Vec<&[u8]> = recorded.split(|b| *b == b':').collect();
            if let Err(why) = agree(wanted, &recorded) {
                gaps.push(Gap::new(lower.as_str(), why));
            }
        }
        // An image without any layer.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && chain.image.is_empty() => {}
        Err(e) => gaps.push(Gap::new(lower.as_str(), clause(&e))),
    }
    if let Some(options) = &mounted_with {
        running(wanted, options, &composed, &mut gaps);
    }
    if marks.is_fuse() {
        fuse::require_plain(&upper)?;
        image
            .iter()
            .try_for_each(|layer| fuse::require_plain(layer))?;
    }
    let held = match wanted.pid {
        Some(pid) if marks.is_fuse() => fuse::held(&upper.dir, pid, wanted.record, &mut gaps),
        _ => Held::default(),
    };
    let work = format!("{own}/work");
    let index_path = format!("{work}/index");
    let index = match marks.is_fuse() {
        true => Ok(None),
        false => index(store.graph.dir.open_beneath(index_path.as_bytes())),
    };
    let index = index
        .map_err(|errno| inconsistent(format!("{index_path}: {}", std::io::Error::from(errno))))?;
    if index.is_none() && !has(work.clone()) {
        return Err(inconsistent(format!("{work} is missing")));
    }
    let beneath: Vec<&Dir> = image.iter().map(|layer: &Arc<Layer>| &*layer.dir).collect();
    let mounts = followed_mounts(&wanted.mounts, &beneath);
    Ok(Located {
        stack: LayerStack::Overlay(OverlayStack {
            upper,
            index,
            injected: Vec::new(),
            injected_paths: Vec::new(),
            image,
            data_only: composed.into_data(),
            marks,
            held,
        }),
        mounts,
        gaps,
    })
}

/// Returns which marks a container has: those of what it runs on, else of what would mount it; and what the
/// kernel says of the overlay that it runs on.
fn marks(
    wanted: &Wanted<'_>,
    gaps: &mut Vec<Gap>,
) -> Result<(MarkNamespace, Option<OverlayMount>), RuntimeError> {
    let resting = resting_marks(wanted.store)?;
    let Some(mounted) = mounted(wanted.pid, gaps) else {
        return Ok((resting, None));
    };
    if mounted.is_fuse_overlay() {
        let own = wanted.chain.own.name.as_str();
        gaps.extend(fuse::running(wanted.store, own, wanted.pid, &mounted));
        return Ok((fuse_marks(wanted.store)?, None));
    }
    if mounted.fs_type.as_bytes() != b"overlay" {
        gaps.push(not_the_driver(&mounted, "overlay"));
        return Ok((resting, None));
    }
    let options = OverlayMount::decode(mounted.super_options.as_bytes());
    let marks = match options.userxattr {
        true => MarkNamespace::User,
        false => MarkNamespace::Trusted,
    };
    Ok((marks, Some(options)))
}

/// Returns which marks a container has that is not mounted, and the layers of images. A user mounts with
/// `userxattr` (overlay.go, `get`), and the driver's directory belongs to the one who mounts.
pub(super) fn resting_marks(store: &Store) -> Result<MarkNamespace, RuntimeError> {
    if fuse::mounts(store)? {
        return fuse_marks(store);
    }
    Ok(match is_of_root(store)? {
        true => MarkNamespace::Trusted,
        false => MarkNamespace::User,
    })
}

fn fuse_marks(store: &Store) -> Result<MarkNamespace, RuntimeError> {
    let trusted = is_of_root(store)?;
    Ok(MarkNamespace::Fuse { trusted })
}

/// Whether the directory of the driver is root's.
fn is_of_root(store: &Store) -> Result<bool, RuntimeError> {
    let driver = store.graph.dir.stat(b"overlay").map_err(|errno| {
        let why = clause(&std::io::Error::from(errno));
        inconsistent(format!("overlay: {why}"))
    })?;
    Ok(driver.uid == 0)
}

/// Returns the map through which the kernel shows the layers of the image to a container with a user
/// namespace (overlay.go, `get`): where neither the container's layer nor the image's were changed to
/// its owners, they are mounted mapped.
fn owners(wanted: &Wanted<'_>) -> Result<Option<Owners>, RuntimeError> {
    let Wanted { record, chain, .. } = wanted;
    let Some((users, groups)) = record.id_maps() else {
        return Ok(None);
    };
    // Newer versions note the map of the container's own layer in both cases; where it was changed itself
    // it has `diff1`.
    let is_copied = chain.image.first().is_some_and(|top| top.is_mapped);
    if is_copied || users.is_empty() || groups.is_empty() {
        return Ok(None);
    }
    if wanted.store.graph.user.is_some() {
        return Err(RuntimeError::Unavailable(
            "the layers of its image are mapped inside a user's own namespace: their owners cannot be told from here"
                .into(),
        ));
    }
    Ok(Some(record::owners(users, groups)))
}

/// Adds the directories of a layer of the image, the top one first.
pub(super) fn lowers(
    store: &Store,
    link: &Link,
    owners: Option<&Arc<Owners>>,
    image: &mut Vec<Arc<Layer>>,
) -> Result<(), RuntimeError> {
    let has = |name: &str| {
        let path = format!("overlay/{}/{name}", link.name);
        let home = store.home(link.home);
        home.is_some_and(|(dir, _)| dir.has(path.as_bytes()))
    };
    image.push(Arc::new(layer(store, link, "diff", owners)?));
    for n in 1..=DIFFS_MAX {
        let name = format!("diff{n}");
        if !has(&name) {
            return Ok(());
        }
        image.push(Arc::new(layer(store, link, &name, owners)?));
    }
    Err(inconsistent(format!(
        "layer {} has more than {DIFFS_MAX} directories",
        link.name
    )))
}

/// Opens a directory of a layer.
pub(super) fn layer(
    store: &Store,
    link: &Link,
    name: &str,
    owners: Option<&Arc<Owners>>,
) -> Result<Layer, RuntimeError> {
    let (relative, opened) = match store.driver.as_str() {
        "overlay" => {
            let relative = format!("{}/{name}", link.name);
            let opened = store.overlay_dir(link.home, &relative);
            (format!("overlay/{relative}"), opened)
        }
        _ => {
            let relative = format!("vfs/dir/{}", link.name);
            let place = store.home(link.home).map(|(dir, _)| dir);
            let opened = place.ok_or(Errno::NOENT);
            let opened = opened.and_then(|place| place.open_beneath(relative.as_bytes()));
            (relative, opened)
        }
    };
    let dir = opened.map_err(|errno| {
        let why = clause(&std::io::Error::from(errno));
        inconsistent(format!("{relative}: {why}"))
    })?;
    let place = store.home(link.home).map(|(_, path)| path.join(&relative));
    Ok(Layer {
        dir: Arc::new(match owners {
            Some(owners) => dir.with_owners(Arc::clone(owners)),
            None => dir,
        }),
        path: place.unwrap_or_else(|| store.show(&relative)),
        diff_id: link.diff_id,
    })
}

/// Where the btrfs driver keeps all layers.
pub(super) const SUBVOLUMES: &str = "btrfs/subvolumes";

pub(super) fn subvolumes(store: &Store) -> Result<Dir, RuntimeError> {
    let opened = store.graph.dir.open_beneath(SUBVOLUMES.as_bytes());
    opened.map_err(|errno| {
        let why = clause(&std::io::Error::from(errno));
        inconsistent(format!("{SUBVOLUMES}: {why}"))
    })
}

pub(super) fn subvolume(
    store: &Store,
    subvolumes: &mut Subvolumes<'_>,
    link: &Link,
) -> Result<Subvolume, RuntimeError> {
    let path = format!("{SUBVOLUMES}/{}", link.name);
    subvolumes
        .named(link.name.as_str().as_bytes(), store.show(&path))
        .map_err(|error| inconsistent(format!("{path}: {error}")))
}

/// Whether lower directories are those of the chain. Short links are read where the layer is.
fn agree(wanted: &Wanted<'_>, lowers: &[&[u8]]) -> Result<(), String> {
    let Wanted { store, chain, .. } = wanted;
    let links: Vec<Dir> = (0..=store.graph.image_stores.len())
        .filter_map(|home| store.overlay_dir(home, "l").ok())
        .collect();
    let expected: Vec<&str> = chain.stacked().map(|link| link.name.as_str()).collect();
    // Directories left by a change of owners stand by themselves, after that of their layer.
    let is_diff = |lower: &&[u8]| {
        last_two(lower).is_none_or(|(_, last)| last == b"diff" || !last.starts_with(b"diff"))
    };
    let lowers: Vec<&[u8]> = lowers.iter().copied().filter(is_diff).collect();
    lower::agree(&lowers, &expected, "the record of its layer", |link| {
        let mut answers = links.iter().map(|dir| dir.read_link(link));
        let first = answers.next().unwrap_or(Err(rustix::io::Errno::NOENT));
        first.or_else(|errno| answers.find_map(Result::ok).ok_or(errno))
    })
}

/// Holds what a container runs on against the records.
fn running(wanted: &Wanted<'_>, options: &OverlayMount, composed: &Composed, gaps: &mut Vec<Gap>) {
    let own = wanted.chain.own.name.as_str();
    let upper = options.upper.as_deref().and_then(last_two);
    if upper != Some((own.as_bytes(), b"diff")) {
        gaps.push(Gap::new(
            "mountinfo",
            format!(
                "the container runs on the upper layer \"{}\", its record says {own}",
                excerpt(options.upper.as_deref().unwrap_or_default())
            ),
        ));
    }
    // What holds data alone is a layer like any other to a kernel that knows no such ones (before 6.5).
    let lowers = options.lower.iter().chain(&options.data_only);
    let lowers: Vec<&[u8]> = lowers.map(Vec::as_slice).collect();
    let lowers = match composed.lowers(wanted.chain, &lowers) {
        Ok(lowers) => lowers,
        Err(why) => return gaps.push(Gap::new("mountinfo", why)),
    };
    let lowers: Vec<&[u8]> = lowers.iter().map(AsRef::as_ref).collect();
    // An image without any layer is an empty directory.
    let is_empty = |lower: &&[u8]| last_two(lower) == Some((own.as_bytes(), &b"empty"[..]));
    if wanted.chain.image.is_empty() && lowers.iter().all(is_empty) {
        return;
    }
    if let Err(why) = agree(wanted, &lowers) {
        gaps.push(Gap::new("mountinfo", why));
    }
}

fn btrfs(wanted: &Wanted<'_>) -> Result<Located, RuntimeError> {
    let Wanted { store, chain, .. } = wanted;
    let top = top(chain)?;
    if top.home != 0 {
        return Err(RuntimeError::Unavailable(
            "its image lies in another store, of which no snapshot can be taken".into(),
        ));
    }
    let anchor = subvolumes(store)?;
    let mut subvolumes =
        Subvolumes::of(&anchor).map_err(|error| inconsistent(format!("{SUBVOLUMES}: {error}")))?;
    let mut find = |link: &Link| subvolume(store, &mut subvolumes, link);
    let container = find(&chain.own)?;
    let image = find(top)?;
    let mut gaps = Vec::new();
    if let Some(mounted) = mounted(wanted.pid, &mut gaps) {
        gaps.extend(not_the_subvolume(&mounted, container.id));
    }
    let mounts = match wanted.mounts.as_slice() {
        [] => Vec::new(),
        mounts => {
            let tree = format!("btrfs/subvolumes/{}", top.name);
            let tree = store.graph.dir.open_beneath(tree.as_bytes());
            let tree = tree.map_err(|errno| {
                inconsistent(format!(
                    "the subvolume of the image: {}",
                    std::io::Error::from(errno)
                ))
            })?;
            followed_mounts(mounts, &[&tree])
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

/// Whole trees, each layer a copy of the one beneath with something changed in it.
fn vfs(wanted: &Wanted<'_>) -> Result<Located, RuntimeError> {
    let Wanted { store, chain, .. } = wanted;
    // Which of the image's layers a file came from cannot be told from a copy of all of them.
    let tree = |link: &Link| {
        let layer = layer(store, link, "", None)?;
        Ok::<_, RuntimeError>(Layer {
            diff_id: None,
            ..layer
        })
    };
    let image = tree(top(chain)?)?;
    let container = tree(&chain.own)?;
    let mut gaps = Vec::new();
    if let Some(mounted) = mounted(wanted.pid, &mut gaps) {
        let own = chain.own.name.as_str();
        let root = last_two(mounted.root.as_bytes());
        if root != Some((b"dir", own.as_bytes())) {
            gaps.push(Gap::new(
                "mountinfo",
                format!(
                    "the container runs on \"{}\", its record says {own}",
                    excerpt(mounted.root.as_bytes())
                ),
            ));
        }
    }
    let mounts = followed_mounts(&wanted.mounts, &[&image.dir]);
    Ok(Located {
        stack: LayerStack::Plain(PlainStack {
            image,
            container,
            injected: None,
        }),
        mounts,
        gaps,
    })
}

/// Returns the top layer of an image: for drivers whose layers are whole trees, the image.
fn top(chain: &Chain) -> Result<&Link, RuntimeError> {
    chain
        .image
        .first()
        .ok_or_else(|| inconsistent("its image has no layer to compare with"))
}
