//! Which code a container's processes run that is not its image's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Bytes;

/// Where executable memory of a process comes from, when it is not an unchanged file of the image.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum CodeOrigin {
    /// A file of the rootfs that differs from the image; it stands among the changes.
    Changed,
    /// A file of something that is mounted over the rootfs; the mount stands among the mounts.
    Volume,
    /// A file of memory that the runtime gives every container: `/dev`, `/dev/shm`.
    Scratch,
    /// Memory that never was a file (`memfd_create(2)`).
    Memfd,
    /// A file that has no name any more.
    Deleted,
    /// A file of a mount that is in none of the container's mount namespaces.
    Detached,
}

impl CodeOrigin {
    /// Returns the word used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Volume => "volume",
            Self::Scratch => "scratch",
            Self::Memfd => "memfd",
            Self::Deleted => "deleted",
            Self::Detached => "detached",
        }
    }

    /// Whether nothing else in a measurement tells of this code, so that it is judged by itself.
    #[must_use]
    pub fn is_hidden(self) -> bool {
        matches!(
            self,
            Self::Scratch | Self::Memfd | Self::Deleted | Self::Detached
        )
    }
}

/// Code that is not the image's, and who runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Code {
    /// Its name as the kernel gives it: a path inside the container, `/memfd:NAME`, or the path that
    /// a deleted file had.
    pub path: Bytes,
    /// Where it comes from.
    pub origin: CodeOrigin,
    /// Whether it is the program that a process runs; else a library or another part of one.
    pub program: bool,
    /// The first process that runs it, by its number on the host.
    pub pid: u32,
    /// How many of the container's processes run it.
    pub processes: u32,
}
