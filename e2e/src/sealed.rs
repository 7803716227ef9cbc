//! Seals of the layers of an image, and a container of the image of six layers that is held to them.

use std::num::NonZero;

use plimsoll_core::model::{Aspect, EngineKind, LayerProof, LayerTrust, Measurement, RuntimeKind};
use plimsoll_host::image;
use plimsoll_host::inspect::{Options, Request, Sources, Target, inspect_down};
use plimsoll_host::seal::{self, Layers, Prover};

use crate::image_store::{NAME, Runtime, Store};

/// A place for seals, and where the images and containers are that are held to them.
#[derive(Debug)]
pub struct Seals {
    /// Where images and containers are looked for.
    pub sources: Sources,
    /// Whose they are.
    pub runtime: RuntimeKind,
    /// Where the seals are kept.
    pub state: tempfile::TempDir,
}

impl Seals {
    /// Makes a place where nothing is sealed yet.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(sources: Sources, runtime: RuntimeKind) -> Self {
        Self {
            sources,
            runtime,
            state: tempfile::tempdir().expect("a directory"),
        }
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> seal::Store {
        seal::Store::at(self.state.path())
    }

    /// Seals the layers of the image, and returns which are sealed and what was said of the others.
    ///
    /// # Panics
    /// When not everything is found and seen.
    #[must_use]
    #[track_caller]
    pub fn seal(&self) -> (Vec<bool>, Vec<String>) {
        let (images, gaps) = image::images(&self.sources, &[NAME.to_owned()]).expect("images");
        assert_eq!(gaps, []);
        self.store().make().expect("a store");
        let sealed = seal::seal(images, &self.store(), two(), &|_| {});
        let layers = sealed.verified.layers.iter();
        let why = layers.flat_map(|layer| layer.gaps.iter().map(|gap| gap.why.clone()));
        (sealed.sealed, why.collect())
    }

    /// Checks a container.
    ///
    /// # Panics
    /// When it is not found.
    #[must_use]
    pub fn check(&self, name: &str, layers: Layers, options: Options) -> Measurement {
        let request = Request {
            sources: self.sources.clone(),
            targets: vec![Target::Named {
                runtime: Some(self.runtime),
                name: name.into(),
            }],
            paths: Vec::new(),
            options,
        };
        let mut prover = Prover::new(layers, self.store(), Some(two()));
        let mut found = None;
        let gaps = inspect_down(&request, &mut prover, &mut |m| found = Some(m));
        assert_eq!(gaps.expect("inspect"), []);
        found.expect("one container")
    }
}

/// The container that is checked.
pub const CONTAINER: &str = "web";

/// A store, a container of its image, and a place for seals.
#[derive(Debug)]
pub struct Sealed {
    /// The store.
    pub store: Store,
    /// Its seals.
    pub seals: Seals,
}

impl Sealed {
    /// Makes a container of the image.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let runtime = match &store.runtime {
            Runtime::Docker(daemon) => {
                daemon.create(CONTAINER, &[], NAME, &["/bin/busybox", "true"]);
                RuntimeKind::Docker
            }
            Runtime::Podman(podman) => {
                podman.podman(&["create", "--name", CONTAINER, NAME, "/bin/busybox", "true"]);
                RuntimeKind::Podman
            }
        };
        let seals = Seals::new(store.sources(), runtime);
        Self { store, seals }
    }

    /// Seals the layers, all of which can be.
    ///
    /// # Panics
    /// When one cannot be.
    #[track_caller]
    pub fn all_sealed(&self) {
        assert_eq!(self.seals.seal(), (vec![true; 6], vec![]));
    }

    /// Checks the container.
    ///
    /// # Panics
    /// When it is not found.
    #[must_use]
    pub fn check(&self, layers: Layers) -> Measurement {
        let plain = self.store.layers[0].to_string_lossy().contains("/vfs/");
        let options = Options {
            engine: plain.then_some(EngineKind::Digest),
            ..Options::default()
        };
        self.seals.check(CONTAINER, layers, options)
    }

    /// Checks, and returns what holds for each layer.
    ///
    /// # Panics
    /// When not everything is found and seen.
    #[must_use]
    #[track_caller]
    pub fn held(&self, layers: Layers) -> Vec<LayerTrust> {
        let measurement = self.check(layers);
        assert_eq!(measurement.gaps, []);
        let proofs = &measurement.baseline.proofs;
        proofs.iter().map(|proof| proof.held).collect()
    }

    /// Whether every seal holds.
    ///
    /// # Panics
    /// When one does not.
    #[track_caller]
    pub fn all_hold(&self, after: &str) {
        assert_eq!(
            self.held(Layers::Sealed),
            [LayerTrust::Sealed; 6],
            "{after}"
        );
    }
}

fn two() -> NonZero<usize> {
    NonZero::new(2).expect("two")
}

/// Returns what is told of a layer: what holds, whether its seal is broken, and what differs, but that
/// directories have other times since something in them was changed.
///
/// # Panics
/// When a change is told of another layer.
#[must_use]
pub fn told(proof: &LayerProof) -> String {
    let mut told = proof.held.as_str().to_owned();
    if proof.seal_broken {
        told += ", broken";
    }
    for change in &proof.changes {
        assert_eq!(change.origin.as_deref(), Some(&proof.diff_id));
        let aspects: Vec<&str> = change.aspects.iter().map(Aspect::as_str).collect();
        let after = change.after();
        if aspects == ["times"] && after.is_some_and(|after| after.file_type.has_entries()) {
            continue;
        }
        let letter = change.kind.letter();
        told += &format!(" {letter} {} {}", change.path, aspects.join(","));
    }
    told.trim_end().to_owned()
}
