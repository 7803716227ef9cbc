//! Runs tools in interleaved rounds and holds what they say against the truth.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::changes::Truth;
use crate::interrupt;
use crate::measure::{Run, Stand, drop_caches, written};
use crate::plan::Plan;
use crate::results::{Cell, Place, Results};
use crate::told::judge;
use crate::tool::Task;

/// A run this long, in microseconds, is not repeated to warm the caches: its first run counts.
const LONG: u64 = 2_000_000;

/// Rounds with empty caches.
const COLD_ROUNDS: usize = 5;

/// A container in a state, and who is asked about it.
pub(crate) struct Site<'a> {
    /// Where what is measured belongs.
    pub(crate) place: Place,
    /// What was changed in the container.
    pub(crate) truth: &'a Truth,
    /// The tools.
    pub(crate) tasks: &'a [Task],
}

/// Runs the tasks of all sites: each once to see its answer and to warm the caches, then in rounds, each
/// task once in a round, until each has been run as often as the plan says. What is compared with each other
/// belongs in one call: a machine is faster at one time than at another. Each round has another order: who comes
/// after a tool that reads much finds the processor's caches full of that.
pub(crate) fn run(stand: &Stand, plan: &Plan, results: &mut Results, sites: &[Site]) {
    let all: Vec<(&Site, &Task)> = sites
        .iter()
        .flat_map(|site| site.tasks.iter().map(move |task| (site, task)))
        .collect();
    let mut cells = Vec::new();
    let mut wanted = Vec::new();
    for (site, task) in &all {
        let run = once(stand, task, true);
        let mut cell = cell(&site.place, site.truth, task, &run);
        let runs = plan.runs(run.sample.0);
        if runs == 1 || run.sample.0 > LONG {
            cell.samples.push(run.sample);
        }
        wanted.push(runs);
        cells.push(cell);
        let line = written(&task.command);
        results.commands.entry(task.tool.to_owned()).or_insert(line);
    }
    // What stands in one ratio is run equally often.
    let wanted: Vec<usize> = all
        .iter()
        .map(|(_, task)| {
            let same = all.iter().zip(&wanted);
            let same = same.filter(|((_, other), _)| other.tool == task.tool);
            same.map(|(_, wanted)| *wanted).max().unwrap_or(0)
        })
        .collect();
    for round in 0..wanted.iter().copied().max().unwrap_or(0) {
        let mut turns: Vec<_> = all
            .iter()
            .zip(&mut cells)
            .zip(&wanted)
            .enumerate()
            .collect();
        turns.sort_by_cached_key(|(task, _)| by_chance(round, *task));
        for (_, (((_, task), cell), wanted)) in turns {
            if round < *wanted && cell.samples.len() < *wanted {
                cell.samples.push(once(stand, task, false).sample);
            }
        }
    }
    results.cells.extend(cells);
}

/// Where a task comes in a round: by chance, and the same in every run of the benchmark.
fn by_chance(round: usize, task: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    (round, task).hash(&mut hasher);
    hasher.finish()
}

/// The same with empty caches before each run.
pub(crate) fn run_cold(
    stand: &Stand,
    results: &mut Results,
    place: &Place,
    truth: &Truth,
    tasks: &[Task],
) {
    let mut samples: BTreeMap<&str, Cell> = BTreeMap::new();
    for _ in 0..COLD_ROUNDS {
        for task in tasks {
            drop_caches();
            let run = once(stand, task, true);
            samples
                .entry(task.tool)
                .or_insert_with(|| cell(place, truth, task, &run))
                .samples
                .push(run.sample);
        }
    }
    results.cells.extend(samples.into_values());
}

/// Returns the cell of a task, with what its first run said held against the truth.
fn cell(place: &Place, truth: &Truth, task: &Task, first: &Run) -> Cell {
    Cell {
        place: place.clone(),
        tool: task.tool.to_owned(),
        samples: Vec::new(),
        answer: task
            .reader
            .as_ref()
            .map(|read| judge(truth, &read(&first.output))),
    }
}

fn once(stand: &Stand, task: &Task, keep: bool) -> Run {
    interrupt::check();
    let run = stand.run(&task.command, task.input.as_deref(), keep);
    assert!(
        (0..=task.highest_exit).contains(&run.status),
        "{} ended with {}: {:?}\n{}",
        task.tool,
        run.status,
        task.command,
        run.talk
    );
    if let Some(undo) = &task.undo {
        undo();
    }
    run
}
