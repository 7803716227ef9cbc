//! The configuration of an image (OCI image specification, `config.md`): what is used of it.

use plimsoll_core::model::DiffId;
use serde::Deserialize;

/// An image's configuration.
#[derive(Debug, Default, Deserialize)]
pub(in crate::runtimes) struct ImageConfig {
    #[serde(default)]
    rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    /// Absent when the image has no layer.
    #[serde(default)]
    diff_ids: Option<Vec<DiffId>>,
}

impl ImageConfig {
    /// Returns the layers, the base first.
    pub(in crate::runtimes) fn into_layers(self) -> Vec<DiffId> {
        self.rootfs.diff_ids.unwrap_or_default()
    }
}
