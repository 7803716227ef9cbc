//! The result of looking at one container.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Change, Code, Container, Gap, Mount};

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

/// How far the image's layers themselves were proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LayerTrust {
    /// Taken as they lie on disk.
    Trusted,
    /// Unchanged since they were last verified, by a seal.
    Sealed,
    /// Rebuilt and compared with their diffIDs in this run.
    Verified,
}

/// What the container was compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Baseline {
    /// How far its layers were proved.
    pub layers: LayerTrust,
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
