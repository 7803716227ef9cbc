//! The document of `plimsoll image verify`.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Gap, Host, Identity, Tool};
use crate::model::{
    self, Aspects, Attributes, Bytes, ChangeKind, DiffId, Digest, Image, ImageMeasurement,
    LayerMeasurement, RootPath, RuntimeKind, Timestamp,
};
use crate::{Summary, Verdict};

/// One run: images, and their layers, each once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// Always 1.
    pub schema_version: u32,
    /// The program that wrote this.
    pub tool: Tool,
    /// The machine that was looked at.
    pub host: Host,
    /// When, on the host's clock.
    pub time: Timestamp,
    /// The images.
    pub images: Vec<VerifiedImage>,
    /// Their layers.
    pub layers: Vec<VerifiedLayer>,
    /// What could not be seen and belongs to no single image.
    pub gaps: Vec<Gap>,
    /// How many images ended with which verdict.
    pub summary: Summary,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VerifiedImage {
    /// Who keeps it.
    pub runtime: RuntimeKind,
    /// Names that lead to it.
    pub names: Vec<Bytes>,
    /// Its digests.
    pub image: Image,
    /// Which of `layers` are its, the base first.
    pub layers: Vec<usize>,
    /// Whether it is the one that the reference values name, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// What follows from these and from its own gaps.
    pub verdict: Verdict,
    /// What could not be seen of it.
    pub gaps: Vec<Gap>,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedLayer {
    /// The digest that it must have.
    pub diff_id: DiffId,
    /// The digest of its stream as it was rebuilt, or read where it is kept; null when it could not be had, or
    /// was not what it must be to prove anything.
    pub rebuilt: Option<Digest>,
    /// Length of that stream, in bytes.
    pub bytes: u64,
    /// Where its files lie.
    pub path: Bytes,
    /// What follows.
    pub verdict: Verdict,
    /// Present and true when it was sealed in this run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sealed: bool,
    /// What differs, sorted by path.
    pub changes: Vec<LayerChange>,
    /// What could not be seen.
    pub gaps: Vec<Gap>,
}

/// A path of a layer that is not what the layer's stream says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LayerChange {
    /// The path.
    pub path: RootPath,
    /// What happened: added is what the stream does not have.
    pub kind: ChangeKind,
    /// In which respects it differs.
    pub aspects: Aspects,
    /// The names of the extended attributes that differ, where some do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<Bytes>,
    /// Its attributes by the stream, where it has them.
    pub before: Option<Box<Attributes>>,
    /// Its attributes on disk.
    pub after: Option<Box<Attributes>>,
}

impl Images {
    /// Returns the document. `images` says of each which of `layers` are its.
    #[must_use]
    pub fn new(
        (tool, host, time): (Tool, Host, Timestamp),
        images: Vec<(ImageMeasurement, Vec<usize>)>,
        layers: Vec<LayerMeasurement>,
        gaps: Vec<model::Gap>,
    ) -> Self {
        let mut summary = Summary::default();
        let images = images
            .into_iter()
            .map(|(image, of)| {
                let verdict = image.verdict(of.iter().filter_map(|at| layers.get(*at)));
                summary.add(verdict);
                VerifiedImage {
                    runtime: image.runtime,
                    names: image.names,
                    image: image.image,
                    layers: of,
                    identity: image.identity.map(Identity::from),
                    verdict,
                    gaps: told(image.gaps),
                }
            })
            .collect();
        Self {
            schema_version: super::SCHEMA_VERSION,
            tool,
            host,
            time,
            images,
            layers: layers.into_iter().map(VerifiedLayer::from).collect(),
            gaps: told(gaps),
            summary,
        }
    }

    /// Returns the exit code of the run.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        super::exit_code(self.summary, &self.gaps)
    }
}

impl From<LayerMeasurement> for VerifiedLayer {
    fn from(layer: LayerMeasurement) -> Self {
        let verdict = layer.verdict();
        Self {
            diff_id: layer.diff_id,
            rebuilt: layer.rebuilt,
            bytes: layer.bytes,
            path: layer.path,
            verdict,
            sealed: false,
            changes: layer.changes.into_iter().map(LayerChange::from).collect(),
            gaps: told(layer.gaps),
        }
    }
}

impl From<model::Change> for LayerChange {
    fn from(change: model::Change) -> Self {
        Self {
            path: change.path,
            kind: change.kind,
            aspects: change.aspects,
            xattrs: change.xattrs.into_vec(),
            before: change.sides.before().map(Box::new),
            after: change.sides.after().map(Box::new),
        }
    }
}

/// Returns the JSON schema of [`Images`].
#[must_use]
pub fn schema() -> schemars::Schema {
    super::schema_of::<Images>()
}

fn told(gaps: Vec<model::Gap>) -> Vec<Gap> {
    gaps.into_iter().map(|gap| Gap::new(gap, false)).collect()
}
