//! The images of a store, and where their layers lie.
//!
//! The records of tar-split lie beside those of the layers: `storage/layers.go`, `tspath`.

use std::collections::HashMap;
use std::sync::Arc;

use plimsoll_core::model::{DiffId, Gap, Image, RuntimeKind};

use super::chain::{self, Link};
use super::copies;
use super::fuse;
use super::locate::{self, SUBVOLUMES};
use super::manifests::Manifests;
use super::record::ImageRecord;
use super::store::{Home, Store, clause, shown};
use crate::fs::Owners;
use crate::layers::btrfs::Subvolumes;
use crate::layers::stored::{
    Beneath, Form, LayerRoot, Reference, StoredImage, StoredLayer, TarSplit,
};
use crate::layers::{BtrfsStack, Layer, PlainStack};
use crate::runtimes::RuntimeError;

/// Layers that were found already, by their ids.
type Known = HashMap<String, Arc<StoredLayer>>;

/// Copies of layers with other owners, by the layers.
type Copies<'r> = HashMap<&'r str, Vec<&'r str>>;

/// Returns the images of a store.
pub(super) fn images(store: &Store, gaps: &mut Vec<Gap>) -> Vec<StoredImage> {
    let images = match store.images() {
        Ok(images) => images,
        Err(why) => {
            gaps.push(Gap::new("images", why));
            return Vec::new();
        }
    };
    let mut known = Known::new();
    let mut copies = Copies::new();
    for (image, _) in images.values() {
        let of = copies.entry(image.layer.as_str()).or_default();
        of.extend(image.copies().iter().map(String::as_str));
    }
    let mut ids: Vec<&String> = images.keys().collect();
    ids.sort();
    ids.into_iter()
        .filter_map(|id| images.get(id))
        .map(|(record, home)| image(store, record, *home, &copies, &mut known))
        .collect()
}

fn image(
    store: &Store,
    record: &ImageRecord,
    home: Home,
    copies: &Copies<'_>,
    known: &mut Known,
) -> StoredImage {
    let mut image = StoredImage {
        runtime: RuntimeKind::Podman,
        names: record
            .names()
            .iter()
            .map(|name| name.as_str().into())
            .collect(),
        image: Image {
            id: format!("sha256:{}", record.id).parse().ok(),
            ..Image::default()
        },
        manifests: Vec::new(),
        layers: Vec::new(),
        gaps: Vec::new(),
    };
    image.names.sort();
    let mut manifests = Manifests::of(store, record, home);
    image.image.manifest = manifests.own;
    image.manifests = std::mem::take(&mut manifests.proved);
    let found = store.image_layers(record, home).and_then(|ids| {
        image.image.layers = ids.to_vec();
        let links = links(store, record, &ids)?;
        manifests.against(&ids);
        layers(store, &links, &ids, copies, known, &mut image)
    });
    if let Err(why) = found {
        image.gaps.push(Gap::new(shown(&record.id).as_str(), why));
    }
    image.gaps.extend(manifests.gaps);
    image
}

/// Returns the layers that an image lies on by the records, the base first.
///
/// # Errors
/// One clause, where they are not those of its configuration.
fn links(store: &Store, record: &ImageRecord, ids: &[DiffId]) -> Result<Vec<Link>, String> {
    let layers = store.layers()?;
    let mut links = chain::links(&layers, &record.layer)?;
    links.reverse();
    if links.len() != ids.len() {
        return Err(format!(
            "it lies on {} layers, its configuration has {}",
            links.len(),
            ids.len()
        ));
    }
    for (link, diff_id) in links.iter().zip(ids) {
        if link.diff_id.is_some_and(|of| of != *diff_id) {
            return Err(format!("layer {} is not its {diff_id}", link.name));
        }
    }
    Ok(links)
}

/// Finds the layers of an image, the base first.
///
/// # Errors
/// One clause that says why one cannot be verified; those beneath it are found.
fn layers(
    store: &Store,
    links: &[Link],
    ids: &[DiffId],
    copies: &Copies<'_>,
    known: &mut Known,
    image: &mut StoredImage,
) -> Result<(), String> {
    let owners = store.graph.owners.clone().transpose()?;
    let mut beneath: Option<&Link> = None;
    // The next one first.
    let mut below: Vec<Arc<Layer>> = Vec::new();
    for (link, diff_id) in links.iter().zip(ids) {
        let name = link.name.as_str();
        let layer = match known.get(name) {
            Some(layer) => Arc::clone(layer),
            None => {
                let (files, form) = image_layer(store, link, *diff_id, beneath, owners.as_ref())
                    .map_err(|error| error.of_image())?;
                let (records, size) = records(store, link)?;
                let files = Arc::new(files);
                let mut copied = Vec::new();
                below.insert(0, Arc::clone(&files));
                for copy in copies.get(name).into_iter().flatten() {
                    match copies::stacks(store, copy, &below) {
                        Ok(stacks) => copied.extend(stacks),
                        Err(why) => image.gaps.push(Gap::new(shown(copy).as_str(), why)),
                    }
                }
                below.remove(0);
                Arc::new(StoredLayer {
                    diff_id: *diff_id,
                    files,
                    form,
                    // `storage/drivers/overlay/overlay.go`, `defaultPerms`.
                    root: LayerRoot::Stream {
                        or_mode: (store.driver == "overlay").then_some(0o555),
                    },
                    reference: Reference::TarSplit(records),
                    between: Vec::new(),
                    copies: copied,
                    // `storage/pkg/archive/archive.go`, `createTarFile`.
                    lacks_devices: owners.is_some(),
                    size,
                })
            }
        };
        known.insert(name.to_owned(), Arc::clone(&layer));
        below.insert(0, Arc::clone(&layer.files));
        image.layers.push(layer);
        beneath = Some(link);
    }
    Ok(())
}

/// Returns the records of a layer's stream, and about how many bytes it has.
fn records(store: &Store, link: &Link) -> Result<(TarSplit, u64), String> {
    let (place, path) = store.home(link.home).ok_or("its store is gone")?;
    let dir = format!("{}-layers", store.driver);
    let name = format!("{}.tar-split.gz", link.name);
    let opened = place.open_beneath(dir.as_bytes());
    let opened = opened.map_err(|errno| format!("{dir}: {}", clause(&errno.into())))?;
    Ok((
        TarSplit {
            dir: opened,
            path: path.join(&dir).join(&name),
            name,
        },
        link.size,
    ))
}

/// Finds a layer of an image, which lies over the one `beneath`, and tells in which form it is.
///
/// # Errors
/// Where it is missing, or is none that can be verified.
fn image_layer(
    store: &Store,
    link: &Link,
    diff_id: DiffId,
    beneath: Option<&Link>,
    owners: Option<&Arc<Owners>>,
) -> Result<(Layer, Form), RuntimeError> {
    let has = |name: &str| {
        let path = format!("{}/{}/{name}", store.driver, link.name);
        let home = store.home(link.home);
        home.is_some_and(|(dir, _)| dir.has(path.as_bytes()))
    };
    if link.is_mapped || has("diff1") || has("composefs-data") {
        return Err(RuntimeError::Unavailable(format!(
            "layer {} was written with other owners, or is kept as composefs, which cannot be verified yet",
            link.name
        )));
    }
    if owners.is_some() && link.home != 0 {
        return Err(RuntimeError::Unavailable(format!(
            "layer {} lies in a store that is not the user's own, whose owners cannot be told",
            link.name
        )));
    }
    let named = |link: &Link| Link {
        diff_id: Some(diff_id),
        ..link.clone()
    };
    match store.driver.as_str() {
        "overlay" => {
            let files = locate::layer(store, &named(link), "diff", owners)?;
            let marks = locate::resting_marks(store)?;
            if marks.is_fuse() {
                fuse::require_plain(&files)?;
            }
            Ok((files, Form::Own(marks)))
        }
        "btrfs" if link.home == 0 => {
            let anchor = locate::subvolumes(store)?;
            let beneath = match beneath {
                Some(beneath) => {
                    let mut all = Subvolumes::of(&anchor)
                        .map_err(|error| locate::inconsistent(format!("{SUBVOLUMES}: {error}")))?;
                    let (image, container) = (
                        locate::subvolume(store, &mut all, beneath)?,
                        locate::subvolume(store, &mut all, link)?,
                    );
                    Some(Beneath::Subvolume(BtrfsStack {
                        anchor: Arc::new(locate::subvolumes(store)?),
                        container,
                        injected: None,
                        injected_paths: Vec::new(),
                        image,
                    }))
                }
                None => None,
            };
            let dir = anchor
                .child(link.name.as_str().as_bytes())
                .map_err(|errno| {
                    let why = clause(&std::io::Error::from(errno));
                    locate::inconsistent(format!("{SUBVOLUMES}/{}: {why}", link.name))
                })?;
            let files = Layer {
                dir: Arc::new(match owners {
                    Some(owners) => dir.with_owners(Arc::clone(owners)),
                    None => dir,
                }),
                path: store.show(&format!("{SUBVOLUMES}/{}", link.name)),
                diff_id: Some(diff_id),
            };
            Ok((files, Form::Whole(beneath)))
        }
        "vfs" => {
            let whole = |link: &Link| locate::layer(store, &named(link), "", owners);
            let beneath = match beneath {
                Some(beneath) => Some(Beneath::Copy(PlainStack {
                    image: whole(beneath)?,
                    container: whole(link)?,
                    injected: None,
                })),
                None => None,
            };
            Ok((whole(link)?, Form::Whole(beneath)))
        }
        driver => Err(RuntimeError::UnsupportedDriver {
            driver: driver.to_owned(),
        }),
    }
}
