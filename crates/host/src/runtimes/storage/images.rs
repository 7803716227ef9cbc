//! The images of a store, and where their layers lie.
//!
//! The records of tar-split lie beside those of the layers: `storage/layers.go`, `tspath`.

use std::collections::HashMap;
use std::sync::Arc;

use plimsoll_core::model::{DiffId, Digest, Gap, Image, RuntimeKind};

use super::chain::{self, Link};
use super::fuse;
use super::locate::{self, SUBVOLUMES};
use super::record::ImageRecord;
use super::store::{Home, Store, clause, shown};
use crate::layers::btrfs::Subvolumes;
use crate::layers::stored::{Beneath, Form, StoredImage, StoredLayer, TarSplit};
use crate::layers::{BtrfsStack, Layer, PlainStack};
use crate::runtimes::RuntimeError;

/// Layers that were found already, by their ids.
type Known = HashMap<String, Arc<StoredLayer>>;

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
    let mut ids: Vec<&String> = images.keys().collect();
    ids.sort();
    ids.into_iter()
        .filter_map(|id| images.get(id))
        .map(|(record, home)| image(store, record, *home, &mut known))
        .collect()
}

fn image(store: &Store, record: &ImageRecord, home: Home, known: &mut Known) -> StoredImage {
    let mut image = StoredImage {
        runtime: RuntimeKind::Podman,
        names: record
            .names()
            .iter()
            .map(|name| name.as_str().into())
            .collect(),
        image: Image {
            id: format!("sha256:{}", record.id).parse().ok(),
            manifest: record
                .digest
                .as_ref()
                .and_then(|text| text.parse::<Digest>().ok()),
            ..Image::default()
        },
        layers: Vec::new(),
        gaps: Vec::new(),
    };
    image.names.sort();
    if let Err(why) = layers(store, record, home, known, &mut image) {
        image.gaps.push(Gap::new(shown(&record.id).as_str(), why));
    }
    image
}

/// Finds the layers of an image, the base first.
///
/// # Errors
/// One clause that says why one cannot be verified; those beneath it are found.
fn layers(
    store: &Store,
    record: &ImageRecord,
    home: Home,
    known: &mut Known,
    image: &mut StoredImage,
) -> Result<(), String> {
    let ids = store.image_layers(record, home)?;
    image.image.layers = ids.to_vec();
    if store.graph.user.is_some() {
        return Err("the owners of a user's own store are mapped: its layers cannot be verified from here yet".into());
    }
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
    let mut beneath: Option<&Link> = None;
    for (link, diff_id) in links.iter().zip(ids.iter()) {
        if link.diff_id.is_some_and(|of| of != *diff_id) {
            return Err(format!("layer {} is not its {diff_id}", link.name));
        }
        let name = link.name.as_str();
        let layer = match known.get(name) {
            Some(layer) => Arc::clone(layer),
            None => {
                let (files, form) = image_layer(store, link, *diff_id, beneath)
                    .map_err(|error| error.to_string())?;
                let (records, size) = records(store, link)?;
                Arc::new(StoredLayer {
                    diff_id: *diff_id,
                    files: Arc::new(files),
                    form,
                    // `storage/drivers/overlay/overlay.go`, `defaultPerms`.
                    root_mode: (store.driver == "overlay").then_some(0o555),
                    records,
                    size,
                })
            }
        };
        known.insert(name.to_owned(), Arc::clone(&layer));
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
) -> Result<(Layer, Form), RuntimeError> {
    let has = |name: &str| {
        let path = format!("{}/{}/{name}", store.driver, link.name);
        let home = store.home(link.home);
        home.is_some_and(|(dir, _)| dir.has(path.as_bytes()))
    };
    if link.is_mapped || has("diff1") || has("composefs-data") {
        return Err(RuntimeError::Unavailable(format!(
            "layer {} is a copy with other owners, or kept as composefs, which cannot be verified yet",
            link.name
        )));
    }
    let named = |link: &Link| Link {
        diff_id: Some(diff_id),
        ..link.clone()
    };
    match store.driver.as_str() {
        "overlay" => {
            let files = locate::layer(store, &named(link), "diff", None)?;
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
                        anchor: locate::subvolumes(store)?,
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
                dir: Arc::new(dir),
                path: store.show(&format!("{SUBVOLUMES}/{}", link.name)),
                diff_id: Some(diff_id),
            };
            Ok((files, Form::Whole(beneath)))
        }
        "vfs" => {
            let whole = |link: &Link| locate::layer(store, &named(link), "", None);
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
