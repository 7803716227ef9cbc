//! The layers of an image as a runtime keeps them: files, and what these are held against.

use std::path::PathBuf;
use std::sync::Arc;

use plimsoll_core::model::{Bytes, DiffId, Digest, Gap, Image, RuntimeKind, RuntimePath};

use super::{BtrfsStack, Layer, LayerStack, MarkNamespace, PlainStack};
use crate::fs::Dir;

/// An image that a runtime keeps.
#[derive(Debug)]
pub struct StoredImage {
    /// Who keeps it.
    pub runtime: RuntimeKind,
    /// Names that lead to it, sorted.
    pub names: Vec<Bytes>,
    /// Its digests.
    pub image: Image,
    /// The digests of every manifest of it, and of every index that leads to it, that the store keeps and
    /// that were proved.
    pub manifests: Vec<Digest>,
    /// Its layers, the base first; fewer than it has where some were not found.
    pub layers: Vec<Arc<StoredLayer>>,
    /// What could not be seen of it.
    pub gaps: Vec<Gap>,
}

/// A layer of an image.
#[derive(Debug)]
pub struct StoredLayer {
    /// The digest of its tar stream, uncompressed.
    pub diff_id: DiffId,
    /// Its files.
    pub files: Arc<Layer>,
    /// How they lie there.
    pub form: Form,
    /// Where its root directory has its attributes from.
    pub root: LayerRoot,
    /// What it is held against.
    pub reference: Reference,
    /// What the runtime put between it and the layer beneath.
    pub between: Vec<Between>,
    /// Copies of it and all beneath, with other owners, for user namespaces.
    pub copies: Vec<Copied>,
    /// Whether it was unpacked by somebody who cannot make devices, so that it lacks those of its stream.
    pub lacks_devices: bool,
    /// About how many bytes its files have, for a sign of progress; it proves nothing.
    pub size: u64,
}

/// Files that a runtime put between two layers of an image, and that no digest tells of: Docker, where
/// containerd keeps its images, leaves the init layer of the container that a layer was made in beneath that
/// layer.
#[derive(Debug)]
pub struct Between {
    /// Its files.
    pub files: Arc<Layer>,
    /// The same in the container's place, over all that lies beneath it.
    pub stack: LayerStack,
    /// What it may hold.
    pub paths: Vec<RuntimePath>,
}

/// A copy of a layer and all beneath, with other owners, or one of the directories that it lies in.
#[derive(Debug)]
pub struct Copied {
    /// The copy in the container's place, its owners seen so that nothing differs.
    pub stack: LayerStack,
    /// Whether its own root directory is what is seen as the root.
    pub shows_root: bool,
}

/// How the files of a layer lie on disk.
#[derive(Debug)]
pub enum Form {
    /// A directory of an overlay: its own files alone, with these marks.
    Own(MarkNamespace),
    /// A whole tree: its files over those of the layers beneath, which are here as well; nothing is
    /// beneath the base.
    Whole(Option<Beneath>),
}

/// A whole tree and the one that it was made from, which stands in the image's place.
#[derive(Debug)]
pub enum Beneath {
    /// Subvolumes, one a snapshot of the other.
    Subvolume(BtrfsStack),
    /// Copies that lack extended attributes.
    Copy(PlainStack),
    /// Trees that are one like the other in everything: whole copies, and subvolumes of which nothing tells
    /// that one is a snapshot of the other.
    Tree(PlainStack),
}

/// Where the root directory of a layer has its attributes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerRoot {
    /// From its stream, but for this mode, which the storage driver may have given it.
    Stream {
        /// The mode.
        or_mode: Option<u16>,
    },
    /// From the snapshotter, which makes it with this mode and for root: what the stream says of it is left
    /// out (containerd `pkg/archive/tar.go`, `applyNaive`).
    Snapshotter {
        /// The mode.
        mode: u16,
    },
}

/// What a layer is held against.
#[derive(Debug)]
pub enum Reference {
    /// All of its stream but the contents of files.
    TarSplit(TarSplit),
    /// Its stream.
    Blob(Blob),
    /// Nothing is kept, and this is why: one clause.
    Nothing(String),
}

/// A blob of a content store: a tar stream, compressed or not.
#[derive(Debug)]
pub struct Blob {
    /// The directory that it lies in, where its name is the digest in hexadecimal digits.
    pub dir: Arc<Dir>,
    /// The digest that its bytes must have.
    pub digest: Digest,
}

/// Records of tar-split: a file, gzipped.
#[derive(Debug)]
pub struct TarSplit {
    /// The directory that it lies in.
    pub dir: Dir,
    /// Its name.
    pub name: String,
    /// Its path on the host, to show.
    pub path: PathBuf,
}
