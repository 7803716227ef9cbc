//! The layers of an image as a runtime keeps them: files, and what their stream can be rebuilt from.

use std::path::PathBuf;
use std::sync::Arc;

use plimsoll_core::model::{Bytes, DiffId, Gap, Image, RuntimeKind};

use super::{BtrfsStack, Layer, MarkNamespace, PlainStack};
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
    /// The mode that the storage driver gives the root of a layer, whatever its stream says.
    pub root_mode: Option<u16>,
    /// Its tar-split records.
    pub records: TarSplit,
    /// About how many bytes its files have, for a sign of progress; it proves nothing.
    pub size: u64,
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
    /// Copies.
    Copy(PlainStack),
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
