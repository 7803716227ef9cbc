//! The part of a report about what a container was compared with.

use schemars::JsonSchema;
use serde::Serialize;

use super::images::LayerChange;
use crate::model::{self, Bytes, DiffId, ImageIdentity, LayerTrust};

/// What a container was compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Baseline {
    /// Whether the image is the one that the reference values name, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// How far the image's layers were proved: the weakest of them.
    pub layers: LayerTrust,
    /// The same of each layer, the base first; left out when all are taken as they lie on disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<LayerProof>,
}

/// What reference values say of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Identity {
    /// Whether it has the digests that it must have; null when that cannot be told, which is a gap.
    pub agrees: Option<bool>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl From<ImageIdentity> for Identity {
    fn from(identity: ImageIdentity) -> Self {
        let (agrees, why) = match identity {
            ImageIdentity::Agrees => (Some(true), None),
            ImageIdentity::Differs(why) => (Some(false), Some(why)),
            ImageIdentity::Unknown(why) => (None, Some(why)),
        };
        Self { agrees, why }
    }
}

/// How far one layer was proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LayerProof {
    /// The digest that it must have.
    pub diff_id: DiffId,
    /// Where its files lie on the host.
    pub path: Bytes,
    /// What holds for it.
    pub held: LayerTrust,
    /// Present and true when it has a seal that does not hold: something in it was touched since it was
    /// sealed, be it put back again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub seal_broken: bool,
    /// What differs on disk from what its digest says, sorted by path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<LayerChange>,
}

impl From<model::Baseline> for Baseline {
    fn from(baseline: model::Baseline) -> Self {
        Self {
            identity: baseline.identity.map(Identity::from),
            layers: baseline.layers,
            proofs: baseline.proofs.into_iter().map(LayerProof::from).collect(),
        }
    }
}

impl From<model::LayerProof> for LayerProof {
    fn from(proof: model::LayerProof) -> Self {
        Self {
            diff_id: proof.diff_id,
            path: proof.path,
            held: proof.held,
            seal_broken: proof.seal_broken,
            changes: proof.changes.into_iter().map(LayerChange::from).collect(),
        }
    }
}
