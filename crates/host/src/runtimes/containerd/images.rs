//! The images of a root, and where their layers lie: blobs of the content store are what unpacked snapshots
//! are held against.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use plimsoll_core::model::{
    Algorithm, Bytes, ChainId, DiffId, Digest, Gap, Image, RuntimeKind, RuntimePath,
};
use plimsoll_core::trust::chain_ids;
use rustix::io::Errno;

use super::content::{self, Manifest, Missing};
use super::excerpt;
use super::locate::Place;
use super::metadata::Named;
use super::snapshots::Stored;
use super::store::Store;
use crate::fs::Dir;
use crate::layers::stored::{
    Beneath, Between, Blob, Form, LayerRoot, Reference, StoredImage, StoredLayer,
};
use crate::layers::{Held, Layer, LayerStack, MarkNamespace, OverlayStack, PlainStack};
use crate::runtimes::RuntimeError;
use crate::runtimes::image_manifest::Descriptor;

/// What Docker calls an image that has lost its name by (moby `daemon/containerd/image_list.go`).
const DANGLING: &[u8] = b"moby-dangling@";

/// The mode of the directory that every snapshotter makes for a snapshot (containerd
/// `plugins/snapshots/overlay/overlay.go`, `prepareDirectory`; `native/native.go`, `createSnapshot`; that of
/// a subvolume is the kernel's).
const ROOT_MODE: u16 = 0o755;

/// What the key of a snapshot that Docker puts beneath a container's own ends with (moby
/// `daemon/containerd/image_snapshot.go`). A layer that was made in that container lies on it too.
const INIT: &[u8] = b"-init";

/// Whose images those of a namespace are.
#[derive(Debug, Clone)]
pub(in crate::runtimes) struct Owner {
    pub(in crate::runtimes) kind: RuntimeKind,
    /// What may be in the snapshots that it leaves between those of an image's layers.
    pub(in crate::runtimes) between: Vec<RuntimePath>,
}

/// Returns the images of those namespaces of which `owner` says whose they are.
///
/// # Errors
/// Those of reading containerd's database.
pub(in crate::runtimes) fn images(
    store: &Store,
    owner: impl Fn(&str) -> Option<Owner>,
    gaps: &mut Vec<Gap>,
) -> Result<Vec<StoredImage>, RuntimeError> {
    let (named, strays) = store.ask(|metadata| metadata.images())?;
    gaps.extend(strays.into_iter().map(|name| {
        let why = "is recorded as an image and names none";
        Gap::new(name, why)
    }));
    let wanted: Vec<(Named, Owner)> = named
        .into_iter()
        .filter_map(|named| owner(&named.namespace).map(|owner| (named, owner)))
        .collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = All {
        store,
        blobs: store.blobs().map(Arc::new),
        here: HashMap::new(),
        known: HashMap::new(),
        places: HashMap::new(),
    };
    let targets = all.targets(wanted);
    Ok(targets
        .into_iter()
        .flat_map(|target| all.target(target))
        .collect())
}

/// What the names of a namespace that stand for one digest stand for.
struct Target {
    namespace: String,
    owner: Owner,
    names: Vec<Bytes>,
    digest: Digest,
    manifests: Vec<Manifest>,
    missing: Missing,
}

/// What is found out for all images together.
struct All<'s> {
    store: &'s Store,
    /// The directory of the blobs.
    blobs: Result<Arc<Dir>, Errno>,
    /// Blobs that are here, by the layers that they hold.
    here: HashMap<DiffId, Descriptor>,
    /// Layers that were found already, by snapshotter and number.
    known: HashMap<(String, u64), Arc<StoredLayer>>,
    /// The directories of snapshotters.
    places: HashMap<String, Result<Place, RuntimeError>>,
}

impl All<'_> {
    /// Puts names together that stand for the same, and reads what it is.
    fn targets(&mut self, wanted: Vec<(Named, Owner)>) -> Vec<Target> {
        type Key = (String, String);
        let mut all: BTreeMap<Key, Target> = BTreeMap::new();
        for (
            Named {
                namespace,
                name,
                target,
            },
            owner,
        ) in wanted
        {
            let key = (namespace.clone(), target.to_string());
            let entry = all.entry(key).or_insert_with(|| Target {
                namespace,
                owner: owner.clone(),
                names: Vec::new(),
                digest: target,
                manifests: Vec::new(),
                missing: Missing::default(),
            });
            entry.names.extend(shown(owner.kind, &name));
        }
        let mut targets: Vec<Target> = all.into_values().collect();
        for target in &mut targets {
            target.names.sort();
            target.manifests = content::manifests(self.store, target.digest, &mut target.missing);
            for manifest in &target.manifests {
                for (blob, diff_id) in manifest.blobs.iter().zip(&manifest.layers) {
                    if is_here(&self.blobs, blob) {
                        self.here.entry(*diff_id).or_insert_with(|| blob.clone());
                    }
                }
            }
        }
        targets
    }

    /// Returns the images that names stand for: of each manifest and each snapshotter that has its layers.
    fn target(&mut self, target: Target) -> Vec<StoredImage> {
        let mut found = Vec::new();
        // That of other platforms most is not there says nothing of this one.
        let told = target.missing.why.iter();
        let told = told.filter(|why| !why.ends_with(content::ABSENT));
        let altered: Vec<Gap> = told.map(|why| Gap::new("image", why.clone())).collect();
        let new = |manifest: Option<&Manifest>| StoredImage {
            runtime: target.owner.kind,
            names: target.names.clone(),
            image: Image {
                id: manifest.map(|manifest| manifest.id),
                manifest: manifest.map(|manifest| manifest.digest),
                layers: manifest.map_or_else(Vec::new, |manifest| manifest.layers.clone()),
                ..Image::default()
            },
            manifests: manifest.map_or_else(Vec::new, |manifest| {
                let mut led = vec![manifest.digest, target.digest];
                led.dedup();
                led
            }),
            layers: Vec::new(),
            gaps: altered.clone(),
        };
        let mut packed = None;
        for manifest in &target.manifests {
            if manifest.layers.len() != manifest.blobs.len() {
                let mut image = new(Some(manifest));
                let why = format!(
                    "its manifest has {} layers, its configuration {}",
                    manifest.blobs.len(),
                    manifest.layers.len()
                );
                image.gaps.push(Gap::new("image", why));
                found.push(image);
                continue;
            }
            let chain = chain_ids(&manifest.layers);
            let Some(top) = chain.last() else {
                found.push(new(Some(manifest)));
                continue;
            };
            let key = top.to_string();
            let snapshotters = self
                .store
                .ask(|metadata| metadata.snapshotters_with(&target.namespace, key.as_bytes()));
            let snapshotters = match snapshotters {
                Ok(snapshotters) => snapshotters,
                Err(error) => {
                    let mut image = new(Some(manifest));
                    image.gaps.push(Gap::new("image", error.to_string()));
                    found.push(image);
                    continue;
                }
            };
            if snapshotters.is_empty() {
                packed = packed.or(Some(manifest));
            }
            for snapshotter in snapshotters {
                let mut image = new(Some(manifest));
                let layers = self.layers(&target, &snapshotter, manifest, &chain, &mut image);
                if let Err(error) = layers {
                    let what = format!("snapshotter {}", excerpt(snapshotter.as_bytes()));
                    image.gaps.push(Gap::new(what.as_str(), error.of_image()));
                }
                found.push(image);
            }
        }
        // Of several platforms one is unpacked, and of the others there is nothing to verify.
        if found.is_empty() {
            let mut image = new(packed);
            let why = match (packed, target.missing.why.first()) {
                (Some(_), _) => {
                    "it is not unpacked: no snapshotter has files of it that could be verified"
                        .into()
                }
                (None, Some(why)) => format!("its layers are not known, {why}"),
                (None, None) => "its index names no manifest".into(),
            };
            if image.gaps.is_empty() || packed.is_some() {
                image.gaps.push(Gap::new("image", why));
            }
            found.push(image);
        }
        found
    }

    /// Finds the layers of an image that a snapshotter has, the base first.
    fn layers(
        &mut self,
        target: &Target,
        snapshotter: &str,
        manifest: &Manifest,
        chain: &[ChainId],
        image: &mut StoredImage,
    ) -> Result<(), RuntimeError> {
        if let Ok(stat) = self.store.dir.stat_self()
            && stat.uid != 0
        {
            return Err(RuntimeError::Unavailable(format!(
                "the store is that of user {}, whose layers have the owners of a user namespace and cannot be verified yet",
                stat.uid
            )));
        }
        let top = chain.last().map(ToString::to_string).unwrap_or_default();
        let mut snapshots = self
            .store
            .chain_of(&target.namespace, snapshotter, top.as_bytes(), true)?
            .snapshots;
        snapshots.reverse();
        let place = self
            .places
            .entry(snapshotter.to_owned())
            .or_insert_with(|| Place::of(self.store, snapshotter).map(Place::viewed));
        let place = place.as_ref().map_err(RuntimeError::clone)?;
        // Everything beneath, the next one first.
        let mut below: Vec<Arc<Layer>> = Vec::new();
        let mut between = Vec::new();
        let mut wanted = chain
            .iter()
            .zip(manifest.layers.iter().zip(&manifest.blobs));
        let mut next = wanted.next();
        for (snapshot, stored) in &snapshots {
            let (chain_id, (diff_id, blob)) = next.ok_or_else(strange)?;
            if snapshot.key != chain_id.to_string().into_bytes() {
                let paths = &target.owner.between;
                if paths.is_empty() || !snapshot.key.ends_with(INIT) {
                    return Err(strange());
                }
                let files = Arc::new(files(place, snapshotter, stored, None)?);
                let stack = over(snapshotter, &files, &below)?;
                below.insert(0, Arc::clone(&files));
                let paths = paths.clone();
                between.insert(
                    0,
                    Between {
                        files,
                        stack,
                        paths,
                    },
                );
                continue;
            }
            let key = (snapshotter.to_owned(), stored.id);
            let layer = match self.known.get(&key) {
                Some(layer) => Arc::clone(layer),
                None => {
                    let files = Arc::new(files(place, snapshotter, stored, Some(*diff_id))?);
                    let form = match snapshotter {
                        "overlayfs" => Form::Own(MarkNamespace::Trusted),
                        _ => Form::Whole(below.first().map(|beneath| {
                            // Of Btrfs too only the trees themselves tell what they have in common: a
                            // layer is a snapshot of a subvolume that is gone.
                            Beneath::Tree(trees(beneath, &files))
                        })),
                    };
                    // Another image may have the same layer in another form.
                    let own = is_here(&self.blobs, blob).then_some(blob);
                    let blob = own.or(self.here.get(diff_id)).unwrap_or(blob);
                    Arc::new(StoredLayer {
                        diff_id: *diff_id,
                        files,
                        form,
                        root: LayerRoot::Snapshotter { mode: ROOT_MODE },
                        reference: reference(&self.blobs, blob),
                        between: std::mem::take(&mut between),
                        copies: Vec::new(),
                        lacks_devices: false,
                        size: stored.size.max(blob.size),
                    })
                }
            };
            between.clear();
            self.known.insert(key, Arc::clone(&layer));
            below.insert(0, Arc::clone(&layer.files));
            image.layers.push(layer);
            next = wanted.next();
        }
        match next {
            Some(_) => Err(strange()),
            None => Ok(()),
        }
    }
}

fn strange() -> RuntimeError {
    RuntimeError::Inconsistent(
        "the snapshots that the one of its topmost layer lies on are not those of its other layers"
            .into(),
    )
}

/// Finds the files of a snapshot.
fn files(
    place: &Place,
    snapshotter: &str,
    stored: &Stored,
    diff_id: Option<DiffId>,
) -> Result<Layer, RuntimeError> {
    match snapshotter {
        "overlayfs" => place.layer(&format!("snapshots/{}/fs", stored.id), diff_id),
        "btrfs" | "native" => place.layer(&format!("snapshots/{}", stored.id), diff_id),
        other => Err(RuntimeError::UnsupportedDriver {
            driver: excerpt(other.as_bytes()),
        }),
    }
}

/// Returns files over what lies beneath them, the next one first.
fn over(
    snapshotter: &str,
    files: &Layer,
    below: &[Arc<Layer>],
) -> Result<LayerStack, RuntimeError> {
    Ok(match (snapshotter, below.first()) {
        ("overlayfs", _) => LayerStack::Overlay(OverlayStack {
            upper: files.clone(),
            index: None,
            injected: Vec::new(),
            injected_paths: Vec::new(),
            image: below.to_vec(),
            data_only: Vec::new(),
            marks: MarkNamespace::Trusted,
            held: Held::default(),
        }),
        (_, Some(beneath)) => LayerStack::Plain(trees(beneath, files)),
        (_, None) => return Err(strange()),
    })
}

/// Returns a tree and the one beneath it.
fn trees(beneath: &Layer, own: &Layer) -> PlainStack {
    PlainStack {
        image: beneath.clone(),
        container: own.clone(),
        injected: None,
    }
}

/// Returns what a layer is held against.
fn reference(blobs: &Result<Arc<Dir>, Errno>, blob: &Descriptor) -> Reference {
    let digest = blob.digest;
    let blobs = match blobs {
        Ok(blobs) => blobs,
        Err(errno) => {
            let why = std::io::Error::from(*errno);
            return Reference::Nothing(format!("the content store cannot be read: {why}"));
        }
    };
    if digest.algorithm() != Algorithm::Sha256 {
        return Reference::Nothing(format!("its blob is called {digest}, which is no SHA-256"));
    }
    if !is_tar(blob) {
        return Reference::Nothing(format!(
            "its blob {digest} is in a form that is not read: {}",
            excerpt(blob.media_type.as_bytes())
        ));
    }
    if !blobs.has(digest.hex().as_bytes()) {
        return Reference::Nothing(format!(
            "its blob {digest} is not in the content store, so that nothing tells what its files must be: containerd may give up the blobs of what it has unpacked (discard_unpacked_layers), pull the image again to have it"
        ));
    }
    Reference::Blob(Blob {
        dir: Arc::clone(blobs),
        digest,
    })
}

/// Whether a blob is here, in a form that is read.
fn is_here(blobs: &Result<Arc<Dir>, Errno>, blob: &Descriptor) -> bool {
    let has = |dir: &Arc<Dir>| dir.has(blob.digest.hex().as_bytes());
    blob.digest.algorithm() == Algorithm::Sha256 && is_tar(blob) && blobs.as_ref().is_ok_and(has)
}

/// Whether a blob is a tar stream, by its media type: OCI's and Docker's end so, or with how it is
/// compressed.
fn is_tar(blob: &Descriptor) -> bool {
    let kind = blob.media_type.as_str();
    kind.is_empty() || kind.contains("tar") && !kind.contains("encrypted")
}

/// Returns a name of an image as its runtime shows it; none for what only repeats a digest.
fn shown(kind: RuntimeKind, name: &[u8]) -> Option<Bytes> {
    if std::str::from_utf8(name).is_ok_and(|name| name.parse::<Digest>().is_ok()) {
        return None;
    }
    if kind != RuntimeKind::Docker {
        return Some(name.into());
    }
    if name.starts_with(DANGLING) {
        return None;
    }
    // As Docker shortens them (distribution/reference `FamiliarString`).
    let rest = name.strip_prefix(b"docker.io/").unwrap_or(name);
    let own = rest
        .strip_prefix(b"library/")
        .filter(|_| rest.len() < name.len());
    Some(own.unwrap_or(rest).into())
}
