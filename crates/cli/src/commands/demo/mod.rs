//! `plimsoll demo`: a tour on a throwaway container that it makes itself.
//!
//! It needs root, and neither a container runtime nor a registry: an image layer is put together
//! from files of the host, mounted as Docker would mount it, and changed in the ways that fool who
//! compares timestamps. What it shows is measured by [`inspect`], as everything else is. It also
//! tests itself: when anything planted is not found, or anything else is, it fails.

mod stage;
mod tamper;
mod timestamps;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use anstyle::{AnsiColor, Style};
use plimsoll_core::model::Measurement;
use plimsoll_core::policy::{Policy, appraise};
use plimsoll_core::report::v1;
use plimsoll_core::{Summary, Verdict};
use plimsoll_host::inspect::{Options, Request, Sources, Target, inspect};

use self::stage::{BtrfsStage, OverlayStage, Stage};
use super::interrupts::Interrupts;
use super::look::now;
use crate::args::DemoArgs;
use crate::error::CliError;
use crate::output::Output;
use crate::render::{View, table};
use crate::talk::Talk;

const TITLE: Style = AnsiColor::Cyan.on_default().bold();
const DIM: Style = Style::new().dimmed();
const MISSED: Style = AnsiColor::Red.on_default();
const SEEN: Style = AnsiColor::Green.on_default();

/// Runs the command and returns the exit code.
///
/// # Errors
/// [`CliError`] when the stage cannot be set up, and when what was planted was not what was found.
pub(crate) fn run(args: &DemoArgs, talk: &Talk) -> Result<u8, CliError> {
    if !rustix::process::geteuid().is_root() {
        return Err(
            CliError::new("the demo mounts file systems, which only root may")
                .hint("sudo plimsoll demo"),
        );
    }
    let interrupts = Interrupts::watch()?;
    let mut out = Output::open(None)?;
    let mut stage = Stage::new(interrupts, args.keep)?;
    let outcome = tour(&mut stage, &mut out);
    let place = stage.leave();
    outcome?;
    out.finish().map_err(|error| CliError::writing(&error))?;
    if let Some(place) = place {
        talk.note(&format!(
            "kept: {0}  (umount -R {0} && rmdir {0} removes it)",
            place.display()
        ));
    }
    Ok(0)
}

fn tour(stage: &mut Stage, out: &mut Output) -> Result<(), CliError> {
    title(
        out,
        "An image layer under an overlay mount, as Docker makes it",
    )?;
    let overlay = stage.overlay()?;
    tamper::image(&overlay.lower).map_err(|error| stage_error(&overlay.lower, &error))?;
    let OverlayStage { lower, merged } = stage.mount_overlay(overlay)?;
    let target = Target::OverlayMount(merged.clone());
    let name = format!("overlay:{}", merged.display());
    untouched(&target, &name, out)?;
    stage.pause()?;
    act(&lower, &merged, &target, &name, true, out)?;
    stage.pause()?;

    match stage.btrfs()? {
        Ok(BtrfsStage { image, container }) => {
            title(
                out,
                "The same on Btrfs: the container is a snapshot of the image's subvolume",
            )?;
            tamper::image(&image).map_err(|error| stage_error(&image, &error))?;
            stage.snapshot(&image, &container)?;
            let target = Target::Trees {
                image: image.clone(),
                container: container.clone(),
            };
            let name = format!("tree:{}:{}", image.display(), container.display());
            untouched(&target, &name, out)?;
            stage.pause()?;
            act(&image, &container, &target, &name, false, out)?;
        }
        Err(why) => {
            title(out, "Btrfs is left out")?;
            say(out, &format!("{why}\n"))?;
        }
    }
    Ok(())
}

/// Shows that nothing is found where nothing was done.
fn untouched(target: &Target, name: &str, out: &mut Output) -> Result<(), CliError> {
    say(out, &format!("$ plimsoll check {name}"))?;
    let measurement = measured(target)?;
    let container = judged(measurement);
    let verdict = container.verdict;
    let mut summary = Summary::default();
    summary.add(verdict);
    let width = out.width();
    let mut table = table::Table::new(View::Check, width, false);
    table.container(container);
    table
        .finish(summary, out, Talk::new(0, true))
        .map_err(|error| CliError::writing(&error))?;
    say(out, "")?;
    if verdict == Verdict::Intact {
        Ok(())
    } else {
        Err(CliError::new(format!(
            "the demo's untouched container is {}, not intact",
            verdict.as_str()
        )))
    }
}

/// Tampers, and shows what timestamps tell and what Plimsoll tells; `explained` with the meaning of
/// each change.
fn act(
    image: &Path,
    container: &Path,
    target: &Target,
    name: &str,
    explained: bool,
    out: &mut Output,
) -> Result<(), CliError> {
    tamper::tamper(container).map_err(|error| stage_error(container, &error))?;
    let by_times =
        timestamps::compare(image, container).map_err(|error| stage_error(container, &error))?;
    say(
        out,
        "Somebody works in the container, and covers the traces. Who compares size,
\
         mtime, mode, owner and file capability, as docker diff does, sees this much:
",
    )?;
    for (path, letter) in &by_times {
        say(out, &format!("{letter}  {path}"))?;
    }
    say(out, &format!("\n$ plimsoll diff {name}\n"))?;

    let container = judged(measured(target)?);
    let mut found = BTreeSet::new();
    for change in container.changes.iter() {
        let line = table::change_line(&change, false);
        say(out, &line)?;
        let path = change.path.to_string();
        let planted = tamper::PLANTED
            .iter()
            .find(|planted| planted.path == path && explained);
        if let Some(planted) = planted {
            let seen = if by_times.contains_key(&path) {
                format!("{SEEN}seen by timestamps{SEEN:#}  ")
            } else {
                format!("{MISSED}missed by timestamps{MISSED:#}")
            };
            say(
                out,
                &format!("     {seen}  {DIM}{}{DIM:#}", planted.meaning),
            )?;
        }
        found.insert((change.kind.letter(), path));
    }
    for gap in &container.gaps {
        say(out, &format!("?  {}: {}", gap.what, gap.why))?;
    }
    let planted: BTreeSet<_> = tamper::PLANTED
        .iter()
        .map(|planted| (planted.letter, planted.path.to_owned()))
        .collect();
    say(out, &format!("\n{DIM}{}{DIM:#}", table::cost(&container)))?;
    if explained {
        say(out, &format!("{DIM}{}{DIM:#}", tamper::HARMLESS))?;
    }
    say(out, "")?;
    if found == planted && container.verdict == Verdict::Violated {
        return Ok(());
    }
    let differing: Vec<String> = found
        .symmetric_difference(&planted)
        .map(|(letter, path)| format!("{letter} {path}"))
        .collect();
    Err(CliError::new(format!(
        "the demo planted other changes than were found: {}",
        differing.join(", ")
    )))
}

fn measured(target: &Target) -> Result<Measurement, CliError> {
    let request = Request {
        sources: Sources::default(),
        targets: vec![target.clone()],
        paths: Vec::new(),
        options: Options::default(),
    };
    let mut measurements = Vec::new();
    inspect(&request, &mut |measurement| measurements.push(measurement))?;
    measurements
        .pop()
        .ok_or_else(|| CliError::new("the demo's container was not looked at"))
}

fn judged(measurement: Measurement) -> v1::Container {
    let appraisal = appraise(&measurement, &Policy::default(), now());
    v1::Container::new(measurement, appraisal)
}

fn title(out: &mut Output, text: &str) -> Result<(), CliError> {
    say(out, &format!("{TITLE}{text}{TITLE:#}\n"))
}

fn say(out: &mut Output, text: &str) -> Result<(), CliError> {
    writeln!(out, "{text}").map_err(|error| CliError::writing(&error))
}

fn stage_error(place: &Path, error: &std::io::Error) -> CliError {
    CliError::file("the demo cannot work in", place, error)
}
