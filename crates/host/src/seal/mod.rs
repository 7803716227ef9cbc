//! TRUST: layers remembered as verified, by what only raw disk access can forge.
//!
//! A seal is noted before a layer is verified and compared after: what was verified is what was noted. A
//! check then looks whether the layer still is as it was noted, which reads no content.

mod entries;
mod items;
mod mark;
mod prove;
mod record;
mod store;

use std::collections::HashSet;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use plimsoll_core::Verdict;
use plimsoll_core::model::{ChainId, DiffId, Gap, RootPath, Timestamp};
use plimsoll_core::trust::chain_ids;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use self::mark::{Mark, Place};
pub use self::prove::{Layers, Prover};
use self::record::Record;
pub use self::store::{Store, StoreError};
use crate::fs::btrfs::TreeError;
use crate::image::{self, Verified};
use crate::layers::Layer;
use crate::layers::stored::{Form, StoredImage, StoredLayer};
use crate::parallel;

/// A SHA-256.
type Hash = [u8; 32];

/// Why nothing can be noted of a layer that a later look could rely on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsealable {
    /// Somebody may yet store something in it.
    #[error("{0} is open for writing: close what writes to the layer, and seal it again")]
    Written(RootPath),
    /// Something in it lies on another file system.
    #[error("something is mounted at {0}: the layer lies hidden beneath it")]
    MountedIn(RootPath),
    /// It was touched later than now.
    #[error(
        "something in it was touched at {}, which is yet to come: the clock was set back, or is wrong", .0.seconds
    )]
    Clock(Timestamp),
    /// It is touched all the time.
    #[error("it is being written to")]
    Busy,
    /// It is another one than before it was verified.
    #[error("it was changed while it was verified")]
    Changed,
    /// One beneath it is not what its digest says.
    #[error("a layer beneath it could not be verified")]
    Beneath,
    /// Its file system does not tell one file from another that took its number.
    #[error("its file system gives its files no handles")]
    NoHandles,
    /// Something of it cannot be read.
    #[error("{}: {}", .0, std::io::Error::from(*.1))]
    Unreadable(RootPath, Errno),
    /// What is pending cannot be written out.
    #[error("what is pending on its file system cannot be written out: {}", std::io::Error::from(*.0))]
    Flush(Errno),
    /// Its subvolume cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The seal cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a layer was verified to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Identity {
    /// The files of one layer.
    Layer(DiffId),
    /// A whole tree: those of all layers up to one.
    Chain(ChainId),
    /// What a runtime put beneath this layer, which is verified along with it.
    Beneath(DiffId),
}

impl Identity {
    fn hash(&self) -> Hash {
        let text = match self {
            Self::Layer(id) => format!("layer {id}"),
            Self::Chain(id) => format!("chain {id}"),
            Self::Beneath(id) => format!("beneath {id}"),
        };
        Sha256::digest(text.as_bytes()).into()
    }
}

/// Images and layers as they were verified, and which of the layers are sealed now.
#[derive(Debug)]
pub struct Sealed {
    /// The same as of `image verify`. A layer that is what its digest says and could not be sealed has a
    /// gap that says why.
    pub verified: Verified,
    /// Whether it was sealed, for each layer, in their order.
    pub sealed: Vec<bool>,
}

/// Verifies the layers of images and seals those that are what their digests say, with so many threads;
/// tells `progress` of bytes as they are read.
#[must_use]
pub fn seal(
    images: Vec<StoredImage>,
    store: &Store,
    threads: NonZero<usize>,
    progress: &(dyn Fn(u64) + Sync),
) -> Sealed {
    let subjects = subjects(&images);
    let order: Vec<usize> = (0..subjects.len()).collect();
    let noted = parallel::each(&order, subjects.len(), threads, |at| {
        Some(subjects.get(at)?.place().note())
    });
    let mut verified = image::verify(images, threads, progress);
    let intact = verified.layers.iter();
    let intact = intact.filter(|layer| layer.verdict() == Verdict::Intact);
    let intact: HashSet<Box<[u8]>> = intact.map(|layer| layer.path.as_bytes().into()).collect();
    let is_intact = |path: &Path| intact.contains(path.as_os_str().as_bytes());
    let kept = parallel::each(&order, subjects.len(), threads, |at| {
        let subject = subjects.get(at)?;
        let own = subject.needs.first()?;
        if !is_intact(own) {
            return None;
        }
        let mark = match noted.get(at)?.as_ref()?.as_ref()? {
            Ok(mark) => mark,
            Err(error) => return Some(Err(error.clone())),
        };
        Some(match subject.needs.iter().all(|path| is_intact(path)) {
            true => subject.keep(mark, store),
            false => Err(Unsealable::Beneath),
        })
    });
    let mut sealed = vec![false; verified.layers.len()];
    for (at, layer) in verified.layers.iter_mut().enumerate() {
        let own = |subject: &Subject| {
            let path = subject.needs.first();
            path.is_some_and(|path| path.as_os_str().as_bytes() == layer.path.as_bytes())
        };
        let its = subjects.iter().zip(&kept);
        let its: Vec<_> = its.filter(|(subject, _)| own(subject)).collect();
        for (_, kept) in &its {
            if let Some(Some(Err(error))) = kept {
                layer.gaps.push(Gap::new("seal", error.to_string()));
            }
        }
        if let Some(sealed) = sealed.get_mut(at) {
            let mut all = its.iter();
            *sealed = !its.is_empty() && all.all(|(_, kept)| matches!(kept, Some(Some(Ok(())))));
        }
    }
    Sealed { verified, sealed }
}

/// A layer that is to be sealed, or what a runtime put beneath one.
struct Subject {
    files: Arc<Layer>,
    /// Whether it is a whole tree.
    is_whole: bool,
    identity: Identity,
    /// The paths of the layers that must be what their digests say, the one of which it is told first.
    needs: Vec<Box<Path>>,
}

impl Subject {
    fn path(&self) -> &Path {
        &self.files.path
    }

    fn place(&self) -> Place<'_> {
        match self.is_whole {
            false => Place::Directory(&self.files.dir),
            true => Place::of_tree(&self.files.dir),
        }
    }

    /// Keeps the seal, if the layer is still as it was noted before it was verified.
    fn keep(&self, mark: &Mark, store: &Store) -> Result<(), Unsealable> {
        if !self.place().holds(mark)? {
            return Err(Unsealable::Changed);
        }
        let record = Record {
            identity: self.identity.hash(),
            mark: *mark,
        };
        Ok(store.put(self.path(), &record)?)
    }
}

/// Returns the layers of images, each once.
fn subjects(images: &[StoredImage]) -> Vec<Subject> {
    let mut subjects: Vec<Subject> = Vec::new();
    let mut known: HashSet<&Path> = HashSet::new();
    for image in images {
        let chain = chain_ids(&image.image.layers);
        for (at, layer) in image.layers.iter().enumerate() {
            let identity = match (&layer.form, chain.get(at)) {
                (Form::Own(_), _) => Identity::Layer(layer.diff_id),
                (Form::Whole(_), Some(chain)) => Identity::Chain(*chain),
                (Form::Whole(_), None) => continue,
            };
            if !known.insert(&layer.files.path) {
                continue;
            }
            let is_whole = matches!(layer.form, Form::Whole(_));
            let beneath = image.layers.iter().take(if is_whole { at } else { 0 });
            let own = std::iter::once(layer).chain(beneath);
            let path = |layer: &Arc<StoredLayer>| -> Box<Path> { layer.files.path.clone().into() };
            subjects.push(Subject {
                files: Arc::clone(&layer.files),
                is_whole,
                identity,
                needs: own.map(path).collect(),
            });
            subjects.extend(layer.between.iter().map(|between| Subject {
                files: Arc::clone(&between.files),
                is_whole,
                identity: Identity::Beneath(layer.diff_id),
                needs: vec![path(layer)],
            }));
        }
    }
    subjects
}
