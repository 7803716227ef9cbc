//! RESOLVE: where the two sides of a container lie.
//!
//! A runtime adapter fills these in; an engine reads them. Every directory is a handle that was
//! opened beneath the runtime's own root with no link followed, so an engine never sees a host path
//! that a container could have influenced.

pub mod btrfs;
pub mod overlay;
pub mod snapshot;
pub mod stored;

use std::collections::HashSet;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use plimsoll_core::model::{DiffId, RuntimePath};

use crate::fs::{Dir, Stat};

/// Where a container's two sides lie.
#[derive(Debug)]
pub enum LayerStack {
    /// Overlayfs: a writable directory over read-only ones.
    Overlay(OverlayStack),
    /// Btrfs: a subvolume that is a snapshot of the image's.
    Btrfs(BtrfsStack),
    /// Two whole trees.
    Plain(PlainStack),
}

/// One directory of an overlay.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The directory.
    pub dir: Arc<Dir>,
    /// Its path on the host, to show.
    pub path: PathBuf,
    /// Which image layer it is, where that is known.
    pub diff_id: Option<DiffId>,
}

/// The layers of an overlay mount, or of what would be mounted when the container starts.
#[derive(Debug)]
pub struct OverlayStack {
    /// The writable layer.
    pub upper: Layer,
    /// The index of the work directory, where it has one: it names hard links that were written to.
    pub index: Option<Arc<Dir>>,
    /// Layers that the runtime itself put between image and container (Docker's `-init`), top first.
    pub injected: Vec<Layer>,
    /// What those layers may hold.
    pub injected_paths: Vec<RuntimePath>,
    /// The image's layers, top first.
    pub image: Vec<Arc<Layer>>,
    /// Data-only lower layers, top first: reached by metacopy redirects alone.
    pub data_only: Vec<Layer>,
    /// Which attribute namespace carries the overlay's marks.
    pub marks: MarkNamespace,
    /// Files of the writable layer that more may have been written to than lies there.
    pub held: Held,
}

/// Files of a layer that processes may have written to without its having been told.
#[derive(Debug, Default)]
pub struct Held {
    /// Device and inode of each that is known.
    pub files: HashSet<((u32, u32), u64)>,
    /// Whether any other file may be one.
    pub any: bool,
}

impl Held {
    /// Whether a file may be one of them.
    #[must_use]
    pub fn has(&self, file: &Stat) -> bool {
        self.any || self.files.contains(&(file.dev, file.ino))
    }
}

/// Takes what opening the index of a work directory came to: most mounts have none.
///
/// # Errors
/// Why it cannot be opened although it is there.
pub fn index(opened: rustix::io::Result<Dir>) -> rustix::io::Result<Option<Arc<Dir>>> {
    match opened {
        Ok(dir) => Ok(Some(Arc::new(dir))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Where an overlay keeps its marks (kernel `Documentation/filesystems/overlayfs.rst`, "User xattr").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkNamespace {
    /// `trusted.overlay.`
    Trusted,
    /// `user.overlay.`, with the mount option `userxattr`.
    User,
    /// Those of the program fuse-overlayfs (its `main.c`): an attribute of one of three names, and files
    /// whose names begin with `.wh.`. It knows no redirects, no copies of the metadata alone and no index.
    Fuse {
        /// Whether the program sees attributes of `trusted.`: not where a user runs it.
        trusted: bool,
    },
}

impl MarkNamespace {
    /// Returns the prefix of the names of the kernel's marks; `None` for those of fuse-overlayfs.
    #[must_use]
    pub fn prefix(self) -> Option<&'static [u8]> {
        match self {
            Self::Trusted => Some(b"trusted.overlay."),
            Self::User => Some(b"user.overlay."),
            Self::Fuse { .. } => None,
        }
    }

    /// Whether they are those of fuse-overlayfs.
    #[must_use]
    pub fn is_fuse(self) -> bool {
        matches!(self, Self::Fuse { .. })
    }
}

/// The subvolumes of a container on Btrfs.
#[derive(Debug)]
pub struct BtrfsStack {
    /// A directory of the same file system that is not inside the container: every tree is read
    /// through it, so that nothing is opened that the container could watch.
    pub anchor: Arc<Dir>,
    /// The container's subvolume.
    pub container: Subvolume,
    /// Subvolume that the runtime put between image and container (Docker's `-init`).
    pub injected: Option<Subvolume>,
    /// What that subvolume may differ in from the image's.
    pub injected_paths: Vec<RuntimePath>,
    /// The subvolume of the image's top layer.
    pub image: Subvolume,
}

impl BtrfsStack {
    /// Returns the two trees as plain ones: what the runtime injected is the reference where there is
    /// such a thing. This opens the container's directory, which a process in it can see.
    ///
    /// # Errors
    /// Those of opening them.
    pub fn as_plain(&self) -> std::io::Result<PlainStack> {
        let open = |subvolume: &Subvolume| -> std::io::Result<Layer> {
            let dir = Dir::open(&subvolume.path)?;
            if plimsoll_syscall::btrfs::tree_of(dir.as_fd())? != subvolume.id {
                let path = plimsoll_core::model::escape(subvolume.path.as_os_str().as_bytes());
                let why = format!("{path} is not subvolume {}", subvolume.id);
                return Err(std::io::Error::other(why));
            }
            Ok(Layer {
                dir: Arc::new(dir),
                path: subvolume.path.clone(),
                diff_id: None,
            })
        };
        let image = open(self.injected.as_ref().unwrap_or(&self.image))?;
        Ok(PlainStack {
            image,
            container: open(&self.container)?,
            injected: None,
        })
    }
}

/// A Btrfs subvolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subvolume {
    /// The id of its tree.
    pub id: u64,
    /// Its path on the host: to show, and for the digest engine to open.
    pub path: PathBuf,
}

/// Two whole trees.
#[derive(Debug)]
pub struct PlainStack {
    /// The image's tree, or that of the layer that the runtime put over it.
    pub image: Layer,
    /// The container's tree.
    pub container: Layer,
    /// The layer that the runtime put between image and container, where there is one.
    pub injected: Option<Box<InjectedTree>>,
}

/// The tree of a layer that a runtime put between image and container.
#[derive(Debug)]
pub struct InjectedTree {
    /// The image's tree, and in the container's place that layer's.
    pub over_image: PlainStack,
    /// What they may differ in.
    pub paths: Vec<RuntimePath>,
}
