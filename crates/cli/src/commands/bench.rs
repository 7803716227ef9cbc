//! `plimsoll bench`: what the metadata engines save, measured on one container of this host.
//!
//! The methods take turns, so that whatever else the machine does falls on all of them; the median
//! of each is told, as the disk cache left it after a first turn that does not count.

use std::io::{BufWriter, Write as _};
use std::num::NonZero;
use std::path::Path;
use std::time::Duration;

use anstyle::Style;
use plimsoll_core::model::{Algorithm, EngineKind, Measurement};
use plimsoll_core::report::v1;
use plimsoll_host::inspect::{Options, Request, Sources, Target, inspect};
use plimsoll_host::layers::LayerStack;
use plimsoll_host::measure::digest::baseline;
use plimsoll_host::measure::overlay::OverlayPair;
use plimsoll_host::measure::{Confirm, Side};
use plimsoll_host::runtimes::find;
use serde::Serialize;

use super::look::{sources, tool};
use crate::args::{BenchArgs, Format};
use crate::error::{CliError, shown};
use crate::output::Output;
use crate::render::table;
use crate::talk::Talk;
use crate::{config, targets};

const DIM: Style = Style::new().dimmed();

/// One way to find the changes, and what its turns took.
#[derive(Debug)]
struct Method {
    name: String,
    options: Options,
    /// Bytes that have to be stored for each image beforehand.
    stored_bytes: u64,
    walls: Vec<Duration>,
    last: Option<Measurement>,
}

/// What is told about one method.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    method: String,
    engine: Option<EngineKind>,
    median_micros: u64,
    /// Its median, divided by that of the first method.
    times_first: f64,
    entries_read: u64,
    bytes_read: u64,
    stored_bytes: u64,
    changes: usize,
    gaps: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    tool: v1::Tool,
    container: String,
    runs: u32,
    methods: Vec<Row>,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// [`CliError`] when the container cannot be compared.
pub(crate) fn run(args: BenchArgs, config: Option<&Path>, talk: &Talk) -> Result<u8, CliError> {
    let file = config::load(config)?;
    let format = args
        .format
        .or(file.comparison.format)
        .unwrap_or(Format::Table);
    if !matches!(format, Format::Table | Format::Json) {
        return Err(CliError::new(
            "bench speaks in two forms: --format table or json",
        ));
    }
    let target = targets::parse(&args.target)?;
    let sources = sources(args.places.or(file.places))?;
    let jobs = args.jobs.or(file.comparison.jobs);
    let options = Options {
        jobs: jobs.and_then(|jobs| NonZero::new(jobs as usize)),
        ..Options::default()
    };

    let first = look(&sources, &target, &options)?;
    if first.engine.is_none() {
        let why: Vec<String> = first
            .gaps
            .iter()
            .map(|gap| format!("{}: {}", gap.what, gap.why))
            .collect();
        return Err(CliError::new(format!(
            "the container cannot be compared: {}",
            why.join("; ")
        )));
    }
    let temporary;
    let directory: &Path = match &args.keep {
        Some(directory) => {
            std::fs::create_dir_all(directory)
                .map_err(|error| CliError::file("cannot make", directory, &error))?;
            directory
        }
        None => {
            temporary = tempfile::tempdir().map_err(|error| {
                CliError::new(format!("no directory for the baselines: {error}"))
            })?;
            temporary.path()
        }
    };
    let mut methods = metadata(&first, &options);
    methods.extend(digests(&sources, &target, &options, directory, *talk)?);
    // The first turn warms the cache for all alike.
    for turn in 0..=args.runs {
        talk.note(&format!("turn {turn} of {}", args.runs));
        for method in &mut methods {
            let measurement = look(&sources, &target, &method.options)?;
            if turn > 0 {
                method.walls.push(measurement.cost.wall);
            }
            method.last = Some(measurement);
        }
    }

    let rows = rows(methods);
    let mut out = Output::open(None)?;
    let written = match format {
        Format::Json => json(&first, args.runs, rows, &mut out),
        _ => text(&rows, &mut out),
    };
    written
        .and_then(|()| out.finish())
        .map_err(|error| CliError::writing(&error))?;
    Ok(0)
}

fn look(sources: &Sources, target: &Target, options: &Options) -> Result<Measurement, CliError> {
    let request = Request {
        sources: sources.clone(),
        targets: vec![target.clone()],
        paths: Vec::new(),
        options: options.clone(),
    };
    let mut last = None;
    inspect(&request, &mut |measurement| last = Some(measurement))?;
    last.ok_or_else(|| CliError::new("no container was looked at"))
}

impl Method {
    fn new(name: impl Into<String>, options: Options) -> Self {
        Self {
            name: name.into(),
            options,
            stored_bytes: 0,
            walls: Vec::new(),
            last: None,
        }
    }
}

/// The engine that the storage driver has, exact and pure; none for two plain trees.
fn metadata(first: &Measurement, options: &Options) -> Vec<Method> {
    let engine = match first.engine {
        Some(engine @ (EngineKind::Overlay | EngineKind::Btrfs)) => engine,
        _ => return Vec::new(),
    };
    let with = |confirm| Options {
        engine: Some(engine),
        confirm,
        ..options.clone()
    };
    vec![
        Method::new(format!("{}, exact", engine.as_str()), with(Confirm::Auto)),
        Method::new(
            format!("{}, metadata alone", engine.as_str()),
            with(Confirm::Never),
        ),
    ]
}

/// Each hash function, against digests of the image that are stored beforehand: so only the
/// container's side is read in a turn, which is the best that hashing can do.
fn digests(
    sources: &Sources,
    target: &Target,
    options: &Options,
    directory: &Path,
    talk: Talk,
) -> Result<Vec<Method>, CliError> {
    let mut methods = Vec::new();
    for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Blake3] {
        let name = algorithm.as_str();
        let file = directory.join(name);
        talk.note(&format!("storing {name} digests of the image"));
        let stored_bytes = store(sources, target, algorithm, options.threads(), &file)?;
        let options = Options {
            engine: Some(EngineKind::Digest),
            algorithm,
            baseline: Some(file),
            ..options.clone()
        };
        methods.push(Method {
            stored_bytes,
            ..Method::new(format!("{name}, stored digests"), options)
        });
    }
    Ok(methods)
}

/// Stores the digests of the image and returns how many bytes they take.
fn store(
    sources: &Sources,
    target: &Target,
    algorithm: Algorithm,
    jobs: usize,
    file: &Path,
) -> Result<u64, CliError> {
    let (found, _) = find::containers(sources, std::slice::from_ref(target))?;
    let Some((runtime, container)) = found.first() else {
        return Err(CliError::new("no container was found"));
    };
    let located = runtime
        .locate(container, true)
        .map_err(|error| CliError::new(error.to_string()))?;
    let plain;
    let mut pair = match &located.stack {
        LayerStack::Overlay(stack) => OverlayPair::container(stack, Confirm::Auto)
            .map_err(|trouble| CliError::new(trouble.to_string()))?,
        LayerStack::Plain(stack) => OverlayPair::plain(stack, Confirm::Auto),
        LayerStack::Btrfs(stack) => {
            plain = stack
                .as_plain()
                .map_err(|error| CliError::new(format!("the subvolumes: {error}")))?;
            OverlayPair::plain(&plain, Confirm::Auto)
        }
    };
    let mut out = std::fs::File::create(file)
        .map(BufWriter::new)
        .map_err(|error| CliError::file("cannot write", file, &error))?;
    baseline::write(&mut pair, Side::Image, algorithm, jobs, &mut out)
        .map_err(|error| CliError::new(format!("the baseline {}: {error}", shown(file))))
}

fn median(mut walls: Vec<Duration>) -> Duration {
    walls.sort();
    let middle = walls.len() / 2;
    match (walls.get(middle), walls.get(middle.wrapping_sub(1))) {
        (Some(upper), Some(lower)) if walls.len().is_multiple_of(2) => (*upper + *lower) / 2,
        (Some(middle), _) => *middle,
        (None, _) => Duration::ZERO,
    }
}

fn rows(methods: Vec<Method>) -> Vec<Row> {
    let mut first = None;
    methods
        .into_iter()
        .filter_map(|method| {
            let last = method.last?;
            let median = median(method.walls);
            let first = *first.get_or_insert(median);
            Some(Row {
                method: method.name,
                engine: last.engine,
                median_micros: u64::try_from(median.as_micros()).unwrap_or(u64::MAX),
                times_first: median.as_secs_f64() / first.as_secs_f64().max(f64::MIN_POSITIVE),
                entries_read: last.cost.entries_read,
                bytes_read: last.cost.bytes_read,
                stored_bytes: method.stored_bytes,
                changes: last.changes.len(),
                gaps: last.gaps.len(),
            })
        })
        .collect()
}

fn json(
    first: &Measurement,
    runs: u32,
    methods: Vec<Row>,
    out: &mut Output,
) -> std::io::Result<()> {
    let document = Document {
        schema_version: v1::SCHEMA_VERSION,
        tool: tool(),
        container: first.container.display_name().to_owned(),
        runs,
        methods,
    };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}

fn text(rows: &[Row], out: &mut Output) -> std::io::Result<()> {
    writeln!(
        out,
        "{DIM}{:26} {:>9} {:>8} {:>10} {:>10} {:>7} {:>4}{DIM:#}",
        "METHOD", "MEDIAN", "RATIO", "READ", "STORED", "CHANGES", "GAPS"
    )?;
    for row in rows {
        writeln!(
            out,
            "{:26} {:>9} {:>8} {:>10} {:>10} {:>7} {:>4}",
            row.method,
            table::duration(Duration::from_micros(row.median_micros)),
            format!("{:.1}x", row.times_first),
            table::bytes(row.bytes_read),
            table::bytes(row.stored_bytes),
            row.changes,
            row.gaps,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let of = |micros: &[u64]| {
            median(micros.iter().copied().map(Duration::from_micros).collect()).as_micros()
        };
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[5]), 5);
        assert_eq!(of(&[9, 1, 5]), 5);
        assert_eq!(of(&[1, 9, 3, 5]), 4);
    }
}
