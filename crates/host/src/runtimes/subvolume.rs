//! A Btrfs subvolume that is a snapshot, named by its path or by a process that has it as its root: the
//! file system itself keeps which subvolume it was made of.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use plimsoll_core::model::{Container, ContainerId, Gap, RuntimeKind, escape};

use super::{Located, Runtime, RuntimeError};
use crate::fs::Dir;
use crate::layers::btrfs::Subvolumes;
use crate::layers::snapshot::{self, Mounted, SnapshotError};
use crate::layers::{BtrfsStack, LayerStack};
use crate::proc::mountinfo::{self, Mount};

/// A subvolume, to be compared with the one that it is a snapshot of.
#[derive(Debug)]
pub struct Subvolume {
    container: Container,
    /// What it is, for people.
    shown: String,
    place: Place,
}

/// Where a subvolume is.
#[derive(Debug)]
enum Place {
    /// At this path, an entry of a directory.
    Entry(PathBuf),
    /// Mounted.
    Mount(Mount),
}

impl Subvolume {
    /// Names the subvolume at a path, or mounted there; nothing of it is opened.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when there is none.
    pub fn at(path: &Path) -> Result<Self, RuntimeError> {
        let given = escape(path.as_os_str().as_bytes()).into_owned();
        let unavailable = |why: String| RuntimeError::Unavailable(format!("{given}: {why}"));
        let resolved = std::fs::canonicalize(path).map_err(|e| unavailable(e.to_string()))?;
        let look = Dir::look(&resolved)
            .map_err(|errno| unavailable(std::io::Error::from(errno).to_string()))?;
        if !snapshot::is_root(&look) {
            return Err(unavailable(SnapshotError::NotASubvolume.to_string()));
        }
        let point = resolved.as_os_str().as_bytes();
        let mounted = mounts()?
            .into_iter()
            .rfind(|mount| mount.mount_point.as_bytes() == point);
        let path = escape(point).into_owned();
        let container = Container {
            name: Some(path.clone()),
            ..Container::new(ContainerId::new(path.clone()), RuntimeKind::Tree)
        };
        let shown = format!("the subvolume at {path}");
        match mounted {
            Some(mount) => Self::of(container, shown, mount),
            None => Ok(Self {
                container,
                shown,
                place: Place::Entry(resolved),
            }),
        }
    }

    /// Takes a subvolume that is mounted as the root of `container`.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when something else is mounted there.
    pub(super) fn of(
        container: Container,
        shown: String,
        mount: Mount,
    ) -> Result<Self, RuntimeError> {
        if mount.fs_type.as_bytes() != b"btrfs" {
            return Err(RuntimeError::Unavailable(format!(
                "{shown}: {}",
                SnapshotError::NotASubvolume
            )));
        }
        Ok(Self {
            container,
            shown,
            place: Place::Mount(mount),
        })
    }

    fn stack(&self) -> Result<BtrfsStack, RuntimeError> {
        let unavailable = |error: &dyn std::fmt::Display| {
            RuntimeError::Unavailable(format!(
                "{}: {error}: name the two trees, tree:IMAGE:CONTAINER",
                self.shown
            ))
        };
        let here = mounts()?;
        let found = match &self.place {
            Place::Mount(mount) => {
                let id = mountinfo::subvolume_option(mount.super_options.as_bytes())
                    .ok_or_else(|| unavailable(&SnapshotError::NotASubvolume))?;
                snapshot::of_mount(&Mounted {
                    here: &here,
                    device: mount.device.as_bytes(),
                    id,
                    root: mount.root.as_bytes(),
                })
            }
            Place::Entry(path) => {
                let (parent, name) = path
                    .parent()
                    .zip(path.file_name())
                    .ok_or_else(|| unavailable(&SnapshotError::NotASubvolume))?;
                let anchor =
                    Dir::open(parent).map_err(|errno| unavailable(&std::io::Error::from(errno)))?;
                let found = Subvolumes::of(&anchor)
                    .and_then(|mut there| there.named(name.as_bytes(), path.clone()))
                    .map_err(|error| unavailable(&error))?;
                // What holds the path is the mount with the longest mount point above it.
                let holder = here
                    .iter()
                    .filter(|mount| {
                        let point = std::ffi::OsStr::from_bytes(mount.mount_point.as_bytes());
                        path.starts_with(point)
                    })
                    .max_by_key(|mount| mount.mount_point.as_bytes().len());
                let device = holder.map_or(&b""[..], |mount| mount.device.as_bytes());
                snapshot::of(anchor, found.id, &here, device, Some(path.clone()))
            }
        };
        found.map_err(|error| unavailable(&error))
    }
}

impl Runtime for Subvolume {
    fn describe(&self) -> String {
        self.shown.clone()
    }

    fn containers(&self) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        let mut container = self.container.clone();
        // What it is compared with is told where it is located; here only its name is.
        if let Ok(stack) = self.stack() {
            let path = stack.image.path.as_os_str().as_bytes();
            container.image.reference = Some(path.into());
        }
        Ok((vec![container], Vec::new()))
    }

    fn locate(&self, _: &Container, _: bool) -> Result<Located, RuntimeError> {
        Ok(Located {
            stack: LayerStack::Btrfs(self.stack()?),
            mounts: Vec::new(),
            gaps: Vec::new(),
        })
    }
}

/// Returns what this process has mounted.
fn mounts() -> Result<Vec<Mount>, RuntimeError> {
    crate::fs::read_small_bytes("/proc/self/mountinfo")
        .map(|text| mountinfo::parse(&text))
        .map_err(|e| RuntimeError::Unavailable(format!("/proc/self/mountinfo: {e}")))
}
