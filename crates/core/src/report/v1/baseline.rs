//! The part of a report about what a container was compared with.

use schemars::JsonSchema;
use serde::Serialize;

use super::images::LayerChange;
use crate::model::{self, Bytes, DiffId, LayerTrust};

/// What a container was compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Baseline {
    /// How far the image's layers were proved: the weakest of them.
    pub layers: LayerTrust,
    /// The same of each layer, the base first; left out when all are taken as they lie on disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<LayerProof>,
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
