//! The manifest of an image, and an index of such (OCI image specification, `manifest.md` and
//! `image-index.md`; Docker's own forms have the same fields): what is used of them.

use plimsoll_core::model::{Algorithm, Digest};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// An index or a manifest, whichever it is: they have no field in common that would differ.
#[derive(Debug, Default, Deserialize)]
pub(in crate::runtimes) struct Node {
    #[serde(default)]
    pub(in crate::runtimes) manifests: Vec<Descriptor>,
    #[serde(default)]
    pub(in crate::runtimes) config: Option<Descriptor>,
    #[serde(default)]
    pub(in crate::runtimes) layers: Vec<Descriptor>,
}

/// What one refers to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(in crate::runtimes) struct Descriptor {
    pub(in crate::runtimes) digest: Digest,
    #[serde(rename = "mediaType", default)]
    pub(in crate::runtimes) media_type: String,
    #[serde(default)]
    pub(in crate::runtimes) size: u64,
}

/// Returns the SHA-256 of bytes.
pub(in crate::runtimes) fn sha256(bytes: &[u8]) -> Option<Digest> {
    Digest::new(Algorithm::Sha256, &Sha256::digest(bytes))
}
