//! Which engine compares a layer stack, and the measurement that comes of it.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::ffi::OsStrExt as _;

use plimsoll_core::model::{
    Baseline, Change, Container, Cost, EngineKind, Gap, Measurement, RootPath, RuntimePath, escape,
};

use super::agreement::{self, Agreement};
use super::btrfs::{BtrfsPair, Scope};
use super::digest::stored::BaselinePair;
use super::digest::{DigestPair, Readable};
use super::outcome::{self, Limits, Outcome};
use super::overlay::{Examples, OverlayPair, Root};
use super::{Images, Options, Pair, REFERENCE, Trouble, paths, walk};
use crate::freeze;
use crate::layers::btrfs::Snapshot;
use crate::layers::{BtrfsStack, LayerStack, OverlayStack, Subvolume};

/// Compares the two sides of a container. What is found in the layers of its image is kept in `images`, for
/// others that are on them.
///
/// What cannot be compared at all is a gap in a measurement without an engine.
pub fn measure(
    container: Container,
    stack: &LayerStack,
    only: &[RootPath],
    options: &Options,
    images: &Images,
) -> Measurement {
    let mut run = Run {
        only,
        options,
        images,
        outcome: Outcome::default(),
        cost: Cost::default(),
    };
    let by_snapshot =
        matches!(stack, LayerStack::Btrfs(_)) && options.engine != Some(EngineKind::Digest);
    let mut unsteady = None;
    let frozen = match options.atomic && !by_snapshot {
        true => freeze::freeze(&container).unwrap_or_else(|why| {
            unsteady = Some(Gap::new(
                "atomic",
                format!("the container could not be held still: {why}"),
            ));
            None
        }),
        false => None,
    };
    let compared = run.compare(stack);
    drop(frozen);
    run.outcome.gaps.extend(unsteady);
    let engine = match compared {
        Ok(engine) => Some(engine),
        Err(trouble) => {
            run.outcome.gaps.push(Gap::new("layers", trouble.0));
            None
        }
    };
    Measurement {
        container,
        engine,
        baseline: Baseline::trusted(),
        changes: run.outcome.changes,
        identical_copies: run.outcome.identical_copies,
        mounts: Vec::new(),
        code: Vec::new(),
        gaps: run.outcome.gaps,
        cost: run.cost,
    }
}

struct Run<'o> {
    only: &'o [RootPath],
    options: &'o Options,
    images: &'o Images,
    outcome: Outcome,
    cost: Cost,
}

impl Run<'_> {
    fn compare(&mut self, stack: &LayerStack) -> Result<EngineKind, Trouble> {
        let confirm = self.options.confirm;
        let wanted = self.options.engine;
        match (stack, wanted) {
            (LayerStack::Overlay(stack), None | Some(EngineKind::Overlay)) => {
                let pair = OverlayPair::container(stack, confirm)?;
                let pair = pair.sharing(stack, &self.images.layers);
                self.overlay(stack, &mut pair.with_threads(self.options.jobs))?;
                Ok(EngineKind::Overlay)
            }
            (LayerStack::Overlay(stack), Some(EngineKind::Digest)) => {
                let mut trees = OverlayPair::container(stack, confirm)?;
                trees.look_at_everything();
                self.digest(trees)?;
                self.injected_layers(stack, None);
                Ok(EngineKind::Digest)
            }
            (LayerStack::Btrfs(stack), None | Some(EngineKind::Btrfs)) => {
                self.btrfs(stack)?;
                Ok(EngineKind::Btrfs)
            }
            (LayerStack::Btrfs(stack), Some(EngineKind::Digest)) => {
                let plain = stack
                    .as_plain()
                    .map_err(|e| Trouble(format!("the subvolumes: {e}")))?;
                self.digest(OverlayPair::plain(&plain, confirm))?;
                if let Some(injected) = &stack.injected {
                    self.injected_subvolume(stack, injected)?;
                }
                Ok(EngineKind::Digest)
            }
            (LayerStack::Plain(stack), None | Some(EngineKind::Digest)) => {
                self.digest(OverlayPair::plain(stack, confirm))?;
                if let Some(injected) = &stack.injected {
                    let trees = OverlayPair::plain(&injected.over_image, confirm);
                    let (algorithm, jobs) = (self.options.algorithm, self.options.threads());
                    let found = self.run(&mut DigestPair::new(trees, algorithm, jobs));
                    self.add_injected(found, &injected.paths);
                }
                Ok(EngineKind::Digest)
            }
            (stack, wanted) => Err(Trouble(format!(
                "the {} engine cannot compare {}: leave --engine out, or use --engine digest",
                wanted.map_or("digest", EngineKind::as_str),
                match stack {
                    LayerStack::Overlay(_) => "an overlay",
                    LayerStack::Btrfs(_) => "Btrfs subvolumes",
                    LayerStack::Plain(_) => "plain trees",
                }
            ))),
        }
    }

    fn overlay(&mut self, stack: &OverlayStack, pair: &mut OverlayPair<'_>) -> Result<(), Trouble> {
        let untouched = match self.only {
            [] => pair.untouched(),
            _ => None,
        };
        if untouched.is_none() {
            self.outcome = self.run(pair);
        }
        self.injected_layers(stack, untouched.as_ref().map(|seen| &seen.beneath));
        let mut upper = stack.upper.dir.stat_self()?;
        // Something came meanwhile, or went.
        if untouched.is_some_and(|seen| seen.ctime != upper.ctime) {
            self.outcome = self.run(pair);
            self.injected_layers(stack, None);
            upper = stack.upper.dir.stat_self()?;
        }
        // A directory that is being removed lists as empty: that is no answer.
        if upper.links == 0 {
            self.outcome.gaps.push(Gap::new(
                "upper layer",
                "it was removed while it was being looked at",
            ));
        }
        Ok(())
    }

    fn btrfs(&mut self, stack: &BtrfsStack) -> Result<(), Trouble> {
        let snapshot = match self.options.atomic {
            true => Some(
                Snapshot::take(stack)
                    .map_err(|e| Trouble(format!("a snapshot of the container: {e}")))?,
            ),
            false => None,
        };
        let looked_at = snapshot.as_ref().map(Snapshot::subvolume);
        let reference = stack.injected.as_ref().unwrap_or(&stack.image);
        let (scope, confirm) = (self.scope(), self.options.confirm);
        let mut agreement = Agreement::default();
        let mut last = None;
        for look in 1..=agreement::LOOKS {
            let mut pair = BtrfsPair::open(
                &stack.anchor,
                reference,
                &stack.container,
                looked_at,
                (scope, confirm),
                self.options.jobs.is_none_or(|jobs| jobs.get() > 1),
            )?;
            let found = match pair.is_untouched() {
                true => {
                    self.add_cost(pair.cost());
                    Outcome::default()
                }
                false => self.run(&mut pair),
            };
            let mut moved = pair.moved()?;
            if moved.is_empty() {
                last = Some((pair, found));
                break;
            }
            agreement.add(&found, |path, kind| pair.touches(&mut moved, path, kind));
            // All of it is let go of before the next look, which finds as much again.
            if look == agreement::LOOKS {
                last = Some((pair, agreement.conclude(found)));
                break;
            }
        }
        let Some((mut pair, outcome)) = last else {
            return Ok(());
        };
        self.outcome = outcome;
        let moved = pair.reference_moved()?;
        if !pair.still_there()? {
            self.outcome.gaps.push(Gap::new(
                "subvolume",
                "it was removed while it was being looked at",
            ));
        }
        self.note_moved(moved);
        // The next one has the use of its memory.
        drop(pair);
        if let Some(injected) = &stack.injected {
            self.injected_subvolume(stack, injected)?;
        }
        Ok(())
    }

    /// Compares the subvolume that the runtime put between image and container with the image's.
    fn injected_subvolume(
        &mut self,
        stack: &BtrfsStack,
        injected: &Subvolume,
    ) -> Result<(), Trouble> {
        let (scope, confirm) = (self.scope(), self.options.confirm);
        let (trees, expected) = (&self.images.trees, stack.injected_paths.as_slice());
        let (anchor, image) = (&stack.anchor, &stack.image);
        let mut candidate = None;
        if scope == Scope::Everything {
            // Whatever is wrong with it, comparing it tells.
            let known = BtrfsPair::as_example(anchor, image, injected, expected, trees);
            if let Ok(Some(items)) = known {
                self.add_cost((items, 0));
                return Ok(());
            }
            let read = BtrfsPair::read_example(anchor, image, injected, expected, trees);
            candidate = read.ok().flatten();
        }
        let mut pair = BtrfsPair::injected(
            &stack.anchor,
            &stack.image,
            injected,
            scope,
            confirm,
            &self.images.trees,
        )?;
        let found = self.run(&mut pair);
        let moved = pair.reference_moved()?;
        if let Some(candidate) = candidate
            && moved == 0
            && found.gaps.is_empty()
            && (found.changes.iter()).all(|change| is_expected(expected, change))
        {
            pair.keep_example(candidate, trees)?;
        }
        pair.share(&stack.anchor, &self.images.trees);
        self.note_moved(moved);
        self.add_injected(found, &stack.injected_paths);
        Ok(())
    }

    fn scope(&self) -> Scope {
        if self.only.is_empty() {
            Scope::Everything
        } else {
            Scope::Paths
        }
    }

    fn note_moved(&mut self, moved: usize) {
        if moved > 0 {
            let why = format!(
                "{moved} inodes of the image's subvolume changed after the container was made from it"
            );
            self.outcome.gaps.push(Gap::new(REFERENCE, why));
        }
    }

    /// Compares two trees by digests: each other's, or those of a stored baseline.
    fn digest<P: Readable>(&mut self, trees: P) -> Result<(), Trouble> {
        let (algorithm, jobs) = (self.options.algorithm, self.options.threads());
        self.outcome = match &self.options.baseline {
            None => self.run(&mut DigestPair::new(trees, algorithm, jobs)),
            Some(path) => {
                let failed = |why: String| {
                    Trouble(format!(
                        "the baseline {}: {why}",
                        escape(path.as_os_str().as_bytes())
                    ))
                };
                let file = File::open(path).map_err(|e| failed(e.to_string()))?;
                let pair = BaselinePair::read(&mut BufReader::new(file), trees, jobs);
                self.run(&mut pair.map_err(|e| failed(e.to_string()))?)
            }
        };
        Ok(())
    }

    /// Compares the layers that the runtime put between image and container with the image. `top` is what
    /// was read of the root of the topmost one just now.
    fn injected_layers(&mut self, stack: &OverlayStack, top: Option<&Root>) {
        let examples = match self.only {
            [] => self.images.layers.examples(stack),
            _ => None,
        };
        let expected = stack.injected_paths.as_slice();
        for (number, layer) in stack.injected.iter().enumerate() {
            let root = top.filter(|_| number == 0);
            let have = |all: &Examples| all.have(layer, root, expected);
            if let Some(entries) = examples.as_ref().and_then(have) {
                self.cost.entries_read += entries;
                continue;
            }
            let example = examples.as_ref().and_then(|all| all.read(layer));
            if let Some(pair) = OverlayPair::injected(stack, number, self.options.confirm) {
                let injected = self.run(&mut pair.sharing(stack, &self.images.layers));
                if let Some((all, example)) = examples.as_ref().zip(example)
                    && injected.gaps.is_empty()
                    && (injected.changes.iter()).all(|change| is_expected(expected, change))
                {
                    all.keep(layer, example, expected);
                }
                self.add_injected(injected, expected);
            }
        }
    }

    fn run<P: Pair>(&mut self, pair: &mut P) -> Outcome {
        let limits = Limits {
            expand: self.options.expand,
            max_changes: self.options.max_changes,
        };
        let outcome = if self.only.is_empty() {
            walk::walk(pair, limits)
        } else {
            paths::check(pair, self.only, limits)
        };
        self.add_cost(pair.cost());
        outcome
    }

    fn add_cost(&mut self, (entries_read, bytes_read): (u64, u64)) {
        self.cost.entries_read += entries_read;
        self.cost.bytes_read += bytes_read;
    }

    /// Adds what a layer that the runtime made differs in from the image, unless it is exactly what
    /// that runtime makes, or the container changed the same path itself.
    fn add_injected(&mut self, injected: Outcome, expected: &[RuntimePath]) {
        let own = self.outcome.changes.len();
        for change in injected.changes {
            let (container, _) = self.outcome.changes.split_at(own);
            let known = container
                .binary_search_by(|other| other.path.cmp(&change.path))
                .is_ok();
            if !known && !is_expected(expected, &change) {
                self.outcome.changes.push(change);
            }
        }
        outcome::sort(&mut self.outcome.changes);
        self.outcome.gaps.extend(injected.gaps);
    }
}

/// Whether a change is nothing but what the runtime makes.
fn is_expected(expected: &[RuntimePath], change: &Change) -> bool {
    expected.iter().any(|path| path.covers(change))
}
