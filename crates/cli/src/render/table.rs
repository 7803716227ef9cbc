//! Tables for people: a line a container, then what is held against it.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use plimsoll_core::model::{Aspect, Attributes, ChangeKind, FileType, Image, escape};
use plimsoll_core::report::v1;
use plimsoll_core::{Summary, Verdict};
use unicode_width::UnicodeWidthStr as _;

use super::columns::Columns;
use super::{View, beside, layers};
use crate::talk::Talk;

/// Changes of one container that `check` shows; `diff` shows all, and so does `-v`.
const SHOWN: usize = 25;

/// Column at which the notes on a path begin, where the path leaves room.
pub(super) const NOTES_AT: usize = 34;

const PLAIN: Style = Style::new();
pub(super) const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// Collects containers for one table.
#[derive(Debug)]
pub(crate) struct Table {
    view: View,
    width: Option<usize>,
    verbose: bool,
    containers: Vec<v1::Container>,
}

impl Table {
    pub(crate) fn new(view: View, width: Option<usize>, verbose: bool) -> Self {
        Self {
            view,
            width,
            verbose,
            containers: Vec::new(),
        }
    }

    pub(crate) fn container(&mut self, container: v1::Container) {
        self.containers.push(container);
    }

    /// Writes the table.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn finish(
        self,
        summary: Summary,
        out: &mut dyn Write,
        talk: Talk,
    ) -> io::Result<()> {
        match self.view {
            View::Check => self.check(summary, out),
            View::Diff => self.diff(out, talk),
        }
    }

    fn check(&self, summary: Summary, out: &mut dyn Write) -> io::Result<()> {
        if self.containers.is_empty() {
            return writeln!(out, "no containers");
        }
        self.overview(out)?;
        for container in &self.containers {
            self.details(container, out)?;
        }
        writeln!(out)?;
        let counts = [
            (summary.intact, Verdict::Intact),
            (summary.allowed, Verdict::Allowed),
            (summary.violated, Verdict::Violated),
            (summary.unknown, Verdict::Unknown),
        ];
        let told: Vec<String> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, verdict)| format!("{count} {}", verdict.as_str()))
            .collect();
        writeln!(out, "{}", told.join(", "))
    }

    /// A line a container.
    fn overview(&self, out: &mut dyn Write) -> io::Result<()> {
        const HEAD: [&str; 7] = [
            "NAME", "RUNTIME", "STATE", "IMAGE", "ENGINE", "VERDICT", "CHANGES",
        ];
        const NAME: usize = 0;
        const IMAGE: usize = 3;
        const VERDICT: usize = 5;
        let rows: Vec<Vec<String>> = self.containers.iter().map(|c| row(c).into()).collect();
        let columns = Columns {
            head: &HEAD,
            rows: &rows,
            shrinking: &[(IMAGE, 12), (NAME, 16)],
            // Numbers end at one column.
            last_is_number: true,
        };
        columns.write(self.width, out, |row, column| match column {
            VERDICT => verdict_style(self.containers[row].verdict),
            _ => PLAIN,
        })
    }

    /// What is held against one container.
    fn details(&self, container: &v1::Container, out: &mut dyn Write) -> io::Result<()> {
        let changes = &container.changes;
        let denied = changes.denied();
        let (wanted, shown) = match self.verbose {
            true => (changes.len(), changes.len()),
            false => (denied, SHOWN),
        };
        let gaps: Vec<&v1::Gap> = container
            .gaps
            .iter()
            .filter(|gap| self.verbose || !gap.accepted)
            .collect();
        let mut beside = beside::lines(container, self.verbose);
        beside.extend(layers::lines(container, self.verbose));
        if wanted == 0 && gaps.is_empty() && beside.is_empty() && !self.verbose {
            return Ok(());
        }
        writeln!(out)?;
        writeln!(
            out,
            "{BOLD}{}{BOLD:#}",
            escape(container.display_name().as_bytes())
        )?;
        let told = changes.iter_if(|allowed| self.verbose || !allowed);
        for change in told.take(shown) {
            writeln!(out, "  {}", change_line(&change, self.verbose))?;
        }
        if wanted > shown {
            let more = wanted - shown;
            writeln!(out, "  {DIM}… {more} more: plimsoll diff lists them{DIM:#}")?;
        }
        let allowed = changes.len() - denied;
        if allowed > 0 && !self.verbose {
            writeln!(
                out,
                "  {DIM}{allowed} allowed by the policy: -v shows them{DIM:#}"
            )?;
        }
        for line in beside {
            writeln!(out, "  {line}")?;
        }
        for gap in gaps {
            write_gap(gap, "  ", out)?;
        }
        if self.verbose {
            let layers = container.baseline.layers.as_str();
            writeln!(out, "  {DIM}{}, layers {layers}{DIM:#}", cost(container))?;
        }
        Ok(())
    }

    fn diff(&self, out: &mut dyn Write, talk: Talk) -> io::Result<()> {
        for container in &self.containers {
            for change in container.changes.iter() {
                writeln!(out, "{}", change_line(&change, self.verbose))?;
            }
            let beside = beside::lines(container, self.verbose);
            for line in beside
                .into_iter()
                .chain(layers::lines(container, self.verbose))
            {
                writeln!(out, "{line}")?;
            }
            for gap in &container.gaps {
                write_gap(gap, "", out)?;
            }
            // What is said on stderr comes after what it is about.
            out.flush()?;
            let engine = container
                .engine
                .map_or("not compared", |engine| engine.as_str());
            talk.note(&format!(
                "{}: {} ({engine}, layers {}, {})",
                escape(container.display_name().as_bytes()),
                container.verdict.as_str(),
                container.baseline.layers.as_str(),
                cost(container)
            ));
        }
        Ok(())
    }
}

/// Returns the line about one change, without an end of line.
pub(crate) fn change_line(change: &v1::Change<'_>, verbose: bool) -> String {
    let style = match change.kind {
        _ if change.allowed => DIM,
        ChangeKind::Added => AnsiColor::Green.on_default(),
        ChangeKind::Deleted => AnsiColor::Red.on_default(),
        ChangeKind::Changed | ChangeKind::Replaced => AnsiColor::Yellow.on_default(),
    };
    let path = change.path.to_string();
    let mut notes = notes(change);
    if let Some(from) = &change.renamed_from {
        notes.push(format!("renamed from {from}"));
    }
    let mut notes = notes.join(", ");
    if verbose {
        notes += &format!(" [{}]", change.class.as_str());
    }
    if let Some(rule) = &change.rule {
        let by = if change.allowed { "allowed" } else { "denied" };
        notes += &format!(" ({by} by {rule})");
    }
    let letter = change.kind.letter();
    if notes.is_empty() {
        return format!("{style}{letter}{style:#}  {path}");
    }
    let pad = NOTES_AT.saturating_sub(path.width());
    format!(
        "{style}{letter}{style:#}  {path}{:pad$}  {DIM}{}{DIM:#}",
        "",
        notes.trim_start()
    )
}

/// Returns the style of a verdict.
pub(crate) fn verdict_style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Intact | Verdict::Allowed => AnsiColor::Green.on_default(),
        Verdict::Violated => AnsiColor::Red.on_default().bold(),
        Verdict::Unknown => AnsiColor::Yellow.on_default().bold(),
    }
}

fn row(container: &v1::Container) -> [String; 7] {
    [
        escape(container.display_name().as_bytes()).into_owned(),
        container.runtime.as_str().to_owned(),
        container.state.as_str().to_owned(),
        image(&container.image),
        container
            .engine
            .map_or("-", |engine| engine.as_str())
            .to_owned(),
        container.verdict.as_str().to_owned(),
        container.changes.len().to_string(),
    ]
}

/// Returns the cell about an image: its name, or the short form of its id.
pub(crate) fn image(image: &Image) -> String {
    match (&image.reference, &image.id) {
        (Some(reference), _) => reference.to_string(),
        (None, Some(id)) => id.digest().hex().chars().take(12).collect(),
        (None, None) => "-".to_owned(),
    }
}

/// Writes the line about something that could not be seen.
pub(crate) fn write_gap(gap: &v1::Gap, indent: &str, out: &mut dyn Write) -> io::Result<()> {
    let style = AnsiColor::Magenta.on_default();
    let what = gap.what.to_string();
    let why = escape(gap.why.as_bytes());
    let accepted = if gap.accepted { " (accepted)" } else { "" };
    let pad = NOTES_AT.saturating_sub(what.width());
    writeln!(
        out,
        "{indent}{style}?{style:#}  {what}{:pad$}  not seen: {why}{accepted}",
        ""
    )
}

/// What there is to say about a change beside its letter and path.
fn notes(change: &v1::Change<'_>) -> Vec<String> {
    match (change.kind, change.before.as_ref(), change.after.as_ref()) {
        (ChangeKind::Added, _, Some(after)) => with_xattrs(described(after), change),
        (ChangeKind::Deleted, Some(before), _) => vec![type_word(before.file_type).to_owned()],
        (ChangeKind::Replaced, Some(before), Some(after)) => {
            let word = type_word(before.file_type);
            with_xattrs(format!("{word} -> {}", described(after)), change)
        }
        _ => change
            .aspects
            .iter()
            .map(|aspect| aspect_note(aspect, change))
            .collect(),
    }
}

fn aspect_note(aspect: Aspect, change: &v1::Change<'_>) -> String {
    let word = aspect.as_str();
    let sides = change.before.as_ref().zip(change.after.as_ref());
    match (aspect, sides) {
        (Aspect::Content, _) if !change.confirmed => format!("{word} (not read)"),
        (Aspect::Mode, Some((before, after))) => {
            format!("{word} {:04o} -> {:04o}", before.mode, after.mode)
        }
        (Aspect::Owner, Some((before, after))) => format!(
            "{word} {}:{} -> {}:{}",
            before.uid, before.gid, after.uid, after.gid
        ),
        (Aspect::Target, Some((_, after))) => match &after.target {
            Some(target) => format!("{word} -> {target}"),
            None => word.to_owned(),
        },
        (Aspect::Xattr, _) if !change.xattrs.is_empty() => xattrs_note(change),
        _ => word.to_owned(),
    }
}

/// Puts the extended attributes of what the image does not have behind what it is.
fn with_xattrs(what: String, change: &v1::Change<'_>) -> Vec<String> {
    let xattrs = (!change.xattrs.is_empty()).then(|| xattrs_note(change));
    std::iter::once(what).chain(xattrs).collect()
}

fn xattrs_note(change: &v1::Change<'_>) -> String {
    let names: Vec<String> = change.xattrs.iter().map(ToString::to_string).collect();
    format!("{} {}", Aspect::Xattr.as_str(), names.join(" "))
}

fn described(attributes: &Attributes) -> String {
    let word = type_word(attributes.file_type);
    match (&attributes.target, attributes.file_type) {
        (Some(target), FileType::Symlink) => format!("{word} to {target}"),
        (_, FileType::Symlink) => word.to_owned(),
        _ => format!("{word} {:04o}", attributes.mode),
    }
}

fn type_word(file_type: FileType) -> &'static str {
    match file_type {
        FileType::File => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "link",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::CharDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Subvolume => "subvolume",
    }
}

/// Returns what looking at a container took, for people.
pub(crate) fn cost(container: &v1::Container) -> String {
    format!(
        "{}, {} {}, {} read",
        duration(Duration::from_micros(container.cost.wall_micros)),
        container.cost.entries_read,
        if container.cost.entries_read == 1 {
            "entry"
        } else {
            "entries"
        },
        bytes(container.cost.bytes_read)
    )
}

/// Returns a duration for people, with three significant digits or so.
pub(crate) fn duration(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..100_000 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        100_000..1_000_000 => format!("{:.0} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// Returns a number of bytes for people, in powers of 1024.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            let digits = usize::from(unit != "B" && value < 100.0);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}
