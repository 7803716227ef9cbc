//! Version 1 of the report.

mod baseline;
mod changes;
pub mod images;

pub use baseline::{Baseline, Identity, LayerProof};
pub use changes::{Change, Changes};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;

use crate::model::{
    self, Bytes, ContainerId, EngineKind, Image, Measurement, Pod, RootPath, RuntimeKind, State,
    Timestamp,
};
use crate::policy::Appraisal;
use crate::{Summary, Verdict};

/// The number of this version, as `schemaVersion` gives it.
pub const SCHEMA_VERSION: u32 = 1;

/// One run: the containers that were looked at, and what was concluded about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Always 1.
    pub schema_version: u32,
    /// The program that wrote this.
    pub tool: Tool,
    /// The machine that was looked at.
    pub host: Host,
    /// The moment as of which the policy was applied, on the host's clock.
    pub time: Timestamp,
    /// Present when only these paths of each container were looked at: a verdict is about no other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<RootPath>,
    /// The containers, in the order in which they were looked at.
    pub containers: Vec<Container>,
    /// What could not be seen and belongs to no single container.
    pub gaps: Vec<Gap>,
    /// How many containers ended with which verdict.
    pub summary: Summary,
}

/// The program that wrote a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The machine that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Host {
    /// Its name, as it calls itself.
    pub name: Bytes,
}

/// One container, and what was concluded about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// The identifier that its runtime gave it.
    pub id: ContainerId,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Who runs it.
    pub runtime: RuntimeKind,
    /// The namespace that containerd keeps it in, where containerd does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The user whose own store it lies in, where that is not root's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// The pod that it belongs to, where Kubernetes made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// What it was doing.
    pub state: State,
    /// The image it was created from.
    pub image: Image,
    /// How it was compared; null when it could not be, which is a gap.
    pub engine: Option<EngineKind>,
    /// What it was compared with.
    pub baseline: Baseline,
    /// What was concluded.
    pub verdict: Verdict,
    /// What differs, sorted by path.
    pub changes: Changes,
    /// Paths that the storage driver holds a copy of although nothing differs.
    pub identical_copies: u64,
    /// What the container's processes see in place of its rootfs, sorted by path; empty when none
    /// run on the machine that was looked at.
    pub mounts: Vec<Mount>,
    /// Code that the container's processes run and that is no unchanged file of the image.
    pub processes: Vec<Code>,
    /// What could not be seen.
    pub gaps: Vec<Gap>,
    /// What looking took.
    pub cost: Cost,
}

/// Something that is mounted over the rootfs, and what the policy says to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Mount {
    /// The mount.
    #[serde(flatten)]
    pub mount: model::Mount,
    /// Whether it is not held against the container: runtime or configuration account for it, or
    /// the policy allows it.
    pub allowed: bool,
}

/// Code that is not the image's, and what the policy says to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Code {
    /// The code, and who runs it.
    #[serde(flatten)]
    pub code: model::Code,
    /// Whether it is not held against the container by itself: one of the changes or mounts tells of
    /// it, or the policy allows it.
    pub allowed: bool,
}

/// Something that could not be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Gap {
    /// A path inside the container, a path on the host, or the name of what is missing.
    pub what: Bytes,
    /// Why it could not be seen.
    pub why: String,
    /// Present and true when the policy accepts it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
}

/// What looking at one container took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Elapsed time in microseconds.
    pub wall_micros: u64,
    /// Directory entries, or tree items of Btrfs, that were read.
    pub entries_read: u64,
    /// Bytes of file content that were read.
    pub bytes_read: u64,
}

impl Container {
    /// Returns the part of the report about one container. `appraisal` is of this measurement.
    #[must_use]
    pub fn new(measurement: Measurement, appraisal: Appraisal) -> Self {
        debug_assert_eq!(measurement.changes.len(), appraisal.changes.len());
        debug_assert_eq!(measurement.gaps.len(), appraisal.gaps_accepted.len());
        let Measurement {
            container,
            engine,
            baseline,
            changes,
            identical_copies,
            mounts,
            code,
            gaps,
            cost,
        } = measurement;
        Self {
            id: container.id,
            name: container.name,
            runtime: container.runtime,
            namespace: container.namespace,
            user: container.user,
            pod: container.pod,
            state: container.state,
            image: container.image,
            engine,
            baseline: baseline.into(),
            verdict: appraisal.verdict,
            changes: Changes::new(changes, appraisal.changes),
            identical_copies,
            mounts: mounts
                .into_iter()
                .zip(appraisal.mounts_allowed)
                .map(|(mount, allowed)| Mount { mount, allowed })
                .collect(),
            processes: code
                .into_iter()
                .zip(appraisal.code_allowed)
                .map(|(code, allowed)| Code { code, allowed })
                .collect(),
            gaps: gaps
                .into_iter()
                .zip(appraisal.gaps_accepted)
                .map(|(gap, accepted)| Gap::new(gap, accepted))
                .collect(),
            cost: Cost {
                wall_micros: u64::try_from(cost.wall.as_micros()).unwrap_or(u64::MAX),
                entries_read: cost.entries_read,
                bytes_read: cost.bytes_read,
            },
        }
    }

    /// Returns its name, or the short form of its id.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.id.short())
    }
}

impl Gap {
    /// Returns the part of the report about one gap.
    #[must_use]
    pub fn new(gap: model::Gap, accepted: bool) -> Self {
        Self {
            what: gap.what,
            why: gap.why,
            accepted,
        }
    }
}

impl Report {
    /// Returns the exit code of the run, by [`exit_code`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        exit_code(self.summary, &self.gaps)
    }
}

/// Returns the exit code of a run: that of its containers together, but 2 in place of 0 when
/// something beside them could not be seen and the policy does not accept that.
#[must_use]
pub fn exit_code(summary: Summary, gaps: &[Gap]) -> u8 {
    match summary.exit_code() {
        0 if gaps.iter().any(|gap| !gap.accepted) => Verdict::Unknown.exit_code(),
        code => code,
    }
}

/// Returns the JSON schema of [`Report`].
#[must_use]
pub fn schema() -> Schema {
    schema_of::<Report>()
}

fn schema_of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
}

#[cfg(test)]
mod tests;
