//! What is mounted over a rootfs: the paths at which processes see something else than the rootfs has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bytes, RootPath};

/// Who put a mount where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MountOrigin {
    /// The runtime, as it does for every container: `/proc`, `/etc/resolv.conf`.
    Runtime,
    /// The container's configuration: `docker run -v`, `--tmpfs`.
    Declared,
    /// Neither: made inside, or from outside later.
    Foreign,
}

impl MountOrigin {
    /// Returns the word used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Declared => "declared",
            Self::Foreign => "foreign",
        }
    }
}

/// A mount over the rootfs, in the mount namespace of one of the container's processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Where, inside the container; what the rootfs has there and beneath is not seen.
    pub path: RootPath,
    /// Type of the file system.
    pub fs_type: Bytes,
    /// What was mounted, as the kernel gives it: a device, or any text.
    pub source: Bytes,
    /// Path within that file system that is seen; `/` but for bind mounts and subvolumes.
    pub root: Bytes,
    /// Whether nothing can be written through it.
    pub read_only: bool,
    /// Who put it there.
    pub origin: MountOrigin,
    /// A process that sees it, by its number on the host.
    pub pid: u32,
}

/// A mount that a container is expected to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedMount {
    /// Where, inside the container.
    pub path: RootPath,
    /// Whether the runtime makes it for every container, or the configuration asks for it.
    pub origin: MountOrigin,
    /// What lies there then.
    pub what: ExpectedSource,
}

/// What an [`ExpectedMount`] shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedSource {
    /// A file system of its own, of this type.
    FileSystem(&'static str),
    /// This path of the host.
    HostPath(Bytes),
    /// Something that the records do not say: the volume of a plugin.
    Unknown,
}
