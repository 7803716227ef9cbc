//! Looking at containers through the library, as `plimsoll check` does.

use plimsoll_core::model::{Gap, Measurement, RuntimeKind};
use plimsoll_host::inspect::{Options, Request, Sources, Target};

use crate::brute::{self, Differences};

/// Looks at containers by name, at all of them without a name; returns what was measured and the gaps
/// of the run.
///
/// # Errors
/// The sentence, when the run could not be done.
pub fn inspect(sources: Sources, names: &[&str]) -> Result<(Vec<Measurement>, Vec<Gap>), String> {
    inspect_with(sources, names, Options::default())
}

/// The same in another way of comparing.
///
/// # Errors
/// The sentence, when the run could not be done.
pub fn inspect_with(
    sources: Sources,
    names: &[&str],
    options: Options,
) -> Result<(Vec<Measurement>, Vec<Gap>), String> {
    inspect_of(RuntimeKind::Docker, sources, names, options)
}

/// The same with containers of another runtime.
///
/// # Errors
/// The sentence, when the run could not be done.
pub fn inspect_of(
    runtime: RuntimeKind,
    sources: Sources,
    names: &[&str],
    options: Options,
) -> Result<(Vec<Measurement>, Vec<Gap>), String> {
    let request = Request {
        sources,
        targets: names
            .iter()
            .map(|name| Target::Named {
                runtime: Some(runtime),
                name: (*name).to_owned(),
            })
            .collect(),
        paths: Vec::new(),
        options,
    };
    let mut found = Vec::new();
    let gaps = plimsoll_host::inspect::inspect(&request, &mut |m| found.push(m))
        .map_err(|error| error.to_string())?;
    Ok((found, gaps))
}

/// Looks at one container, of which everything must be seen.
///
/// # Panics
/// When it is not found or there is a gap.
#[must_use]
pub fn inspect_one(sources: Sources, name: &str) -> Measurement {
    let (mut found, gaps) = inspect(sources, &[name]).expect("inspect");
    assert_eq!(gaps, [], "{name}");
    let measurement = found.pop().expect("one container");
    assert_eq!(measurement.gaps, [], "{name}");
    measurement
}

/// Returns the changes that the runtime did not make itself, in the form of [`crate::brute`].
#[must_use]
pub fn not_of_runtime(measurement: &Measurement) -> Differences {
    let made = &measurement.container.runtime_paths;
    let changes: Vec<_> = measurement
        .changes
        .iter()
        .filter(|change| !made.iter().any(|path| path.covers(change)))
        .cloned()
        .collect();
    brute::of_changes(&changes)
}

/// Whether all of these changes are told of a container. Where some are not there must be a gap.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn is_whole_or_gap(measurement: &Measurement, expected: &Differences) -> bool {
    let told: Differences = brute::of_changes(&measurement.changes);
    let mut expected = expected.iter();
    let all = expected.all(|(path, what)| told.get(path) == Some(what));
    assert!(
        all || !measurement.gaps.is_empty(),
        "{} changes and no gap",
        told.len()
    );
    all
}
