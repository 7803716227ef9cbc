//! Plimsoll beside its peers and the floor: `plimsoll-bench run|page`.
//!
//! `run` makes images, containers and changes, runs every tool, and writes what it found into
//! `bench/results`; `page` makes the page, the plot and the README's section from that.
#![allow(
    clippy::print_stderr,
    reason = "a tool of the terminal, for whoever works on this repository"
)]

mod archive;
mod changes;
mod goals;
mod host;
mod interrupt;
mod matrix;
mod measure;
mod page;
mod pages;
mod plan;
mod plot;
mod results;
mod rounds;
mod scenarios;
mod send;
mod subject;
mod text;
mod thorough;
mod told;
mod tool;
mod traceless;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Instant;

use matrix::Bench;
use measure::Stand;
use plan::Plan;
use results::Results;
use subject::Runtimes;

const USAGE: &str = "\
usage: plimsoll-bench COMMAND
  run [--quick] [--full] [--cold] [--driver overlay2|btrfs]... [--image NAME]... [--output FILE]
                measure, as root; writes bench/results/DATE.json when no FILE is given, and nothing
                with --quick
  page          write docs/reference/benchmark.{md,svg} and the README's section from the last results
  page --check  fail when they are stale";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.split_first() {
        Some((&"run", rest)) => run(rest),
        Some((&"page", [])) => pages::write(&root()),
        Some((&"page", ["--check"])) => pages::check(&root()),
        _ => Err(vec![USAGE.to_owned()]),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(findings) => {
            for finding in findings {
                eprintln!("{finding}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Measures.
fn run(args: &[&str]) -> Result<(), Vec<String>> {
    let (plan, output) = parse(args)?;
    if let Some(why) = plimsoll_e2e::missing(host::NEEDED) {
        return Err(vec![format!(
            "cannot measure: {why} (bench/run.sh installs what is needed)"
        )]);
    }
    interrupt::watch();
    let program = root().join("target/bench/plimsoll");
    let stand = Stand::new(root().join("target/floor"));
    let bench = Bench {
        plan: &plan,
        stand: &stand,
        program: &program,
    };
    let mut results = Results {
        date: plimsoll_e2e::command::shell("date --iso-8601")
            .trim()
            .to_owned(),
        arguments: args.iter().map(|arg| (*arg).to_owned()).collect(),
        host: host::facts(),
        versions: host::versions(&program),
        left_out: plan.left_out(),
        ..Results::default()
    };
    let parts = plan.parts();
    let images = matrix::images(&parts, &root().join("target/bench"), &stand);
    results.images = images
        .iter()
        .flat_map(|images| images.beside.iter().chain([&images.own]))
        .map(|archive| archive.facts.clone())
        .collect();
    let output = output.or_else(|| {
        let name = format!("bench/results/{}.json", results.date);
        (!plan.quick).then(|| root().join(name))
    });
    for driver in plan.drivers() {
        let runtimes = Runtimes::start(driver);
        for (part, images) in parts.iter().zip(&images) {
            bench.part(&runtimes, part, images, &mut results);
            let archive = &images.own;
            let of_contents = if plan.quick {
                "small"
            } else {
                plan::LARGE.name
            };
            if archive.spec.name == of_contents {
                bench.contents(&runtimes, archive, &mut results);
            }
            save(&results, output.as_deref())?;
        }
        drop(runtimes);
        let mut own = images.iter().map(|images| &images.own);
        let small = own.find(|archive| archive.spec.name == "small");
        if let Some(small) = small.filter(|_| plan.wants(scenarios::MANY)) {
            bench.many(driver, small, &mut results);
        }
        save(&results, output.as_deref())?;
    }
    let mut wrong = wrong(&results);
    if plan.drivers.is_empty() && plan.images.is_empty() {
        wrong.extend(absent(&results));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Writes what there is so far: an hour's work is not lost with its last minute.
fn save(results: &Results, output: Option<&Path>) -> Result<(), Vec<String>> {
    let Some(output) = output else {
        return Ok(());
    };
    let written = std::fs::write(output, results.to_text());
    written.map_err(|error| vec![format!("{}: {error}", output.display())])?;
    progress(&format!("written: {}", output.display()));
    Ok(())
}

/// Plimsoll's answers must be the truth, in every cell; without reading they may say more, never less.
fn wrong(results: &Results) -> Vec<String> {
    let own = results
        .cells
        .iter()
        .filter(|cell| cell.tool.starts_with("plimsoll"));
    own.filter_map(|cell| {
        let answer = cell.answer.as_ref()?;
        let fine = answer.is_exact() || (cell.tool == "plimsoll-never" && answer.missed() == 0);
        (!fine).then(|| format!("{} at {:?}: {answer:?}", cell.tool, cell.place))
    })
    .collect()
}

/// Every tool that the pages know must have been run.
fn absent(results: &Results) -> Vec<String> {
    let ran = |tool: &str| results.cells.iter().any(|cell| cell.tool == tool);
    let absent = tool::TOOLS.iter().filter(|about| !ran(about.tool));
    absent
        .map(|about| format!("{} was not run", about.tool))
        .collect()
}

fn parse(args: &[&str]) -> Result<(Plan, Option<PathBuf>), Vec<String>> {
    let mut plan = Plan::default();
    let mut output = None;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().map(|value| (*value).to_owned());
        let usage = || vec![USAGE.to_owned()];
        match *arg {
            "--quick" => plan.quick = true,
            "--full" => plan.full = true,
            "--cold" => plan.cold = true,
            "--driver" => plan.drivers.push(value().ok_or_else(usage)?),
            "--image" => plan.images.push(value().ok_or_else(usage)?),
            "--output" => output = Some(value().ok_or_else(usage)?.into()),
            _ => return Err(usage()),
        }
    }
    Ok((plan, output))
}

/// Says what is being done, and since when.
fn progress(what: &str) {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let seconds = START.elapsed().as_secs();
    eprintln!("{:3}:{:02}  {what}", seconds / 60, seconds % 60);
}

/// Returns the top of the repository.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}
