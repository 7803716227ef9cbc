//! The content store: manifests and configurations of images, each proved to be what its name says.

use plimsoll_core::model::{Algorithm, ChainId, DiffId, Digest, ImageId};
use plimsoll_core::trust::chain_ids;

use super::store::Store;
use crate::runtimes::image_config::ImageConfig;
use crate::runtimes::image_manifest::{Descriptor, Node, sha256};

/// Largest manifest or configuration that is read, in bytes: both are lists of digests and settings.
const BLOB_MAX: usize = 8 << 20;

/// Most manifests of an index that are looked at, and indexes within an index.
const MANIFESTS_MAX: usize = 128;
const DEPTH_MAX: usize = 3;

/// What the clause on a blob that is not there ends with.
pub(super) const ABSENT: &str = "is not in the content store";

/// An image that a container lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtimes) struct Found {
    /// None when several images have these very layers, and nothing says which it is.
    pub(in crate::runtimes) id: Option<ImageId>,
    pub(super) manifest: Option<Digest>,
    /// The base first.
    pub(in crate::runtimes) layers: Vec<DiffId>,
}

/// Why no image was found.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// What is wrong with each blob that was looked at in vain, as clauses.
    pub(super) why: Vec<String>,
}

/// A manifest and its configuration, both proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) digest: Digest,
    /// The configuration.
    pub(super) id: ImageId,
    /// The blobs of its layers, the base first.
    pub(super) blobs: Vec<Descriptor>,
    /// The layers, the base first.
    pub(super) layers: Vec<DiffId>,
}

/// Looks for the image whose layers are the chain that ends with `top`, from an index, a manifest or, with
/// `is_config`, a configuration on. An image of several platforms has one of them unpacked: that is told
/// by the arithmetic of chainIDs.
pub(super) fn search(
    store: &Store,
    digest: Digest,
    is_config: bool,
    top: &ChainId,
    missing: &mut Missing,
) -> Option<Found> {
    match is_config {
        true => config(store, digest, None, top, missing),
        false => node(store, digest, top, 0, &mut 0, missing),
    }
}

fn node(
    store: &Store,
    digest: Digest,
    top: &ChainId,
    depth: usize,
    seen: &mut usize,
    missing: &mut Missing,
) -> Option<Found> {
    let blob = read(store, digest, missing)?;
    let node: Node = parse(digest, &blob, missing)?;
    if let Some(told) = node.config {
        return config(store, told.digest, Some(digest), top, missing);
    }
    if depth == DEPTH_MAX {
        return None;
    }
    for manifest in node.manifests {
        *seen += 1;
        if *seen > MANIFESTS_MAX {
            return None;
        }
        if let Some(found) = self::node(store, manifest.digest, top, depth + 1, seen, missing) {
            return Some(found);
        }
    }
    None
}

fn config(
    store: &Store,
    digest: Digest,
    manifest: Option<Digest>,
    top: &ChainId,
    missing: &mut Missing,
) -> Option<Found> {
    let blob = read(store, digest, missing)?;
    let config: ImageConfig = parse(digest, &blob, missing)?;
    let layers = config.into_layers();
    (chain_ids(&layers).last() == Some(top)).then(|| Found {
        id: Some(digest.into()),
        manifest,
        layers,
    })
}

/// Returns the manifests that an index or a manifest leads to, those whose configurations are here as well.
pub(super) fn manifests(store: &Store, digest: Digest, missing: &mut Missing) -> Vec<Manifest> {
    let mut found = Vec::new();
    let mut seen = 0;
    let mut todo = vec![(digest, 0)];
    while let Some((digest, depth)) = todo.pop() {
        let Some(blob) = read(store, digest, missing) else {
            continue;
        };
        let Some(node) = parse::<Node>(digest, &blob, missing) else {
            continue;
        };
        let Some(told) = node.config else {
            if depth < DEPTH_MAX {
                seen += node.manifests.len();
                let next = node.manifests.iter().take(MANIFESTS_MAX);
                todo.extend(next.map(|next| (next.digest, depth + 1)));
            }
            if depth == DEPTH_MAX || seen > MANIFESTS_MAX {
                let why = format!("{digest} leads to more manifests than are looked at");
                missing.why.push(why);
                return found;
            }
            continue;
        };
        let config = read(store, told.digest, missing)
            .and_then(|blob| parse::<ImageConfig>(told.digest, &blob, missing));
        if let Some(config) = config {
            found.push(Manifest {
                digest,
                id: told.digest.into(),
                blobs: node.layers,
                layers: config.into_layers(),
            });
        }
    }
    found
}

fn read(store: &Store, digest: Digest, missing: &mut Missing) -> Option<Vec<u8>> {
    if digest.algorithm() != Algorithm::Sha256 {
        return None;
    }
    match store.blob(&digest, BLOB_MAX) {
        Ok(bytes) => {
            if sha256(&bytes) == Some(digest) {
                return Some(bytes);
            }
            let why = "was altered: its SHA-256 is not its name";
            missing.why.push(format!("{digest} {why}"));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            missing.why.push(format!("{digest} {ABSENT}"));
        }
        Err(e) => missing.why.push(format!("{digest}: {e}")),
    }
    None
}

fn parse<T: serde::de::DeserializeOwned>(
    digest: Digest,
    blob: &[u8],
    missing: &mut Missing,
) -> Option<T> {
    match serde_json::from_slice(blob) {
        Ok(value) => Some(value),
        Err(e) => {
            let why = plimsoll_core::model::escape(e.to_string().as_bytes()).into_owned();
            missing.why.push(format!("{digest}: {why}"));
            None
        }
    }
}
