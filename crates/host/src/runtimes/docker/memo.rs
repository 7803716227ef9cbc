//! What was read of a data root once and holds for many containers of a run: the layers of their
//! images, and their records while the files are the ones that were read.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_core::model::{ChainId, ContainerId, DiffId, ImageId};
use plimsoll_core::trust::chain_ids;

use super::record::Record;
use crate::fs::{Dir, Stat};
use crate::layers::btrfs::Home;
use crate::layers::{Layer, MarkNamespace, Subvolume};
use crate::runtimes::lower::LayerName;

/// The layers of an image: directory and diffID of each, the base first.
pub(super) type ImageLayers = Rc<[(LayerName, DiffId)]>;

/// Short links of which is remembered where they lead, and the longest of them: a container's record may name
/// any.
const LINKS_MAX: usize = 4096;
const LINK_LENGTH: usize = 64;

/// What the layers of an image are called, the base first.
#[derive(Debug)]
pub(super) struct Chain {
    /// Each by itself.
    pub(super) diff_ids: Box<[DiffId]>,
    /// Each with those beneath it.
    pub(super) chain_ids: Box<[ChainId]>,
}

impl Chain {
    /// Returns the chain of these layers.
    pub(super) fn of(diff_ids: Vec<DiffId>) -> Self {
        Self {
            chain_ids: chain_ids(&diff_ids).into(),
            diff_ids: diff_ids.into(),
        }
    }
}

/// The directory that holds the overlay layers.
#[derive(Debug)]
pub(super) struct Overlays {
    /// As it is reached from the data root.
    pub(super) dir: Dir,
    /// A view of it in which reading leaves no access time behind, and the number of the mount that this is a
    /// view of; `None` where none is needed, or can be had.
    pub(super) view: Option<(Dir, u64)>,
}

/// What is remembered of one data root, for as long as one run lasts.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// Records of containers, each with the file that it was read from.
    records: RefCell<HashMap<ContainerId, (Stat, Rc<Record>)>>,
    /// The layers of images, proved by the images' ids.
    images: RefCell<HashMap<ImageId, Rc<Chain>>>,
    /// Layers, by the chainID of the topmost one.
    chains: RefCell<HashMap<ChainId, ImageLayers>>,
    /// Directories of overlay layers.
    layers: RefCell<HashMap<String, Arc<Layer>>>,
    /// Which attributes carry the marks of overlays that are not mounted.
    pub(super) marks: OnceCell<MarkNamespace>,
    /// The directory that holds the overlay layers.
    pub(super) overlays: OnceCell<Overlays>,
    /// The directory of the short links of `overlay2`.
    pub(super) links: OnceCell<Dir>,
    /// The layers of images that short links lead to.
    led: RefCell<HashMap<Vec<u8>, Vec<u8>>>,
    /// The directory of the subvolumes of layers, and where that is.
    pub(super) subvolumes: OnceCell<(Arc<Dir>, Home)>,
    /// The subvolumes of images, by their names.
    images_at: RefCell<HashMap<String, Subvolume>>,
    /// The directory of the records of containers.
    pub(super) containers: OnceCell<Dir>,
    /// The directories of the layer databases that have containers, and those that have layers, by their paths.
    databases: RefCell<HashMap<String, Rc<Dir>>>,
}

impl Memo {
    /// Returns the record of a container, if `is_still` says that its file is the one that was read.
    pub(super) fn record(
        &self,
        id: &ContainerId,
        is_still: impl FnOnce(&Stat) -> bool,
    ) -> Option<Rc<Record>> {
        let records = self.records.borrow();
        let (file, record) = records.get(id)?;
        is_still(file).then(|| Rc::clone(record))
    }

    /// Keeps a record, read from this file.
    pub(super) fn keep_record(&self, id: &ContainerId, file: Stat, record: Record) -> Rc<Record> {
        let record = Rc::new(record);
        let mut records = self.records.borrow_mut();
        records.insert(id.clone(), (file, Rc::clone(&record)));
        record
    }

    /// Returns the layers of an image, read by `read` when they are not known.
    pub(super) fn image<E>(
        &self,
        id: &ImageId,
        read: impl FnOnce() -> Result<Vec<DiffId>, E>,
    ) -> Result<Rc<Chain>, E> {
        remembered(&self.images, id, || Ok(Rc::new(Chain::of(read()?))))
    }

    /// Returns a directory of a layer database, opened by `open` when it is not known.
    pub(super) fn database<E>(
        &self,
        relative: &str,
        open: impl FnOnce() -> Result<Dir, E>,
    ) -> Result<Rc<Dir>, E> {
        let key = relative.to_owned();
        remembered(&self.databases, &key, || Ok(Rc::new(open()?)))
    }

    /// Returns where a short link leads, read by `read` when that is not known.
    pub(super) fn led<E>(
        &self,
        link: &[u8],
        is_of_image: impl FnOnce(&[u8]) -> bool,
        read: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        if let Some(target) = self.led.borrow().get(link) {
            return Ok(target.clone());
        }
        let target = read()?;
        let mut led = self.led.borrow_mut();
        if led.len() < LINKS_MAX && link.len() <= LINK_LENGTH && is_of_image(&target) {
            led.insert(link.to_vec(), target.clone());
        }
        Ok(target)
    }

    /// Returns the layers of the chain of this name, read by `read` when they are not known.
    pub(super) fn chain<E>(
        &self,
        top: &ChainId,
        read: impl FnOnce() -> Result<ImageLayers, E>,
    ) -> Result<ImageLayers, E> {
        remembered(&self.chains, top, read)
    }

    /// Returns the subvolume of an image, looked for by `find` when it is not known.
    pub(super) fn image_at<E>(
        &self,
        name: &LayerName,
        find: impl FnOnce() -> Result<Subvolume, E>,
    ) -> Result<Subvolume, E> {
        remembered(&self.images_at, &name.as_str().to_owned(), find)
    }

    /// Returns an overlay layer, opened by `open` when it is not known.
    pub(super) fn layer<E>(
        &self,
        name: &LayerName,
        open: impl FnOnce() -> Result<Layer, E>,
    ) -> Result<Arc<Layer>, E> {
        remembered(&self.layers, &name.as_str().to_owned(), || {
            Ok(Arc::new(open()?))
        })
    }
}

fn remembered<K: Clone + Eq + std::hash::Hash, V: Clone, E>(
    known: &RefCell<HashMap<K, V>>,
    key: &K,
    make: impl FnOnce() -> Result<V, E>,
) -> Result<V, E> {
    if let Some(value) = known.borrow().get(key) {
        return Ok(value.clone());
    }
    let value = make()?;
    known.borrow_mut().insert(key.clone(), value.clone());
    Ok(value)
}
