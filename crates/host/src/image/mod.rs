//! TRUST: whether the layers of images lie on disk as their digests say.
//!
//! Each layer's tar stream is rebuilt, or read where it is kept, and hashed; each of its members is held
//! against the disk; and the disk is searched for what the stream does not tell of. A layer is looked at once, however many images have it.

mod blob;
mod checksum;
mod expected;
mod find;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod layer;
mod member;
mod pax;
mod rebuilt;
mod stream;
mod tar_split;
mod tree;

use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

use plimsoll_core::model::{
    Aspect, Attributes, Bytes, Change, ChangeKind, Gap, ImageMeasurement, LayerMeasurement,
    RootPath,
};

pub use self::find::images;
use self::layer::{Below, Expected, Found};
use self::tar_split::Records;
use self::tree::Tree;
use crate::fs::open_regular;
use crate::layers::stored::{Beneath, Between, Copied, Form, StoredImage, StoredLayer, TarSplit};
use crate::layers::{Layer, LayerStack};
use crate::measure::btrfs::{BtrfsPair, Scope};
use crate::measure::outcome::{Limits, Outcome};
use crate::measure::overlay::OverlayPair;
use crate::measure::walk::walk;
use crate::measure::{Confirm, Trouble};
use crate::parallel;

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
    /// Which jobs are those beneath it, the next one first.
    below: Vec<usize>,
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
    let all: Vec<usize> = (0..jobs.len()).collect();
    let layers = verify_jobs(&jobs, &all, threads, progress);
    let images = images
        .into_iter()
        .zip(layers_of)
        .map(|(image, layers)| {
            let measurement = ImageMeasurement {
                runtime: image.runtime,
                names: image.names,
                image: image.image,
                manifests: image.manifests,
                identity: None,
                gaps: image.gaps,
            };
            (measurement, layers)
        })
        .collect();
    Verified { images, layers }
}

/// Verifies those layers of an image that are wanted, and returns what they came to, the base first. Of layers
/// that are whole trees an edit is told of the right one only if all are wanted.
#[must_use]
pub(crate) fn verify_layers(
    image: &StoredImage,
    wanted: impl Fn(&StoredLayer) -> bool,
    threads: NonZero<usize>,
) -> Vec<LayerMeasurement> {
    let (jobs, _) = jobs(std::slice::from_ref(image));
    let numbered = jobs.iter().enumerate();
    let wanted: Vec<usize> = numbered
        .filter(|(_, job)| wanted(&job.layer))
        .map(|(at, _)| at)
        .collect();
    verify_jobs(&jobs, &wanted, threads, &|_| {})
}

/// Looks at layers, and returns what came of them, in the order of `which`.
fn verify_jobs(
    jobs: &[Job],
    which: &[usize],
    threads: NonZero<usize>,
    progress: &(dyn Fn(u64) + Sync),
) -> Vec<LayerMeasurement> {
    // The largest first, so that none is left over in the end for one thread alone.
    let mut order = which.to_vec();
    order.sort_by_key(|at| std::cmp::Reverse(jobs.get(*at).map_or(0, |job| job.layer.size)));
    let found = parallel::each(&order, jobs.len(), threads, |at| {
        Some(jobs.get(at)?.verify(jobs, progress))
    });
    let found: Vec<Option<Found>> = found.into_iter().map(Option::flatten).collect();
    which
        .iter()
        .filter_map(|at| Some(measurement(&found, *at, jobs.get(*at)?)))
        .collect()
}

/// Returns the layers of images, each once, and for each image which of them are its.
fn jobs(images: &[StoredImage]) -> (Vec<Job>, Vec<Vec<usize>>) {
    let mut known: HashMap<&Path, usize> = HashMap::new();
    let mut jobs: Vec<Job> = Vec::new();
    let mut layers_of = Vec::with_capacity(images.len());
    for image in images {
        let mut layers: Vec<usize> = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            let at = *known.entry(&layer.files.path).or_insert_with(|| {
                jobs.push(Job {
                    layer: Arc::clone(layer),
                    below: layers.iter().rev().copied().collect(),
                });
                jobs.len() - 1
            });
            layers.push(at);
        }
        layers_of.push(layers);
    }
    (jobs, layers_of)
}

/// Returns the measurement of one layer. What differs between two whole trees is told of the upper one,
/// unless one beneath it was found to have been changed there.
fn measurement(found: &[Option<Found>], at: usize, job: &Job) -> LayerMeasurement {
    use std::os::unix::ffi::OsStrExt as _;
    let mut measured = LayerMeasurement {
        diff_id: job.layer.diff_id,
        path: Bytes::from(job.layer.files.path.as_os_str().as_bytes()),
        rebuilt: None,
        bytes: 0,
        changes: Vec::new(),
        gaps: Vec::new(),
    };
    let of = |at: usize| found.get(at).and_then(Option::as_ref);
    let Some(own) = of(at) else {
        measured
            .gaps
            .push(Gap::new("layer", "a thread ended before it was verified"));
        return measured;
    };
    measured.rebuilt = own.digest;
    measured.bytes = own.bytes;
    measured.changes.clone_from(&own.outcome.changes);
    measured.gaps.clone_from(&own.outcome.gaps);
    if !own.unexplained.is_empty() {
        let below = job.below.iter().filter_map(|at| of(*at));
        let known: HashSet<&RootPath> = below
            .flat_map(|found| found.outcome.changes.iter().chain(&found.unexplained))
            .map(|change| &change.path)
            .collect();
        let own = own.unexplained.iter();
        measured
            .changes
            .extend(own.filter(|change| !known.contains(&change.path)).cloned());
        measured.changes.sort_by(|a, b| a.path.cmp(&b.path));
        measured.changes.dedup_by(|b, a| a.path == b.path);
    }
    let origin = Arc::new(job.layer.diff_id);
    for change in &mut measured.changes {
        change.origin = Some(Arc::clone(&origin));
    }
    measured
}

impl Job {
    fn verify(&self, jobs: &[Self], progress: &(dyn Fn(u64) + Sync)) -> Found {
        let open = |layer: &StoredLayer, files: &Layer| {
            let marks = match layer.form {
                Form::Own(marks) => Some(marks),
                Form::Whole(_) => None,
            };
            Tree::new(Arc::clone(&files.dir), marks)
        };
        let between = |layer: &StoredLayer| -> Vec<Tree> {
            let between = layer.between.iter();
            between.map(|between| open(layer, &between.files)).collect()
        };
        let own = &self.layer;
        let tree = open(own, &own.files);
        let mut below = between(own);
        for job in self.below.iter().filter_map(|at| jobs.get(*at)) {
            below.push(open(&job.layer, &job.layer.files));
            below.extend(between(&job.layer));
        }
        let below: Vec<&Tree> = below.iter().collect();
        let differences;
        let below = match &self.layer.form {
            Form::Own(_) | Form::Whole(None) => Below::Layers(&below),
            Form::Whole(Some(beneath)) => {
                differences = |limits| beneath.differences(limits);
                Below::Tree(&differences)
            }
        };
        let expected = Expected {
            digest: *self.layer.diff_id.digest(),
            root: self.layer.root,
            reference: &self.layer.reference,
            lacks_devices: self.layer.lacks_devices,
        };
        let mut found = layer::verify(&tree, below, &expected, &|bytes| progress(bytes));
        for between in &own.between {
            match between.differences() {
                // One of two whole trees was changed: this one, or the one beneath.
                Ok(outcome) if matches!(own.form, Form::Whole(_)) => {
                    found.unexplained.extend(outcome.changes);
                    found.outcome.gaps.extend(outcome.gaps);
                }
                Ok(outcome) => found.outcome.extend(outcome),
                Err(trouble) => found.outcome.gaps.push(Gap::new("layer", trouble.0)),
            }
        }
        for copy in &own.copies {
            match copy.differences() {
                // Where a layer beneath was changed, that one has it already.
                Ok(outcome) => {
                    found.unexplained.extend(outcome.changes);
                    found.outcome.gaps.extend(outcome.gaps);
                }
                Err(trouble) => found.outcome.gaps.push(Gap::new("layer", trouble.0)),
            }
        }
        found
    }
}

/// Returns what two sides that are opened differ in.
fn differences_of(stack: &LayerStack) -> Result<Outcome, Trouble> {
    let confirm = Confirm::Auto;
    let limits = layer::LIMITS;
    match stack {
        LayerStack::Overlay(stack) => {
            Ok(walk(&mut OverlayPair::container(stack, confirm)?, limits))
        }
        LayerStack::Plain(stack) => Ok(walk(&mut OverlayPair::plain(stack, confirm), limits)),
        LayerStack::Btrfs(_) => Err(Trouble("it is of a form that is not compared".into())),
    }
}

impl Copied {
    /// Returns what it differs in, owners aside that its user namespace maps.
    fn differences(&self) -> Result<Outcome, Trouble> {
        let mut outcome = differences_of(&self.stack)?;
        outcome.changes.retain(|change| !self.leaves_root(change));
        Ok(outcome)
    }

    /// Whether a change is nothing but that its root belongs to the one who made it: some drivers leave it
    /// so, and what is not mapped is nobody's in the namespace.
    fn leaves_root(&self, change: &Change) -> bool {
        let mut aspects = change.aspects.iter();
        let is_nobodys = |of: &Attributes| (of.uid, of.gid) == (u32::MAX, u32::MAX);
        change.path == RootPath::root()
            && change.kind == ChangeKind::Changed
            && aspects.all(|aspect| [Aspect::Owner, Aspect::Times].contains(&aspect))
            && (!self.shows_root || change.after().as_ref().is_some_and(is_nobodys))
    }
}

impl Between {
    /// Returns what it holds that the runtime does not put there.
    fn differences(&self) -> Result<Outcome, Trouble> {
        let mut outcome = differences_of(&self.stack)?;
        let is_made = |change: &Change| self.paths.iter().any(|path| path.covers(change));
        outcome.changes.retain(|change| !is_made(change));
        Ok(outcome)
    }
}

impl Beneath {
    /// Returns what differs between the two trees.
    fn differences(&self, limits: Limits) -> Result<Outcome, Trouble> {
        Ok(match self {
            Self::Subvolume(stack) => {
                let (image, container) = (&stack.image, &stack.container);
                let everything = Scope::Everything;
                let confirm = Confirm::Auto;
                let anchor = &stack.anchor;
                let mut pair =
                    BtrfsPair::open(anchor, image, container, None, (everything, confirm), false)?;
                walk(&mut pair, limits)
            }
            Self::Tree(stack) => walk(&mut OverlayPair::plain(stack, Confirm::Auto), limits),
            Self::Copy(stack) => {
                let mut outcome = walk(&mut OverlayPair::plain(stack, Confirm::Auto), limits);
                // Copying loses all attributes but this one (moby `daemon/graphdriver/copy/copy.go`).
                for change in &mut outcome.changes {
                    let mut xattrs = std::mem::take(&mut change.xattrs).into_vec();
                    xattrs.retain(|name| name.as_bytes() == b"security.capability");
                    change.xattrs = xattrs.into();
                    if change.xattrs.is_empty() {
                        let aspects = change.aspects.iter();
                        change.aspects = aspects.filter(|a| *a != Aspect::Xattr).collect();
                    }
                }
                let differs = |change: &Change| {
                    change.kind != ChangeKind::Changed || change.aspects.is_change()
                };
                outcome.changes.retain(differs);
                outcome
            }
        })
    }
}

impl TarSplit {
    fn open(&self) -> std::io::Result<Records<std::fs::File>> {
        let (fd, _) = open_regular(&self.dir, self.name.as_bytes())?;
        Ok(Records::new(fd.into()))
    }
}
