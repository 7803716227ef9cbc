//! The rootfs of any process: what is mounted at its root, whoever started it.

use std::rc::Rc;

use plimsoll_core::model::{Container, ContainerId, RuntimeKind, State};

use super::overlay_mount::OverlayMount;
use super::subvolume::Subvolume;
use super::{Runtime, RuntimeError};
use crate::layers::overlay::Root as Seen;
use crate::layers::snapshot;
use crate::proc::root::{self, Root, RootError};
use crate::proc::{cgroup, life};

/// The root of a process that is not the host's own.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    root: Root,
}

impl Process {
    /// Looks at the root of process `pid`.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when there is no such process, it sees the host's own root, or its root
    /// is not that of a mount.
    pub fn find(pid: u32) -> Result<Self, RuntimeError> {
        let unavailable = |why: String| Err(RuntimeError::Unavailable(why));
        let root = match root::of(pid) {
            Ok(root) => root,
            Err(RootError::Gone) => {
                return unavailable(match life::exists(pid) {
                    true => format!("process {pid} has ended, it has no root any more"),
                    false => format!("there is no process {pid}"),
                });
            }
            Err(RootError::Beneath) => {
                return unavailable(format!(
                    "the root of process {pid} is a directory within a mount, as chroot makes it, or was unmounted: nothing tells what it was made of: name the two trees, tree:IMAGE:/proc/{pid}/root"
                ));
            }
            Err(RootError::Unreadable(why)) => {
                return unavailable(format!(
                    "process {pid} cannot be looked at: {why}: run as root"
                ));
            }
        };
        match (root::identity("self"), root::identity(&pid.to_string())) {
            (Ok(own), Ok(its)) if its.is_directory_of(own) => unavailable(format!(
                "process {pid} sees the host's own root: it runs in no container"
            )),
            (Ok(_), Ok(_)) => Ok(Self { pid, root }),
            (Err(errno), _) | (_, Err(errno)) => unavailable(format!(
                "process {pid} cannot be looked at: {}",
                std::io::Error::from(errno)
            )),
        }
    }

    /// Takes a process whose root was looked at already.
    pub(super) fn of(pid: u32, root: Root) -> Self {
        Self { pid, root }
    }

    /// Whether the root of another process is the same part of the same file system.
    pub(super) fn shares_root_with(&self, pid: u32) -> bool {
        root::of(pid).is_ok_and(|other| {
            (&other.mount.device, &other.mount.root)
                == (&self.root.mount.device, &self.root.mount.root)
        })
    }

    /// Returns it as a container that no runtime knows.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when its root is no overlay and no Btrfs subvolume.
    pub(super) fn unknown(self) -> Result<Unknown, RuntimeError> {
        let Self { pid, root } = self;
        let container = Container {
            name: Some(format!("pid:{pid}")),
            state: match cgroup::is_frozen_by_any(pid) {
                true => State::Paused,
                false => State::Running,
            },
            pid: Some(pid),
            ..Container::new(
                ContainerId::new(cgroup::hexadecimal_id(pid).unwrap_or(format!("pid:{pid}"))),
                match root.mount.fs_type.as_bytes() {
                    b"overlay" => RuntimeKind::Overlay,
                    _ => RuntimeKind::Tree,
                },
            )
        };
        let shown = format!("the root of process {pid}");
        match root.mount.fs_type.as_bytes() {
            b"overlay" => {
                let ancestors = root::of_ancestors(pid).into_iter();
                let roots = std::iter::once(Seen::Own)
                    .chain(ancestors.map(|(dir, path)| Seen::Of(dir, path)))
                    .collect();
                let Root { mount, dir } = root;
                OverlayMount::of(container, shown, &mount, dir, roots)
                    .map(|overlay| Unknown::Overlay(Rc::new(overlay)))
            }
            b"btrfs" if snapshot::is_root(&root.dir) => Subvolume::of(container, shown, root.mount)
                .map(|subvolume| Unknown::Subvolume(Rc::new(subvolume))),
            b"btrfs" => Err(RuntimeError::Unavailable(format!(
                "{shown} is {} of a Btrfs subvolume, not a subvolume of its own: nothing tells what it was made of: name the two trees, tree:IMAGE:/proc/{pid}/root",
                root.mount.root
            ))),
            _ if root.mount.is_fuse_overlay() => Err(of_a_program(&shown)),
            _ => Err(RuntimeError::Unavailable(format!(
                "{shown} is a directory on {}, which keeps nothing to compare it by: name the two trees, tree:IMAGE:/proc/{pid}/root",
                root.mount.fs_type
            ))),
        }
    }
}

/// Why nothing can be told of an overlay that fuse-overlayfs mounted and no runtime knows: the mount does not
/// tell its layers, and what the program was started with says what it was to do, not what it does.
pub(super) fn of_a_program(shown: &str) -> RuntimeError {
    RuntimeError::Unavailable(format!(
        "{shown} is mounted by a program (fuse-overlayfs), whose mount does not tell its layers, and no store that was found has it: name its store with --data-root, or two trees, tree:IMAGE:CONTAINER"
    ))
}

/// A container that no runtime knows.
#[derive(Debug)]
pub(super) enum Unknown {
    Overlay(Rc<OverlayMount>),
    Subvolume(Rc<Subvolume>),
}

impl Unknown {
    /// Returns it as the runtime of itself.
    pub(super) fn into_runtime(self) -> Rc<dyn Runtime> {
        match self {
            Self::Overlay(overlay) => overlay,
            Self::Subvolume(subvolume) => subvolume,
        }
    }
}
