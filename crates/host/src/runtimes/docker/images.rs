//! The images that Docker keeps with its classic storage drivers, and where their layers lie.
//!
//! Layout: moby `daemon/internal/image/fs.go` (`imagedb/content/sha256/<image id>` is the configuration)
//! and `daemon/internal/image/store.go`, `reference/store.go` (`repositories.json`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use plimsoll_core::model::{Bytes, ChainId, DiffId, Gap, Image, ImageId, RuntimeKind};
use serde::Deserialize;

use super::disk::{DataRoot, RecordError};
use super::layerdb;
use super::locate::{self, Driver};
use crate::layers::stored::{LayerRoot, Reference, StoredImage, StoredLayer, TarSplit};
use crate::runtimes::lower::LayerName;

/// The name that tar-split records have.
const RECORDS: &str = "tar-split.json.gz";

/// `repositories.json`: names of images by repository.
#[derive(Debug, Default, Deserialize)]
struct Repositories {
    #[serde(rename = "Repositories", default)]
    repositories: BTreeMap<String, BTreeMap<String, ImageId>>,
}

/// Returns the images of a data root.
pub(super) fn images(root: &DataRoot, gaps: &mut Vec<Gap>) -> Vec<StoredImage> {
    let mut found = Vec::new();
    for driver in Driver::ALL {
        let ids = match root.image_ids(driver.as_str()) {
            Ok(ids) => ids,
            Err(RecordError::Absent) => continue,
            Err(RecordError::Broken(why)) => {
                gaps.push(Gap::new("images", why));
                continue;
            }
        };
        let names = match names(root, driver) {
            Ok(names) => names,
            Err(why) => {
                gaps.push(Gap::new("repositories.json", why));
                HashMap::new()
            }
        };
        let mut layers = HashMap::new();
        for id in ids {
            let names = names.get(&id).cloned().unwrap_or_default();
            found.push(image(root, driver, id, names, &mut layers));
        }
    }
    found
}

/// Layers that were found already and the names of their directories, by the path of their record.
type Known = HashMap<String, (LayerName, Arc<StoredLayer>)>;

fn image(
    root: &DataRoot,
    driver: Driver,
    id: ImageId,
    names: Vec<Bytes>,
    known: &mut Known,
) -> StoredImage {
    let mut image = StoredImage {
        runtime: RuntimeKind::Docker,
        names,
        image: Image {
            id: Some(id),
            ..Image::default()
        },
        manifests: Vec::new(),
        layers: Vec::new(),
        gaps: Vec::new(),
    };
    let broken = |error| match error {
        RecordError::Absent => "is gone".to_owned(),
        RecordError::Broken(why) => why,
    };
    let chain = match root.image_layers(driver.as_str(), &id) {
        Ok(chain) => chain,
        Err(error) => {
            let gap = Gap::new(id.to_string().as_str(), broken(error));
            image.gaps.push(gap);
            return image;
        }
    };
    image.image.layers = chain.diff_ids.to_vec();
    let is_of_user = || root.stat("containers").is_ok_and(|stat| stat.uid != 0);
    if root.is_remapped() || is_of_user() {
        let why = "its layers were written with the owners of a user namespace (userns-remap, or Docker of a user), which cannot be verified yet";
        image.gaps.push(Gap::new(id.to_string().as_str(), why));
        return image;
    }
    let mut beneath: Option<LayerName> = None;
    for (chain_id, diff_id) in chain.chain_ids.iter().zip(&chain.diff_ids) {
        let dir = layerdb::layer_dir(driver.as_str(), chain_id);
        let found = match known.get(&dir) {
            Some(found) => Ok(found.clone()),
            None => layer(root, driver, chain_id, *diff_id, beneath.as_ref())
                .map(|(name, layer)| (name, Arc::new(layer))),
        };
        match found {
            Ok((name, layer)) => {
                image.layers.push(Arc::clone(&layer));
                beneath = Some(name.clone());
                known.insert(dir, (name, layer));
            }
            Err(error) => {
                let gap = Gap::new(diff_id.to_string().as_str(), broken(error));
                image.gaps.push(gap);
                // What lies on one that is missing cannot be told from it.
                break;
            }
        }
    }
    image
}

fn layer(
    root: &DataRoot,
    driver: Driver,
    chain_id: &ChainId,
    diff_id: DiffId,
    beneath: Option<&LayerName>,
) -> Result<(LayerName, StoredLayer), RecordError> {
    let entry = layerdb::Entry::read(root, driver.as_str(), chain_id)?;
    let dir = layerdb::layer_dir(driver.as_str(), chain_id);
    if entry.diff_id != diff_id {
        return Err(RecordError::Broken(format!(
            "the layer database has it as {}",
            entry.diff_id
        )));
    }
    let (files, form) = locate::image_layer(root, driver, &entry.cache, diff_id, beneath)?;
    let size = root.read(&format!("{dir}/size")).unwrap_or_default();
    let layer = StoredLayer {
        diff_id,
        files,
        form,
        root: LayerRoot::Stream { or_mode: None },
        reference: Reference::TarSplit(TarSplit {
            dir: root.need(&dir)?,
            name: RECORDS.into(),
            path: root.show(&format!("{dir}/{RECORDS}")),
        }),
        between: Vec::new(),
        copies: Vec::new(),
        lacks_devices: false,
        size: std::str::from_utf8(&size)
            .ok()
            .and_then(|size| size.trim().parse().ok())
            .unwrap_or(0),
    };
    Ok((entry.cache, layer))
}

/// Returns the names of images.
fn names(root: &DataRoot, driver: Driver) -> Result<HashMap<ImageId, Vec<Bytes>>, String> {
    let path = format!("image/{}/repositories.json", driver.as_str());
    let repositories: Repositories = match root
        .read(&path)
        .and_then(|bytes| super::disk::parse(&bytes))
    {
        Ok(repositories) => repositories,
        Err(RecordError::Absent) => Repositories::default(),
        Err(RecordError::Broken(why)) => return Err(why),
    };
    let mut names: HashMap<ImageId, Vec<Bytes>> = HashMap::new();
    for (name, id) in repositories.repositories.into_values().flatten() {
        names
            .entry(id)
            .or_default()
            .push(Bytes::from(name.as_str()));
    }
    Ok(names)
}
