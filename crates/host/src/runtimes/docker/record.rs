//! What Docker writes down about a container and an image: the fields that are needed, and nothing
//! believed about them.
//!
//! Formats: `config.v2.json` and `hostconfig.json` are moby's `daemon/container/container.go` and
//! `api/types/container/hostconfig.go`, the image is the OCI image configuration.

use std::collections::BTreeMap;

use plimsoll_core::model::{Digest, ImageId, State};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// `containers/<id>/config.v2.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Record {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(rename = "Name", default)]
    pub(super) name: String,
    #[serde(rename = "Driver", default)]
    pub(super) driver: String,
    /// The image id; with the containerd store the digest of the image's target instead.
    #[serde(rename = "Image", default)]
    pub(super) image: String,
    #[serde(rename = "ImageManifest", default)]
    pub(super) manifest: Option<Descriptor>,
    #[serde(rename = "State", default)]
    pub(super) state: RecordedState,
    #[serde(rename = "Config", default)]
    pub(super) config: Option<Config>,
    /// Mount points by their destination.
    #[serde(rename = "MountPoints", default)]
    pub(super) mount_points: Option<BTreeMap<String, Option<MountPoint>>>,
    #[serde(rename = "ResolvConfPath", default)]
    pub(super) resolv_conf_path: String,
    #[serde(rename = "HostnamePath", default)]
    pub(super) hostname_path: String,
    #[serde(rename = "HostsPath", default)]
    pub(super) hosts_path: String,
    #[serde(rename = "SecretReferences", default)]
    pub(super) secrets: Option<Vec<Reference>>,
    #[serde(rename = "ConfigReferences", default)]
    pub(super) configs: Option<Vec<Reference>>,
}

/// A mount that the container was asked for with, as it is made (moby `volume/mounts/mounts.go`).
#[derive(Debug, Default, Deserialize)]
pub(super) struct MountPoint {
    #[serde(rename = "Source", default)]
    pub(super) source: String,
    /// Name of the volume.
    #[serde(rename = "Name", default)]
    pub(super) name: String,
    /// The volume's driver.
    #[serde(rename = "Driver", default)]
    pub(super) driver: String,
    #[serde(rename = "Type", default)]
    pub(super) kind: String,
}

/// A secret or configuration of a swarm's service.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Reference {
    #[serde(rename = "File", default)]
    file: Option<ReferenceFile>,
}

#[derive(Debug, Default, Deserialize)]
struct ReferenceFile {
    #[serde(rename = "Name", default)]
    name: String,
}

impl Reference {
    /// Returns the name of the file that it becomes.
    pub(super) fn file(&self) -> Option<&str> {
        self.file.as_ref().map(|file| file.name.as_str())
    }
}

/// A content descriptor of the containerd store.
#[derive(Debug, Deserialize)]
pub(super) struct Descriptor {
    pub(super) digest: Digest,
}

/// How the container was asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Config {
    /// The image's name as it was given then.
    #[serde(rename = "Image", default)]
    pub(super) image: String,
    #[serde(rename = "WorkingDir", default)]
    pub(super) working_dir: String,
}

/// What the container was doing when the record was written.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RecordedState {
    #[serde(rename = "Running", default)]
    running: bool,
    #[serde(rename = "Paused", default)]
    paused: bool,
    #[serde(rename = "Restarting", default)]
    restarting: bool,
    #[serde(rename = "RemovalInProgress", default)]
    removing: bool,
    #[serde(rename = "Dead", default)]
    dead: bool,
    #[serde(rename = "Pid", default)]
    pid: i64,
    #[serde(rename = "StartedAt", default)]
    started_at: String,
}

impl RecordedState {
    /// Returns the state by the rule of moby's `State.StateString` (`daemon/container/state.go`).
    pub(super) fn state(&self) -> State {
        match self {
            Self {
                running: true,
                paused: true,
                ..
            } => State::Paused,
            Self {
                running: true,
                restarting: true,
                ..
            } => State::Restarting,
            Self { running: true, .. } => State::Running,
            Self { removing: true, .. } => State::Removing,
            Self { dead: true, .. } => State::Dead,
            // Go writes its zero time for "never".
            Self { started_at, .. } if started_at.starts_with("0001-01-01T") => State::Created,
            Self { .. } => State::Exited,
        }
    }

    /// Returns the process id that was written down, if one was.
    pub(super) fn pid(&self) -> Option<u32> {
        u32::try_from(self.pid).ok().filter(|pid| *pid != 0)
    }
}

/// `containers/<id>/hostconfig.json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct HostConfig {
    /// `source:destination[:options]`.
    #[serde(rename = "Binds", default)]
    pub(super) binds: Option<Vec<String>>,
    #[serde(rename = "Mounts", default)]
    pub(super) mounts: Option<Vec<MountRequest>>,
    /// Options by destination.
    #[serde(rename = "Tmpfs", default)]
    pub(super) tmpfs: Option<BTreeMap<String, IgnoredAny>>,
    /// Whether Docker's own init is the first process; the daemon decides when absent.
    #[serde(rename = "Init", default)]
    pub(super) init: Option<bool>,
}

/// A mount as `docker run --mount` asks for it.
#[derive(Debug, Deserialize)]
pub(super) struct MountRequest {
    #[serde(rename = "Type", default)]
    pub(super) kind: String,
    #[serde(rename = "Target", default)]
    pub(super) target: String,
}

/// `/etc/docker/daemon.json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct DaemonConfig {
    #[serde(rename = "data-root", default)]
    data_root: Option<String>,
    /// The name of `data-root` before Docker 17.05.
    #[serde(default)]
    graph: Option<String>,
    /// Where the daemon listens.
    #[serde(default)]
    hosts: Vec<String>,
}

impl DaemonConfig {
    /// Returns where the daemon was told to keep its data.
    pub(super) fn data_root(&self) -> Option<&str> {
        self.data_root.as_deref().or(self.graph.as_deref())
    }

    /// Returns where the daemon was told to listen.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(String::as_str)
    }
}

impl Record {
    /// Returns the digest that names the image.
    pub(super) fn image_id(&self) -> Option<ImageId> {
        self.image.parse().ok()
    }
}
