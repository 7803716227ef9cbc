//! Which container a measurement is about.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bytes, Change, ChangeKind, DiffId, Digest, FileType, ImageId, RootPath};

/// The identifier that a runtime gave to a container: for Docker 64 hexadecimal digits.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct ContainerId(String);

impl ContainerId {
    /// Returns the identifier; the adapter has checked its form.
    #[must_use]
    pub fn new(id: String) -> Self {
        Self(id)
    }

    /// Returns it whole.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns its first 12 characters, as runtimes show it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who runs a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// Docker Engine.
    Docker,
    /// containerd itself, asked by somebody else than Docker.
    Containerd,
    /// Podman.
    Podman,
    /// CRI-O.
    #[serde(rename = "cri-o")]
    CriO,
    /// Nobody known: an overlay mount named by its mount point.
    Overlay,
    /// Nobody: two trees named by their paths.
    Tree,
}

impl RuntimeKind {
    /// Whether it keeps records of its containers: which processes are theirs, what is mounted in them.
    #[must_use]
    pub fn has_records(self) -> bool {
        !matches!(self, Self::Overlay | Self::Tree)
    }

    /// Returns the word used in reports, and before the colon of a target.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::Podman => "podman",
            Self::CriO => "cri-o",
            Self::Overlay => "overlay",
            Self::Tree => "tree",
        }
    }
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Made, never started.
    Created,
    /// Its processes run.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Between two runs.
    Restarting,
    /// Its processes ended.
    Exited,
    /// The runtime is removing it.
    Removing,
    /// The runtime gave it up.
    Dead,
    /// The record says one thing and the process table another, or there is no record.
    Unknown,
}

impl State {
    /// Returns the word used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }
}

/// The image that a container was created from, by the container's own record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Image {
    /// The name that it was asked for by. It proves nothing: a name can be moved.
    pub reference: Option<Bytes>,
    /// Digest of its configuration.
    pub id: Option<ImageId>,
    /// Digest of its manifest, where the store keeps it.
    pub manifest: Option<Digest>,
    /// Its layers, the base first.
    pub layers: Vec<DiffId>,
}

/// The place of a container in a Kubernetes cluster, by the record that its runtime keeps of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Pod {
    /// The namespace of the pod.
    pub namespace: String,
    /// The name of the pod.
    pub name: String,
    /// The identifier of the pod in its cluster, where the record has it.
    pub uid: Option<String>,
    /// The name of the container in the pod; null for the sandbox that holds a pod's namespaces.
    pub container: Option<String>,
    /// The labels of the container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A container, in any state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its identifier.
    pub id: ContainerId,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Who runs it.
    pub runtime: RuntimeKind,
    /// The namespace that containerd keeps it in.
    pub namespace: Option<String>,
    /// The user whose own store it lies in, where that is not root's.
    pub user: Option<u32>,
    /// The pod that it belongs to.
    pub pod: Option<Pod>,
    /// What it is doing.
    pub state: State,
    /// The image it was created from.
    pub image: Image,
    /// The process id of its first process on the host, while it has one.
    pub pid: Option<u32>,
    /// Paths that the runtime itself may make in the container's layer: the working directory,
    /// mount targets. An added path that is exactly this is not held against the container.
    pub runtime_paths: Vec<RuntimePath>,
}

impl Container {
    /// Returns a container of which no more is known than who runs it.
    #[must_use]
    pub fn new(id: ContainerId, runtime: RuntimeKind) -> Self {
        Self {
            id,
            name: None,
            runtime,
            namespace: None,
            user: None,
            pod: None,
            state: State::Unknown,
            image: Image::default(),
            pid: None,
            runtime_paths: Vec::new(),
        }
    }

    /// Whether it has processes.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Running | State::Paused)
    }

    /// Whether it is the sandbox of a pod: it holds the pod's namespaces and runs nothing of it.
    #[must_use]
    pub fn is_sandbox(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.container.is_none())
    }

    /// Whether this is its name or its whole id; the id of containerd's may have its namespace before
    /// it, and a slash.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        let id = self.id.as_str();
        let in_namespace = |namespace: &String| {
            let rest = name.strip_prefix(namespace.as_str());
            rest.and_then(|rest| rest.strip_prefix('/')) == Some(id)
        };
        self.name.as_deref() == Some(name)
            || id == name
            || self.namespace.as_ref().is_some_and(in_namespace)
    }

    /// Returns its name, or the short form of its id.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.id.short())
    }
}

/// A path that a runtime itself makes between image and container, and the exact form it has then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimePath {
    /// Where.
    pub path: RootPath,
    /// In which form.
    pub kind: RuntimePathKind,
}

impl RuntimePath {
    /// Whether it is the root directory, which every image has.
    #[must_use]
    pub fn is_root(&self) -> bool {
        let form = match &self.kind {
            RuntimePathKind::OwnedBy { form, .. } => form,
            form => form,
        };
        matches!(form, RuntimePathKind::Root { .. })
    }

    /// Whether a change is nothing but what the runtime makes here: the path is new, or stands where
    /// the image had something else, and now has exactly this form.
    #[must_use]
    pub fn covers(&self, change: &Change) -> bool {
        if change.path != self.path
            || change.kind == ChangeKind::Deleted
            || !change.xattrs.is_empty()
        {
            return false;
        }
        let Some(after) = change.after() else {
            return false;
        };
        let (owner, form) = match &self.kind {
            RuntimePathKind::OwnedBy { uid, gid, form } => ((*uid, *gid), &**form),
            form => ((0, 0), form),
        };
        let plain = (after.uid, after.gid) == owner && !after.immutable && !after.append_only;
        plain
            && match form {
                RuntimePathKind::Directory => {
                    after.file_type == FileType::Directory
                        && after.mode == 0o755
                        && change.kind == ChangeKind::Added
                }
                RuntimePathKind::EmptyFile => {
                    after.file_type == FileType::File
                        && after.size == 0
                        && after.links == 1
                        && (after.mode == 0o755 || after.mode == 0o644)
                }
                RuntimePathKind::Symlink(target) => {
                    after.file_type == FileType::Symlink && after.target.as_ref() == Some(target)
                }
                RuntimePathKind::Root { mode } => {
                    let given = matches!(self.kind, RuntimePathKind::OwnedBy { .. });
                    change.before().is_some_and(|before| {
                        let kept = (before.uid, before.gid) == (after.uid, after.gid);
                        before.file_type == FileType::Directory
                            && after.file_type == FileType::Directory
                            && after.mode == *mode
                            && (kept || given)
                    })
                }
                RuntimePathKind::OwnedBy { .. } => false,
            }
    }
}

/// The form of a [`RuntimePath`]. Anything else at that path is an ordinary change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimePathKind {
    /// A directory owned by root, mode 0755, made where the image has none.
    Directory,
    /// An empty regular file, executable or not, owned by root: the target of a bind mount.
    EmptyFile,
    /// A symbolic link with this target, owned by root.
    Symlink(Bytes),
    /// The directory that the image has there, to which the driver gives these permissions, whatever the
    /// image says, and the image's owner, or the one of [`Self::OwnedBy`].
    Root {
        /// The permission bits.
        mode: u16,
    },
    /// One of the forms above, owned by another user of the host than root: by the one who is root in
    /// the container's user namespace, or whom the container runs as.
    OwnedBy {
        /// The user, as on disk.
        uid: u32,
        /// The group, as on disk.
        gid: u32,
        /// The form.
        form: Box<RuntimePathKind>,
    },
}
