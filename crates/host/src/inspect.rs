//! The pipeline: find, resolve, compare.

use std::time::Instant;

use plimsoll_core::model::{
    Baseline, Container, Cost, EngineKind, Gap, LayerTrust, Measurement, RootPath,
};

pub use crate::measure::Options;
use crate::measure::{self, Images, REFERENCE, view};
use crate::privilege;
pub use crate::runtimes::find::{FindError as InspectError, Sources, Target};
use crate::runtimes::{RuntimeError, find};
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
    let missing = privilege::missing();
    let host = view::HostMounts::default();
    let images = Images::default();
    let (paths, options) = (&request.paths, &request.options);
    let plain = options.engine == Some(EngineKind::Digest);
    for (runtime, container) in found {
        let start = Instant::now();
        let mut measurement = match runtime.locate(&container, plain) {
            Ok(located) => {
                let mut measurement =
                    measure::measure(container, &located.stack, paths, options, &images);
                // Of a container that no runtime tells nothing says what should be mounted in it, and who
                // is in it.
                if measurement.container.runtime.has_records() {
                    view::look(&mut measurement, &located.mounts, &request.paths, &host);
                }
                if !measurement.changes.is_empty() {
                    let (paths, gaps) = runtime.runtime_paths(
                        &measurement.container,
                        &located.stack,
                        &measurement.changes,
                    );
                    measurement.container.runtime_paths = paths;
                    measurement.gaps.extend(gaps);
                }
                // After they were compared with, the first time: a layer that was touched meanwhile has no seal
                // that holds.
                let (baseline, gaps) =
                    prover.prove(&*runtime, &measurement.container, &located.stack);
                if baseline.layers >= LayerTrust::Sealed {
                    let moved = |gap: &Gap| gap.what.as_bytes() == REFERENCE.as_bytes();
                    measurement.gaps.retain(|gap| !moved(gap));
                }
                measurement.baseline = baseline;
                measurement.gaps.extend(gaps);
                measurement.gaps.extend(located.gaps);
                measurement
                    .gaps
                    .extend(runtime.vanished(&measurement.container));
                measurement
            }
            Err(error) => unmeasured(container, &error),
        };
        measurement.gaps.extend(missing.iter().cloned());
        measurement.cost.wall = start.elapsed();
        each(measurement);
    }
    Ok(gaps)
}

/// The measurement of a container of which nothing could be compared.
fn unmeasured(container: Container, error: &RuntimeError) -> Measurement {
    let gap = Gap::new("layers", error.to_string());
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
