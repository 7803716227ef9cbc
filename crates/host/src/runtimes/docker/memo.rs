//! What was read of a data root once and holds for many containers of a run: the layers of their
//! images, and their records while the files are the ones that were read.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_core::model::{ChainId, ContainerId, DiffId, ImageId};

use super::record::Record;
use crate::fs::{Dir, Stat};
use crate::layers::{Layer, MarkNamespace};
use crate::runtimes::lower::LayerName;

/// The layers of an image: directory and diffID of each, the base first.
pub(super) type ImageLayers = Rc<[(LayerName, DiffId)]>;

/// What is remembered of one data root, for as long as one run lasts.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// Records of containers, each with the file that it was read from.
    records: RefCell<HashMap<ContainerId, (Stat, Rc<Record>)>>,
    /// The diffIDs of images, proved by the images' ids.
    images: RefCell<HashMap<ImageId, Rc<[DiffId]>>>,
    /// Layers, by the chainID of the topmost one.
    chains: RefCell<HashMap<ChainId, ImageLayers>>,
    /// Directories of overlay layers.
    layers: RefCell<HashMap<String, Arc<Layer>>>,
    /// Which attributes carry the marks of overlays that are not mounted.
    pub(super) marks: OnceCell<MarkNamespace>,
    /// A view of the directory that holds the overlay layers; `None` where none is needed, or can be had.
    pub(super) view: OnceCell<Option<Dir>>,
    /// The directory of the short links of `overlay2`.
    pub(super) links: OnceCell<Dir>,
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

    /// Returns the diffIDs of an image, read by `read` when they are not known.
    pub(super) fn image<E>(
        &self,
        id: &ImageId,
        read: impl FnOnce() -> Result<Vec<DiffId>, E>,
    ) -> Result<Rc<[DiffId]>, E> {
        remembered(&self.images, id, || Ok(read()?.into()))
    }

    /// Returns the layers of the chain of this name, read by `read` when they are not known.
    pub(super) fn chain<E>(
        &self,
        top: &ChainId,
        read: impl FnOnce() -> Result<ImageLayers, E>,
    ) -> Result<ImageLayers, E> {
        remembered(&self.chains, top, read)
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
