//! The table: a line a method, at most 100 columns of it, and what the figures mean.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use plimsoll_core::model::{RuntimeKind, escape};
use unicode_width::UnicodeWidthStr as _;

use super::figures::{Figures, Spread, grouped, ratio};
use super::json::{Compared, Document, Measured};
use super::machine::Machine;
use crate::render::table;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const LOUD: Style = AnsiColor::Red.on_default().bold();

const HEAD: [&str; 10] = [
    "METHOD",
    "WALL",
    "MIN–MAX",
    "RATIO",
    "CPU",
    "MEMORY",
    "READ",
    "STORED",
    "CALLS",
    "FOUND",
];

/// Writes the document as a table for each container.
///
/// # Errors
/// Those of writing.
pub(super) fn write(document: &Document, out: &mut dyn Write) -> io::Result<()> {
    for container in &document.containers {
        self::container(container, document.runs, out)?;
    }
    for failed in &document.failed {
        writeln!(out, "{LOUD}{}{LOUD:#}  {}\n", failed.target, failed.why)?;
    }
    for gap in &document.gaps {
        writeln!(out, "not seen: {gap}")?;
    }
    let host = &document.host;
    writeln!(
        out,
        "{DIM}{}; Linux {}.{DIM:#}",
        processors(host),
        host.kernel
    )?;
    writeln!(
        out,
        "{DIM}A turn is a process: WALL and RATIO from its start to its end. READ is file content, STORED\n\
         what an image needs beforehand. Other work on the machine shows: read the order of magnitude.{DIM:#}"
    )
}

fn container(container: &Compared, runs: u32, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{BOLD}{}{BOLD:#}  {DIM}{}medians of {}{DIM:#}",
        container.title(),
        origin(container),
        turns(runs),
    )?;
    let methods = &container.methods;
    let warm: Vec<_> = methods.iter().map(|m| (m, &m.warm)).collect();
    rows("caches warm", &warm, out)?;
    let cold: Vec<_> = methods
        .iter()
        .filter_map(|m| Some((m, m.cold.as_ref()?)))
        .collect();
    if !cold.is_empty() {
        rows("caches cold", &cold, out)?;
    }
    if !container.agree {
        writeln!(
            out,
            "{LOUD}THE METHODS DISAGREE about what changed:{LOUD:#}"
        )?;
        for line in &container.disagreements {
            writeln!(out, "  {LOUD}{line}{LOUD:#}")?;
        }
    }
    if let Some(alone) = alone(methods) {
        writeln!(out, "{DIM}The comparison alone: {alone}.{DIM:#}")?;
    }
    for note in &container.notes {
        writeln!(out, "{note}")?;
    }
    writeln!(out)
}

/// What comparing took without the start of a process: by metadata, and by the fastest hash.
fn alone(methods: &[Measured]) -> Option<String> {
    let first = methods.first().filter(|method| !method.hashes())?;
    let micros = |method: &Measured| method.warm.engine_micros.median;
    let told = methods.iter().filter(|method| !method.hashes());
    let mut told: Vec<String> = told
        .map(|method| format!("{} {}", method.name, time(micros(method))))
        .collect();
    if let Some(fastest) = fastest(methods) {
        let times = ratio(micros(fastest), micros(first));
        told.push(format!(
            "{} {} ({times})",
            fastest.name,
            time(micros(fastest))
        ));
    }
    Some(told.join(", "))
}

/// Returns the fastest of the methods that hash.
pub(super) fn fastest(methods: &[Measured]) -> Option<&Measured> {
    methods
        .iter()
        .filter(|method| method.hashes())
        .min_by_key(|method| method.warm.wall_micros.median)
}

fn rows(title: &str, methods: &[(&Measured, &Figures)], out: &mut dyn Write) -> io::Result<()> {
    let one = methods.first().map_or(0, |(_, f)| f.wall_micros.median);
    let mut rows: Vec<[String; HEAD.len()]> = vec![HEAD.map(str::to_owned)];
    rows[0][0] = title.to_uppercase();
    rows.extend(
        methods
            .iter()
            .map(|(method, figures)| row(method, figures, one)),
    );
    let mut widths = [0; HEAD.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let pad = width - cell.width();
            // Words begin at one column, numbers end at one.
            line += &match column {
                0 => format!("{cell}{:pad$}", ""),
                _ => format!("  {:pad$}{cell}", ""),
            };
        }
        let style = if index == 0 { DIM } else { Style::new() };
        writeln!(out, "{style}{}{style:#}", line.trim_end())?;
    }
    Ok(())
}

fn row(method: &Measured, figures: &Figures, one: u64) -> [String; HEAD.len()] {
    [
        method.name.clone(),
        time(figures.wall_micros.median),
        between(figures.wall_micros),
        ratio(figures.wall_micros.median, one),
        time(figures.cpu_micros.median),
        table::bytes(figures.peak_memory_bytes.median),
        table::bytes(figures.content_bytes.median),
        table::bytes(method.stored_bytes),
        method.system_calls.map_or_else(|| "-".to_owned(), grouped),
        method.found(),
    ]
}

/// Returns who runs a container and what it is doing, where somebody does, and a comma.
pub(super) fn origin(container: &Compared) -> String {
    match container.runtime {
        RuntimeKind::Overlay | RuntimeKind::Tree => String::new(),
        _ => format!(
            "{}, {}, ",
            container.runtime.as_str(),
            container.state.as_str()
        ),
    }
}

/// Returns how many turns there were.
pub(super) fn turns(runs: u32) -> String {
    match runs {
        1 => "1 turn".to_owned(),
        many => format!("{many} turns"),
    }
}

/// Returns what computes, and how it does SHA-256.
pub(super) fn processors(machine: &Machine) -> String {
    let number = match machine.cpu.processors {
        1 => "1 processor".to_owned(),
        many => format!("{many} processors"),
    };
    let sha = match machine.cpu.sha_instructions {
        Some(true) => "SHA-256 by the processor's own instructions",
        Some(false) => "SHA-256 in software, for the processor has no instructions for it",
        None => "SHA-256 perhaps in software",
    };
    format!("{number}, {}; {sha}", escape(machine.cpu.model.as_bytes()))
}

/// Returns a time for people.
pub(super) fn time(micros: u64) -> String {
    table::duration(Duration::from_micros(micros))
}

/// Returns the least and the greatest, with the unit once where it is the same.
pub(super) fn between(spread: Spread) -> String {
    let (min, max) = (time(spread.min), time(spread.max));
    match (min.split_once(' '), max.split_once(' ')) {
        (Some((number, one)), Some((_, other))) if one == other => format!("{number}–{max}"),
        _ => format!("{min}–{max}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::testdata;

    fn text(document: &Document) -> String {
        let mut out = Vec::new();
        write(document, &mut out).unwrap();
        let plain = anstream::adapter::strip_bytes(&out).into_vec();
        String::from_utf8(plain).unwrap()
    }

    #[test]
    fn at_most_a_hundred_columns() {
        let text = text(&testdata::document());
        for line in text.lines() {
            assert!(line.width() <= 100, "{}: {line}", line.width());
        }
        assert!(
            text.contains("CACHES WARM") && text.contains("CACHES COLD"),
            "{text}"
        );
        assert!(text.contains("overlay exact"), "{text}");
        let alone = "overlay exact 1.2 ms, overlay pure 1.2 ms, digest sha256 155 ms (125x).";
        assert!(text.contains(alone), "{text}");
        // Not counted.
        let sha256 = text.lines().find(|l| l.starts_with("digest sha256"));
        assert!(sha256.unwrap().contains(" - "), "{text}");
        assert!(!text.contains("DISAGREE"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn what_is_wrong_is_loud() {
        let mut document = testdata::document();
        document.containers[0].agree = false;
        document.containers[0].disagreements = vec!["/a: C for exact, no change for md5".into()];
        let text = text(&document);
        assert!(text.contains("THE METHODS DISAGREE"), "{text}");
        assert!(text.contains("/a: C for exact"), "{text}");
        assert!(!document.is_whole());
    }

    #[test]
    fn least_and_greatest() {
        let of = |min, max| {
            between(Spread {
                median: min,
                min,
                max,
            })
        };
        assert_eq!(of(3000, 3400), "3.0–3.4 ms");
        assert_eq!(of(980_000, 1_020_000), "980 ms–1.02 s");
    }
}
