//! The result of looking at one container.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bytes, Change, Code, Container, DiffId, Gap, Mount};

/// How the two sides were compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// By what overlayfs keeps in the upper layer.
    Overlay,
    /// By the generations and extents that Btrfs keeps.
    Btrfs,
    /// By hashing every file of both sides.
    Digest,
}

impl EngineKind {
    /// Returns the word used in reports and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Btrfs => "btrfs",
            Self::Digest => "digest",
        }
    }
}

/// How far an image's layers themselves were proved; the weakest first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum LayerTrust {
    /// Rebuilt in this run, and not what their diffIDs say.
    Violated,
    /// Taken as they lie on disk.
    Trusted,
    /// Unchanged since they were last verified, by a seal.
    Sealed,
    /// Rebuilt and compared with their diffIDs in this run.
    Verified,
}

impl LayerTrust {
    /// Returns the word used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Violated => "violated",
            Self::Trusted => "trusted",
            Self::Sealed => "sealed",
            Self::Verified => "verified",
        }
    }
}

/// How far one layer of a container's image was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProof {
    /// The digest that it must have.
    pub diff_id: DiffId,
    /// Where its files lie on the host, to show.
    pub path: Bytes,
    /// What holds for it.
    pub held: LayerTrust,
    /// Whether it has a seal that does not hold: something in it was touched since, be it put back again.
    pub seal_broken: bool,
    /// What differs on disk from its stream, sorted by path, where it was rebuilt.
    pub changes: Vec<Change>,
}

/// What reference values say of the identity of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageIdentity {
    /// It has the digests that it must have.
    Agrees,
    /// It has another one; the text says which, and which it must have.
    Differs(String),
    /// It cannot be told; the text says why, and the way out.
    Unknown(String),
}

/// What the container was compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// What reference values say of the image, where there are any.
    pub identity: Option<ImageIdentity>,
    /// How far its layers were proved: the weakest of them.
    pub layers: LayerTrust,
    /// The same of each layer, the base first; empty when all are taken as they lie on disk.
    pub proofs: Vec<LayerProof>,
}

impl Baseline {
    /// Returns the one whose layers are taken as they lie on disk.
    #[must_use]
    pub fn trusted() -> Self {
        Self {
            identity: None,
            layers: LayerTrust::Trusted,
            proofs: Vec::new(),
        }
    }

    /// Whether it is another one than it must be.
    #[must_use]
    pub fn is_violated(&self) -> bool {
        self.layers == LayerTrust::Violated
            || matches!(self.identity, Some(ImageIdentity::Differs(_)))
    }

    /// Returns the one of these layers.
    #[must_use]
    pub fn of(proofs: Vec<LayerProof>) -> Self {
        let weakest = proofs.iter().map(|proof| proof.held).min();
        let layers = weakest.unwrap_or(LayerTrust::Trusted);
        let all_trusted = |proof: &LayerProof| proof.held == LayerTrust::Trusted;
        Self {
            identity: None,
            layers,
            proofs: match proofs.iter().all(all_trusted) {
                true => Vec::new(),
                false => proofs,
            },
        }
    }
}

/// What a measurement took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Elapsed time.
    pub wall: Duration,
    /// Directory entries, or tree items of Btrfs, that were read.
    pub entries_read: u64,
    /// Bytes of file content that were read.
    pub bytes_read: u64,
}

/// A container, what it was compared with, what differs, what could not be seen, and the cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    /// Which container.
    pub container: Container,
    /// How the two sides were compared; `None` when nothing could be compared, which is a gap.
    pub engine: Option<EngineKind>,
    /// What it was compared with.
    pub baseline: Baseline,
    /// What differs, sorted by path.
    pub changes: Vec<Change>,
    /// Paths that the storage driver holds a copy of although nothing differs: opened for writing
    /// and not written, touched, written and put back.
    pub identical_copies: u64,
    /// What the container's processes see in place of its rootfs, while it runs.
    pub mounts: Vec<Mount>,
    /// What the container's processes run that is not the image's, while it runs.
    pub code: Vec<Code>,
    /// What could not be seen.
    pub gaps: Vec<Gap>,
    /// What it took.
    pub cost: Cost,
}
