//! The pipeline: find, resolve, compare.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use plimsoll_core::model::{
    Baseline, Container, Cost, EngineKind, ExpectedMount, Gap, LayerTrust, Measurement, RootPath,
};

pub use crate::measure::Options;
use crate::measure::{Compared, Comparisons, REFERENCE, view};
use crate::privilege;
pub use crate::runtimes::find::{FindError as InspectError, Sources, Target};
use crate::runtimes::{Located, Runtime, find};
use crate::seal::Prover;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where containers are looked for.
    pub sources: Sources,
    /// Which containers; all that are found when empty.
    pub targets: Vec<Target>,
    /// Only these paths, when not empty: each costs the same whatever the container's size.
    pub paths: Vec<RootPath>,
    /// How they are compared.
    pub options: Options,
}

/// Looks at each container asked for, and hands each measurement over as soon as it is made. The layers of
/// images are taken as they lie on disk. Returns what could not be seen and belongs to no single container.
///
/// A container that cannot be compared gives a measurement without an engine and with a gap.
///
/// # Errors
/// [`InspectError`] when a target is unknown or nothing can be looked at at all.
pub fn inspect(
    request: &Request,
    each: &mut dyn FnMut(Measurement),
) -> Result<Vec<Gap>, InspectError> {
    inspect_down(request, &mut Prover::none(), each)
}

/// The same down to the layers of images, which `prover` proves.
///
/// # Errors
/// Those of [`inspect`].
pub fn inspect_down(
    request: &Request,
    prover: &mut Prover,
    each: &mut dyn FnMut(Measurement),
) -> Result<Vec<Gap>, InspectError> {
    let (found, gaps) = find::containers(&request.sources, &request.targets)?;
    let plain = request.options.engine == Some(EngineKind::Digest);
    let mut run = Run {
        comparisons: Comparisons::new(found.len(), &request.paths, &request.options),
        waiting: VecDeque::new(),
        missing: privilege::missing(),
        host: view::HostMounts::default(),
        paths: &request.paths,
        prover,
    };
    for (runtime, container) in found {
        run.locate(runtime, container, plain);
        while run.waiting.len() > run.comparisons.ahead() {
            run.conclude(each);
        }
    }
    while !run.waiting.is_empty() {
        run.conclude(each);
    }
    Ok(gaps)
}

/// Containers on their way through the pipeline: they come out in the order in which they go in.
struct Run<'r> {
    comparisons: Comparisons,
    waiting: VecDeque<Waiting>,
    /// The gaps of every container.
    missing: Vec<Gap>,
    host: view::HostMounts,
    paths: &'r [RootPath],
    prover: &'r mut Prover,
}

/// A container that was looked for.
struct Waiting {
    runtime: Rc<dyn Runtime>,
    /// What was found; or what is told of one that cannot be compared.
    found: Result<Found, Measurement>,
    /// How long that took.
    took: Duration,
}

/// A container that is being compared.
struct Found {
    /// To tell which one it is, should no measurement come back.
    container: Container,
    mounts: Vec<ExpectedMount>,
    gaps: Vec<Gap>,
}

impl Run<'_> {
    /// Finds the layers of a container, and has them compared.
    fn locate(&mut self, runtime: Rc<dyn Runtime>, container: Container, plain: bool) {
        let start = Instant::now();
        let found = match runtime.locate(&container, plain) {
            Ok(Located {
                stack,
                mounts,
                gaps,
            }) => {
                let found = Found {
                    container: Container {
                        name: container.name.clone(),
                        ..Container::new(container.id.clone(), container.runtime)
                    },
                    mounts,
                    gaps,
                };
                self.comparisons.submit(container, stack);
                Ok(found)
            }
            Err(error) => Err(unmeasured(container, &error.to_string())),
        };
        self.waiting.push_back(Waiting {
            runtime,
            found,
            took: start.elapsed(),
        });
    }

    /// Hands over the measurement of the container that waits the longest.
    fn conclude(&mut self, each: &mut dyn FnMut(Measurement)) {
        let Some(Waiting {
            runtime,
            found,
            took,
        }) = self.waiting.pop_front()
        else {
            return;
        };
        let (mut measurement, took) = match found {
            Ok(found) => match self.comparisons.take() {
                Some(compared) => {
                    let start = Instant::now();
                    let took = took + compared.took;
                    let measurement = self.complete(&*runtime, found, compared);
                    (measurement, took + start.elapsed())
                }
                None => {
                    let why = "they were not compared: a thread ended";
                    (unmeasured(found.container, why), took)
                }
            },
            Err(measurement) => (measurement, took),
        };
        measurement.gaps.extend(self.missing.iter().cloned());
        measurement.cost.wall = took;
        each(measurement);
    }

    /// Adds what is known of a container beside its layers.
    fn complete(&mut self, runtime: &dyn Runtime, found: Found, compared: Compared) -> Measurement {
        let Compared {
            mut measurement,
            stack,
            ..
        } = compared;
        // Of a container that no runtime tells nothing says what should be mounted in it, and who
        // is in it.
        if measurement.container.runtime.has_records() {
            let known = view::Known {
                expected: &found.mounts,
                further: &|container| runtime.further_mounts(container, &stack),
            };
            view::look(&mut measurement, &known, self.paths, &self.host);
        }
        if !measurement.changes.is_empty() {
            let Measurement {
                container, changes, ..
            } = &measurement;
            let (paths, gaps) = runtime.runtime_paths(container, &stack, changes);
            measurement.container.runtime_paths = paths;
            measurement.gaps.extend(gaps);
        }
        // After they were compared with, the first time: a layer that was touched meanwhile has no seal
        // that holds.
        let (baseline, gaps) = self.prover.prove(runtime, &measurement.container, &stack);
        if baseline.layers >= LayerTrust::Sealed {
            let moved = |gap: &Gap| gap.what.as_bytes() == REFERENCE.as_bytes();
            measurement.gaps.retain(|gap| !moved(gap));
        }
        measurement.baseline = baseline;
        measurement.gaps.extend(gaps);
        measurement.gaps.extend(found.gaps);
        measurement
            .gaps
            .extend(runtime.vanished(&measurement.container));
        measurement
    }
}

/// The measurement of a container of which nothing could be compared.
fn unmeasured(container: Container, why: &str) -> Measurement {
    let gap = Gap::new("layers", why);
    Measurement {
        container,
        engine: None,
        baseline: Baseline::trusted(),
        changes: Vec::new(),
        identical_copies: 0,
        mounts: Vec::new(),
        code: Vec::new(),
        gaps: vec![gap],
        cost: Cost::default(),
    }
}
