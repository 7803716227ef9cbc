//! How far the layers of a container's image are proved, by their seals or by rebuilding them.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use plimsoll_core::Verdict;
use plimsoll_core::model::{
    Baseline, Bytes, Container, DiffId, Digest, Gap, Image, ImageId, ImageIdentity,
    LayerMeasurement, LayerProof, LayerTrust, escape,
};
use plimsoll_core::trust::{ReferenceValues, chain_ids};

use super::mark::Place;
use super::{Identity, Store};
use crate::image;
use crate::layers::LayerStack;
use crate::layers::stored::{StoredImage, StoredLayer};
use crate::parallel::thread_count;
use crate::runtimes::Runtime;

/// How far the layers of images are proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layers {
    /// By their seals where they have one; else they are taken as they lie on disk.
    #[default]
    Auto,
    /// Not at all: they are taken as they lie on disk.
    Trust,
    /// By their seals: one without is a gap.
    Sealed,
    /// By rebuilding each.
    Digest,
}

/// Proves layers, each once: of what several containers share one look is told to all of them.
#[derive(Debug)]
pub struct Prover {
    how: Layers,
    store: Store,
    /// Whether nothing was ever sealed, once that was asked.
    has_none: OnceCell<bool>,
    jobs: Option<NonZero<usize>>,
    reference: Option<ReferenceValues>,
    /// The images of each runtime that was asked, by what it is called.
    images: HashMap<String, Result<Vec<Kept>, String>>,
    known: HashMap<(PathBuf, Identity), Proved>,
}

/// An image as its runtime keeps it, each digest proved.
#[derive(Debug)]
struct Kept {
    id: Option<ImageId>,
    layers: Vec<DiffId>,
    manifests: Vec<Digest>,
}

/// What was found of a layer.
#[derive(Debug, Clone)]
enum Proved {
    /// Nothing says anything about it.
    Unsealed,
    /// Its seal holds.
    Sealed,
    /// It could not be told, and why.
    Untold(String),
    /// It was rebuilt: what its seal was found to be before, and what came of each of its layers.
    Rebuilt {
        seal_broken: bool,
        measured: Vec<LayerMeasurement>,
    },
    /// Its seal does not hold, or it is to be rebuilt whatever its seal says.
    ToRebuild { seal_broken: bool },
}

/// One tree of a stack, and the layers whose files it has.
struct Tree<'s> {
    path: &'s Path,
    place: Place<'s>,
    identity: Identity,
    layers: Vec<DiffId>,
}

impl Tree<'_> {
    fn key(&self) -> (PathBuf, Identity) {
        (self.path.to_owned(), self.identity)
    }

    /// Returns what it is called where something could not be told of it.
    fn shown(&self) -> String {
        let path = escape(self.path.as_os_str().as_bytes());
        match self.layers.last() {
            Some(diff_id) => format!("layer {diff_id} in {path}"),
            None => path.into_owned(),
        }
    }
}

impl Prover {
    /// Returns one that reads seals from a store and rebuilds with so many threads, as many as there are
    /// processors for when none are given.
    #[must_use]
    pub fn new(how: Layers, store: Store, jobs: Option<NonZero<usize>>) -> Self {
        Self {
            how,
            store,
            has_none: OnceCell::new(),
            jobs,
            reference: None,
            images: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// Has it hold the identity of images against reference values too.
    #[must_use]
    pub fn with_reference(self, reference: Option<ReferenceValues>) -> Self {
        Self { reference, ..self }
    }

    /// Returns one that proves nothing: layers are taken as they lie on disk.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Layers::Trust, Store::default(), None)
    }

    /// Returns how far the layers beneath a container are proved, and what could not be seen of them.
    pub fn prove(
        &mut self,
        runtime: &dyn Runtime,
        container: &Container,
        stack: &LayerStack,
    ) -> (Baseline, Vec<Gap>) {
        let (mut baseline, mut gaps) = self.prove_layers(runtime, container, stack);
        if let Some(reference) = &self.reference {
            let kept = self.images.entry(runtime.describe());
            let kept = kept.or_insert_with(|| kept_by(runtime));
            let identity = match kept {
                Ok(kept) => identity(kept, container, reference),
                Err(why) => ImageIdentity::Unknown(why.clone()),
            };
            if let ImageIdentity::Unknown(why) = &identity {
                gaps.push(Gap::new("image", why.clone()));
            }
            baseline.identity = Some(identity);
        }
        (baseline, gaps)
    }

    fn prove_layers(
        &mut self,
        runtime: &dyn Runtime,
        container: &Container,
        stack: &LayerStack,
    ) -> (Baseline, Vec<Gap>) {
        let has_none = || *self.has_none.get_or_init(|| self.store.is_absent());
        if self.how == Layers::Trust || self.how == Layers::Auto && has_none() {
            return (Baseline::trusted(), Vec::new());
        }
        let mut gaps = Vec::new();
        let trees = match trees(container, stack) {
            Ok(trees) => trees,
            Err(_) if self.how == Layers::Auto => return (Baseline::trusted(), gaps),
            Err(why) => {
                let why = format!("{why}: --layers trust takes its layers as they lie on disk");
                gaps.push(Gap::new("layers", why));
                return (Baseline::trusted(), gaps);
            }
        };
        for tree in &trees {
            let key = tree.key();
            if !self.known.contains_key(&key) {
                let found = self.look(tree);
                self.known.insert(key, found);
            }
        }
        self.rebuild(runtime, container, &trees);
        let mut proofs = Vec::new();
        for tree in &trees {
            let key = tree.key();
            self.tell(tree, self.known.get(&key), &mut proofs, &mut gaps);
        }
        (Baseline::of(proofs), gaps)
    }

    /// Looks at the seal of a tree.
    fn look(&self, tree: &Tree<'_>) -> Proved {
        if self.how == Layers::Digest {
            return Proved::ToRebuild { seal_broken: false };
        }
        let record = match self.store.get(tree.path) {
            Ok(Some(record)) => record,
            Ok(None) => return Proved::Unsealed,
            Err(error) => return Proved::Untold(error.to_string()),
        };
        if record.identity != tree.identity.hash() {
            return Proved::ToRebuild { seal_broken: true };
        }
        match tree.place.holds(&record.mark) {
            Ok(true) => Proved::Sealed,
            Ok(false) => Proved::ToRebuild { seal_broken: true },
            Err(error) => Proved::Untold(error.to_string()),
        }
    }

    /// Rebuilds those trees of a container that are to be.
    fn rebuild(&mut self, runtime: &dyn Runtime, container: &Container, trees: &[Tree<'_>]) {
        let known = |tree: &Tree<'_>| match self.known.get(&tree.key()) {
            Some(&Proved::ToRebuild { seal_broken }) => Some(seal_broken),
            _ => None,
        };
        let todo: Vec<(&Tree<'_>, bool)> = trees
            .iter()
            .filter_map(|tree| Some((tree, known(tree)?)))
            .collect();
        if todo.is_empty() {
            return;
        }
        let these: Vec<&Tree<'_>> = todo.iter().map(|(tree, _)| *tree).collect();
        let measured = rebuilt(runtime, container, trees, &these, self.jobs);
        for (tree, seal_broken) in todo {
            let path = tree.path.as_os_str().as_bytes();
            let is_its = |layer: &&LayerMeasurement| match tree.identity {
                Identity::Chain(_) => true,
                Identity::Beneath(above) => layer.diff_id == above,
                Identity::Layer(own) => layer.diff_id == own && layer.path.as_bytes() == path,
            };
            let measured = match &measured {
                Ok(layers) => Ok(layers.iter().filter(is_its).cloned().collect::<Vec<_>>()),
                Err(why) => Err(why.clone()),
            };
            // What nothing came of must not look like what nothing is wrong with.
            let measured = measured.and_then(|measured| match measured.is_empty() {
                true => Err("the records of its image lead to another layer there".to_owned()),
                false => Ok(measured),
            });
            let found = match measured {
                Ok(measured) => Proved::Rebuilt {
                    seal_broken,
                    measured,
                },
                Err(why) => Proved::Untold(match seal_broken {
                    true => format!("its seal is broken, and it cannot be rebuilt: {why}"),
                    false => format!("cannot be rebuilt: {why}"),
                }),
            };
            self.known.insert(tree.key(), found);
        }
    }

    /// Tells what was found of the layers of a tree.
    fn tell(
        &self,
        tree: &Tree<'_>,
        found: Option<&Proved>,
        proofs: &mut Vec<LayerProof>,
        gaps: &mut Vec<Gap>,
    ) {
        let proof = |diff_id: &DiffId, held| LayerProof {
            diff_id: *diff_id,
            path: Bytes::from(tree.path.as_os_str().as_bytes()),
            held,
            seal_broken: false,
            changes: Vec::new(),
        };
        let mut untold = |why: &str| gaps.push(Gap::new(tree.shown().as_str(), why));
        let held = match found {
            Some(Proved::Sealed) => LayerTrust::Sealed,
            Some(Proved::Rebuilt {
                seal_broken,
                measured,
            }) => {
                for measured in measured {
                    let held = match measured.verdict() {
                        Verdict::Intact => LayerTrust::Verified,
                        Verdict::Violated => LayerTrust::Violated,
                        Verdict::Allowed | Verdict::Unknown => LayerTrust::Trusted,
                    };
                    gaps.extend(measured.gaps.iter().cloned());
                    proofs.push(LayerProof {
                        path: measured.path.clone(),
                        seal_broken: *seal_broken,
                        changes: measured.changes.clone(),
                        ..proof(&measured.diff_id, held)
                    });
                }
                return;
            }
            Some(Proved::Untold(why)) => {
                untold(why);
                LayerTrust::Trusted
            }
            _ => {
                if self.how == Layers::Sealed {
                    untold("it has no seal: plimsoll image seal makes one");
                }
                LayerTrust::Trusted
            }
        };
        proofs.extend(tree.layers.iter().map(|diff_id| proof(diff_id, held)));
    }
}

/// Returns the trees that a container lies on, the base first.
///
/// # Errors
/// Why nothing could be said of them, as a clause.
fn trees<'s>(container: &Container, stack: &'s LayerStack) -> Result<Vec<Tree<'s>>, &'static str> {
    const UNKNOWN: &str = "nothing says which layers of which image it has";
    let layers = &container.image.layers;
    let whole = |path: &'s Path, place| {
        let chain = *chain_ids(layers).last().ok_or(UNKNOWN)?;
        Ok(vec![Tree {
            path,
            place,
            identity: Identity::Chain(chain),
            layers: layers.clone(),
        }])
    };
    match stack {
        LayerStack::Overlay(stack) if !stack.data_only.is_empty() => {
            Err("its layers are kept in a form that is neither sealed nor rebuilt (composefs)")
        }
        LayerStack::Overlay(stack) => {
            let mut trees: Vec<Tree<'_>> = Vec::with_capacity(stack.image.len());
            // From the top down: what is of no layer of the image was put beneath the one over it.
            let mut above = None;
            for layer in &stack.image {
                let identity = match layer.diff_id {
                    Some(diff_id) => Identity::Layer(diff_id),
                    None => Identity::Beneath(above.ok_or(UNKNOWN)?),
                };
                above = layer.diff_id.or(above);
                trees.push(Tree {
                    path: &layer.path,
                    place: Place::Directory(&layer.dir),
                    identity,
                    layers: layer.diff_id.into_iter().collect(),
                });
            }
            trees.reverse();
            match trees.is_empty() {
                true => Err(UNKNOWN),
                false => Ok(trees),
            }
        }
        LayerStack::Btrfs(stack) => {
            let place = Place::Subvolume(&stack.anchor, stack.image.id);
            whole(&stack.image.path, place)
        }
        LayerStack::Plain(stack) => {
            let image = match &stack.injected {
                Some(injected) => &injected.over_image.image,
                None => &stack.image,
            };
            whole(&image.path, Place::of_tree(&image.dir))
        }
    }
}

/// Returns the images that a runtime keeps.
fn kept_by(runtime: &dyn Runtime) -> Result<Vec<Kept>, String> {
    let (images, _) = runtime.images().map_err(|error| error.to_string())?;
    let kept = |image: StoredImage| Kept {
        id: image.image.id,
        layers: image.image.layers,
        manifests: image.manifests,
    };
    Ok(images.into_iter().map(kept).collect())
}

/// Holds the image of a container against reference values: by what its runtime keeps of it, each digest
/// proved, not by what the container's record says.
fn identity(kept: &[Kept], container: &Container, reference: &ReferenceValues) -> ImageIdentity {
    let Image {
        reference: name,
        id,
        layers,
        ..
    } = &container.image;
    let name = name.as_ref();
    let name = name.and_then(|name| std::str::from_utf8(name.as_bytes()).ok());
    let its = |kept: &&Kept| id.is_some() && kept.id == *id && kept.layers == *layers;
    // Several stores, or names, may have it, with other manifests.
    let mut manifests = Vec::new();
    let mut any = false;
    for kept in kept.iter().filter(its) {
        any = true;
        manifests.extend(kept.manifests.iter().copied());
    }
    if !any {
        let why =
            "its runtime keeps no record of its image that could be held against reference values";
        return ImageIdentity::Unknown(why.into());
    }
    manifests.sort_by_key(Digest::hex);
    manifests.dedup();
    reference.judge(id.as_ref(), &manifests, name.as_slice())
}

/// Rebuilds those layers of a container's image that `wanted` lie on.
fn rebuilt(
    runtime: &dyn Runtime,
    container: &Container,
    trees: &[Tree<'_>],
    wanted: &[&Tree<'_>],
    jobs: Option<NonZero<usize>>,
) -> Result<Vec<LayerMeasurement>, String> {
    let (images, _) = runtime.images().map_err(|error| error.to_string())?;
    let is_of = |layer: &StoredLayer, tree: &Tree<'_>| {
        let mut between = layer.between.iter();
        layer.files.path == tree.path || between.any(|between| between.files.path == tree.path)
    };
    let is_its = |image: &StoredImage| {
        let has = |tree: &Tree<'_>| image.layers.iter().any(|layer| is_of(layer, tree));
        image.image.id == container.image.id
            && image.image.layers == container.image.layers
            && trees.iter().all(has)
    };
    let image = images.into_iter().find(is_its).ok_or_else(|| {
        format!(
            "{} keeps no record of its image that leads to these layers",
            runtime.describe()
        )
    })?;
    let mut gaps = image.gaps.iter();
    if let Some(gap) = gaps.next() {
        return Err(format!("{}: {}", gap.what, gap.why));
    }
    let threads = NonZero::new(thread_count(jobs)).unwrap_or(NonZero::<usize>::MIN);
    // What is told of a whole tree follows from all beneath it.
    let is_wanted = |layer: &StoredLayer| {
        let mut wanted = wanted.iter();
        wanted.any(|tree| matches!(tree.identity, Identity::Chain(_)) || is_of(layer, tree))
    };
    Ok(image::verify_layers(&image, is_wanted, threads))
}
