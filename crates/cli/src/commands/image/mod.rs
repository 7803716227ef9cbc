//! `plimsoll image`: whether the layers of images lie on disk as their digests say.

mod table;

use std::io::{IsTerminal as _, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use plimsoll_core::model::{Bytes, ImageMeasurement};
use plimsoll_core::report::v1::{self, images::Images};
use plimsoll_core::trust::ReferenceValues;
use plimsoll_host::image;
use plimsoll_host::inspect::Options;
use plimsoll_host::seal;

use super::look::{now, sources, store, tool};
use crate::args::{Format, ImageCommand, VerifyArgs};
use crate::error::{CliError, shown};
use crate::output::Output;
use crate::talk::Talk;
use crate::{config, reference};

/// What is done with layers.
#[derive(Debug)]
enum Work {
    Verify,
    /// They are sealed as well, in this state directory where it is given.
    Seal(Option<PathBuf>),
}

/// The forms in which images are told of.
#[derive(Debug, Clone, Copy)]
enum Form {
    Table,
    Json,
}

/// Runs the command and returns the exit code.
///
/// # Errors
/// [`CliError`] when the run could not be done.
pub(crate) fn run(
    command: ImageCommand,
    config: Option<&Path>,
    talk: &Talk,
) -> Result<u8, CliError> {
    match command {
        ImageCommand::Verify(args) => look(args, Work::Verify, config, *talk),
        ImageCommand::Seal(args) => look(args.verify, Work::Seal(args.state), config, *talk),
    }
}

fn look(args: VerifyArgs, work: Work, config: Option<&Path>, talk: Talk) -> Result<u8, CliError> {
    let file = config::load(config)?;
    let format = match args.format.or(file.comparison.format) {
        None | Some(Format::Table) => Form::Table,
        Some(Format::Json) => Form::Json,
        Some(Format::Ndjson | Format::Docker) => {
            return Err(CliError::new(
                "images are told of in two forms: --format table or json",
            ));
        }
    };
    let jobs = args.jobs.or(file.comparison.jobs);
    let options = Options {
        jobs: jobs.and_then(|jobs| NonZero::new(jobs as usize)),
        ..Options::default()
    };
    let state = match work {
        Work::Verify => None,
        Work::Seal(state) => Some(store(state.or(file.comparison.state).as_deref())),
    };
    let reference = reference::load(&args.identity)?;
    let sources = sources(args.places.or(file.places))?;
    let (found, gaps) = image::images(&sources, &args.images)?;
    if let Some(store) = &state {
        store
            .make()
            .map_err(|error| CliError::new(format!("no seals can be kept: {error}")))?;
    }
    let mut out = Output::open(args.output.as_deref())?;
    let progress = progress(image::bytes(&found), talk);
    let threads = NonZero::new(options.threads()).unwrap_or(NonZero::<usize>::MIN);
    let count = &|bytes| progress.inc(bytes);
    let (mut verified, sealed) = match &state {
        Some(store) => {
            let sealed = seal::seal(found, store, threads, count);
            (sealed.verified, sealed.sealed)
        }
        None => (image::verify(found, threads, count), Vec::new()),
    };
    progress.finish_and_clear();
    if let Some(reference) = &reference {
        for (image, _) in &mut verified.images {
            hold(image, reference);
        }
    }
    for gap in &gaps {
        talk.gap(gap);
    }
    let host = v1::Host {
        name: Bytes::from(rustix::system::uname().nodename().to_bytes()),
    };
    let mut document = Images::new(
        (tool(), host, now()),
        verified.images,
        verified.layers,
        gaps,
    );
    for (layer, sealed) in document.layers.iter_mut().zip(&sealed) {
        layer.sealed = *sealed;
    }
    let written = match format {
        Form::Table => table::write(&document, talk.is_verbose(), &mut out),
        Form::Json => serde_json::to_writer_pretty(&mut out, &document)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out)),
    };
    written
        .and_then(|()| out.finish())
        .map_err(|error| CliError::writing(&error))?;
    if let Some(store) = &state {
        let count = sealed.iter().filter(|sealed| **sealed).count();
        let (all, place) = (sealed.len(), shown(&store.directory()));
        talk.note(&format!("{count} of {all} layers sealed, in {place}"));
    }
    Ok(document.exit_code())
}

/// Holds an image against reference values.
fn hold(image: &mut ImageMeasurement, reference: &ReferenceValues) {
    let names = image.names.iter();
    let names: Vec<&str> = names
        .filter_map(|name| std::str::from_utf8(name.as_bytes()).ok())
        .collect();
    let id = image.image.id.as_ref();
    image.identity = Some(reference.judge(id, &image.manifests, &names));
}

/// Returns a bar of the bytes that are read, on a terminal.
fn progress(bytes: u64, talk: Talk) -> ProgressBar {
    if talk.is_quiet() || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes);
    let template = "{bar:30} {bytes} of about {total_bytes}, {bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
