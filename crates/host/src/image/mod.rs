//! TRUST: whether the layers of images lie on disk as their digests say.
//!
//! Each layer's tar stream is rebuilt and hashed; each of its headers is held against the disk; and the
//! disk is searched for what no header tells of. A layer is looked at once, however many images have it.

mod checksum;
mod find;
mod layer;
mod member;
mod pax;
mod rebuilt;
mod stream;
mod tar_split;
mod tree;

use std::collections::HashMap;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use plimsoll_core::model::{Bytes, Gap, ImageMeasurement, LayerMeasurement};

pub use self::find::images;
use self::tar_split::Records;
use self::tree::Tree;
use crate::fs::open_regular;
use crate::layers::stored::{StoredImage, StoredLayer, TarSplit};

/// Images, their layers each once, and which of these each image has, the base first.
#[derive(Debug)]
pub struct Verified {
    /// The images.
    pub images: Vec<(ImageMeasurement, Vec<usize>)>,
    /// The layers of all of them.
    pub layers: Vec<LayerMeasurement>,
}

/// A layer to be looked at.
struct Job {
    layer: Arc<StoredLayer>,
    /// Those beneath it, the next one first.
    below: Vec<Arc<StoredLayer>>,
}

/// Returns about how many bytes the layers of these images have, each counted once.
#[must_use]
pub fn bytes(images: &[StoredImage]) -> u64 {
    let (jobs, _) = jobs(images);
    jobs.iter().map(|job| job.layer.size).sum()
}

/// Verifies the layers of images, with so many threads, and tells `progress` of bytes as they are read.
#[must_use]
pub fn verify(
    images: Vec<StoredImage>,
    threads: NonZero<usize>,
    progress: &(dyn Fn(u64) + Sync),
) -> Verified {
    let (jobs, layers_of) = jobs(&images);
    // The largest first, so that none is left over in the end for one thread alone.
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(jobs.get(*at).map_or(0, |job| job.layer.size)));
    let next = AtomicUsize::new(0);
    let (send, done) = channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.get().min(jobs.len()) {
            let (next, jobs, order, send) = (&next, &jobs, &order, send.clone());
            scope.spawn(move || {
                while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed))
                    && let Some(job) = jobs.get(*at)
                    && send.send((*at, job.verify(progress))).is_ok()
                {}
            });
        }
    });
    drop(send);
    let mut measured: Vec<Option<LayerMeasurement>> = jobs.iter().map(|_| None).collect();
    for (at, layer) in done {
        if let Some(place) = measured.get_mut(at) {
            *place = Some(layer);
        }
    }
    let layers = measured
        .into_iter()
        .zip(&jobs)
        .map(|(measured, job)| measured.unwrap_or_else(|| job.unmeasured("a thread ended")))
        .collect();
    let images = images
        .into_iter()
        .zip(layers_of)
        .map(|(image, layers)| {
            let measurement = ImageMeasurement {
                runtime: image.runtime,
                names: image.names,
                image: image.image,
                gaps: image.gaps,
            };
            (measurement, layers)
        })
        .collect();
    Verified { images, layers }
}

/// Returns the layers of images, each once, and for each image which of them are its.
fn jobs(images: &[StoredImage]) -> (Vec<Job>, Vec<Vec<usize>>) {
    let mut known: HashMap<&Path, usize> = HashMap::new();
    let mut jobs = Vec::new();
    let layers_of = images
        .iter()
        .map(|image| {
            let layers = image.layers.iter().enumerate();
            layers
                .map(|(n, layer)| {
                    *known.entry(&layer.files.path).or_insert_with(|| {
                        let below = image.layers.iter().take(n).rev();
                        jobs.push(Job {
                            layer: Arc::clone(layer),
                            below: below.map(Arc::clone).collect(),
                        });
                        jobs.len() - 1
                    })
                })
                .collect()
        })
        .collect();
    (jobs, layers_of)
}

impl Job {
    fn verify(&self, progress: &(dyn Fn(u64) + Sync)) -> LayerMeasurement {
        let open = |layer: &StoredLayer| Tree::new(Arc::clone(&layer.files.dir), Some(layer.marks));
        let tree = open(&self.layer);
        let below: Vec<Tree> = self.below.iter().map(|layer| open(layer)).collect();
        let below: Vec<&Tree> = below.iter().collect();
        let found = layer::verify(
            &tree,
            &below,
            self.layer.diff_id.digest(),
            || self.layer.records.open(),
            &|bytes| progress(bytes),
        );
        let mut measured = LayerMeasurement {
            rebuilt: found.digest,
            bytes: found.bytes,
            changes: found.outcome.changes,
            gaps: found.outcome.gaps,
            ..self.unmeasured("")
        };
        for change in &mut measured.changes {
            change.origin = Some(self.layer.diff_id);
        }
        measured
    }

    /// The measurement of a layer that was not looked at.
    fn unmeasured(&self, why: &str) -> LayerMeasurement {
        use std::os::unix::ffi::OsStrExt as _;
        LayerMeasurement {
            diff_id: self.layer.diff_id,
            path: Bytes::from(self.layer.files.path.as_os_str().as_bytes()),
            rebuilt: None,
            bytes: 0,
            changes: Vec::new(),
            gaps: vec![Gap::new("layer", why)],
        }
    }
}

impl TarSplit {
    fn open(&self) -> std::io::Result<Records<std::fs::File>> {
        let (fd, _) = open_regular(&self.dir, self.name.as_bytes())?;
        Ok(Records::new(fd.into()))
    }
}
