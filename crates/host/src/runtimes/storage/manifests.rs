//! The manifests that a store keeps of an image, each held against its digest, the image's id and its
//! configuration.
//!
//! `storage/images.go`, `ImageDigestManifestBigDataNamePrefix`: `manifest` is the image's own one, and
//! `manifest-<digest>` one that is called by its digest, that or the index that it was found in
//! (`image/storage/storage_dest.go`). The digest in the image's record is that of any of them.

use plimsoll_core::model::{Algorithm, DiffId, Digest, Gap};

use super::record::{self, ImageRecord};
use super::store::{Home, Store, big_data, clause, shown};
use crate::fs::RECORD_LIMIT;
use crate::runtimes::image_manifest::{Node, sha256};

/// What the name of a manifest is, or begins with.
const MANIFEST: &str = "manifest";

/// Most manifests of an image that are looked at.
const MANIFESTS_MAX: usize = 128;

/// What the manifests of an image came to.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// The digest of the image's own one, where it is kept and proved.
    pub(super) own: Option<Digest>,
    /// The digests of all that are kept and proved, and lead to the image.
    pub(super) proved: Vec<Digest>,
    /// How many layers that has.
    layers: usize,
    /// What is wrong.
    pub(super) gaps: Vec<Gap>,
}

impl Manifests {
    /// Reads the manifests of an image.
    pub(super) fn of(store: &Store, image: &ImageRecord, home: Home) -> Self {
        let mut found = Self::default();
        let names = image.big_data_names().iter();
        let mut names: Vec<&String> = names.filter(|name| is_manifest(name)).collect();
        // The image's own one first.
        names.sort();
        if names.len() > MANIFESTS_MAX {
            let why = format!("only the first {MANIFESTS_MAX} of its manifests were looked at");
            found.gaps.push(Gap::new(MANIFEST, why));
            names.truncate(MANIFESTS_MAX);
        }
        let (mut indexes, mut manifests) = (Vec::new(), Vec::new());
        let mut proved = Vec::new();
        let any = !names.is_empty();
        for name in names {
            match found.read(store, image, home, name) {
                Ok((digest, node)) => {
                    proved.push(digest);
                    match node.config {
                        None => indexes.push((name, digest, node)),
                        Some(_) => manifests.push(digest),
                    }
                }
                Err(why) => found.gaps.push(Gap::new(shown(name).as_str(), why)),
            }
        }
        let mut leading = manifests.clone();
        for (name, digest, index) in indexes {
            let mut leads = index.manifests.iter().map(|of| of.digest);
            if leads.any(|of| manifests.contains(&of)) {
                leading.push(digest);
            }
            let mut leads = index.manifests.iter().map(|of| of.digest);
            if !leads.any(|of| Some(of) == found.own) {
                let why = "it is an index that does not lead to the manifest of the image";
                found.gaps.push(Gap::new(shown(name).as_str(), why));
            }
        }
        // What is no manifest of the image, nor leads to one, says nothing of it.
        if found.own.is_some() {
            found.proved.clone_from(&leading);
        }
        if let Some(told) = image.digest.as_deref().filter(|_| any)
            && !proved.iter().any(|of| of.to_string() == told)
        {
            let why = format!(
                "no manifest that is kept has the digest of its record, {}",
                shown(told)
            );
            found.gaps.push(Gap::new("image", why));
        }
        found
    }

    /// Reads a manifest that the image has by this name, and proves it.
    ///
    /// # Errors
    /// One clause that says what is wrong with it.
    fn read(
        &mut self,
        store: &Store,
        image: &ImageRecord,
        home: Home,
        name: &str,
    ) -> Result<(Digest, Node), String> {
        let (place, _) = store.home(home).ok_or("its store is gone")?;
        let file = big_data(&store.driver, &image.id, name);
        let bytes = place
            .read_file(file.as_bytes(), RECORD_LIMIT)
            .map_err(|error| clause(&error))?;
        let own = image.big_data_digest(name).or(image.digest.as_deref());
        let told = match name.strip_prefix(MANIFEST).unwrap_or_default() {
            "" => own.unwrap_or_default(),
            rest => rest.trim_start_matches('-'),
        };
        let told: Digest = told
            .parse()
            .map_err(|_| format!("it is called by \"{}\", which is no digest", shown(told)))?;
        if told.algorithm() != Algorithm::Sha256 {
            return Err(format!("{told} is no SHA-256, by which it could be proved"));
        }
        if sha256(&bytes) != Some(told) {
            return Err(format!("it was altered: its SHA-256 is not {told}"));
        }
        let node: Node = record::parse(&bytes)?;
        let Some(config) = &node.config else {
            return match node.manifests.is_empty() {
                true => Err("it names no configuration: it is of a form that is not read".into()),
                false => Ok((told, node)),
            };
        };
        if config.digest.hex() != image.id {
            return Err(format!(
                "it is of another image, whose configuration is {}",
                config.digest
            ));
        }
        if name == MANIFEST {
            self.own = Some(told);
            self.layers = node.layers.len();
        }
        Ok((told, node))
    }

    /// Holds what the image's own manifest says of its layers against the configuration. What it calls them is
    /// the digests of what was sent: of a layer that two images share, compressed in two ways, only one is in
    /// the layer's record.
    pub(super) fn against(&mut self, ids: &[DiffId]) {
        if self.own.is_some() && self.layers != ids.len() {
            let why = format!(
                "it has {} layers, the configuration of the image {}",
                self.layers,
                ids.len()
            );
            self.gaps.push(Gap::new(MANIFEST, why));
        }
    }
}

fn is_manifest(name: &str) -> bool {
    let rest = name.strip_prefix(MANIFEST);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}
