//! Which engine compares a layer stack, and the measurement that comes of it.

use plimsoll_core::model::{
    Baseline, Container, Cost, EngineKind, Gap, LayerTrust, Measurement, RootPath, RuntimePath,
};

use super::outcome::{Limits, Outcome};
use super::overlay::OverlayPair;
use super::{Options, Pair, Trouble, paths, walk};
use crate::layers::LayerStack;

/// Compares the two sides of a container.
///
/// What cannot be compared at all is a gap in a measurement without an engine.
pub fn measure(
    container: Container,
    stack: &LayerStack,
    only: &[RootPath],
    options: &Options,
) -> Measurement {
    let mut run = Run {
        only,
        options,
        outcome: Outcome::default(),
        cost: Cost::default(),
    };
    let engine = match run.compare(stack) {
        Ok(engine) => Some(engine),
        Err(trouble) => {
            run.outcome.gaps.push(Gap::new("layers", trouble.0));
            None
        }
    };
    Measurement {
        container,
        engine,
        baseline: Baseline {
            layers: LayerTrust::Trusted,
        },
        changes: run.outcome.changes,
        identical_copies: run.outcome.identical_copies,
        gaps: run.outcome.gaps,
        cost: run.cost,
    }
}

struct Run<'o> {
    only: &'o [RootPath],
    options: &'o Options,
    outcome: Outcome,
    cost: Cost,
}

impl Run<'_> {
    fn compare(&mut self, stack: &LayerStack) -> Result<EngineKind, Trouble> {
        let confirm = self.options.confirm;
        let wanted = self.options.engine;
        match (stack, wanted) {
            (LayerStack::Overlay(stack), None | Some(EngineKind::Overlay)) => {
                self.outcome = self.run(&mut OverlayPair::container(stack, confirm)?);
                for layer in 0..stack.injected.len() {
                    if let Some(mut pair) = OverlayPair::injected(stack, layer, confirm) {
                        let injected = self.run(&mut pair);
                        self.add_injected(injected, &stack.injected_paths);
                    }
                }
                // A directory that is being removed lists as empty: that is no answer.
                if stack.upper.dir.stat_self()?.links == 0 {
                    self.outcome.gaps.push(Gap::new(
                        "upper layer",
                        "it was removed while it was being looked at",
                    ));
                }
                Ok(EngineKind::Overlay)
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
        let (entries_read, bytes_read) = pair.cost();
        self.cost.entries_read += entries_read;
        self.cost.bytes_read += bytes_read;
        outcome
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
            if !known && !expected.iter().any(|path| path.covers(&change)) {
                self.outcome.changes.push(change);
            }
        }
        self.outcome.changes.sort_by(|a, b| a.path.cmp(&b.path));
        self.outcome.gaps.extend(injected.gaps);
    }
}
