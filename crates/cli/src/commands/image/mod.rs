//! `plimsoll image`: whether the layers of images lie on disk as their digests say.

mod table;

use std::io::{IsTerminal as _, Write as _};
use std::num::NonZero;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use plimsoll_core::model::Bytes;
use plimsoll_core::report::v1::{self, images::Images};
use plimsoll_host::image;
use plimsoll_host::inspect::Options;

use super::look::{now, sources, tool};
use crate::args::{Format, ImageCommand, VerifyArgs};
use crate::config;
use crate::error::CliError;
use crate::output::Output;
use crate::talk::Talk;

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
        ImageCommand::Verify(args) => verify(args, config, *talk),
    }
}

fn verify(args: VerifyArgs, config: Option<&Path>, talk: Talk) -> Result<u8, CliError> {
    let file = config::load(config)?;
    let format = args.format.or(file.comparison.format);
    let jobs = args.jobs.or(file.comparison.jobs);
    let options = Options {
        jobs: jobs.and_then(|jobs| NonZero::new(jobs as usize)),
        ..Options::default()
    };
    let sources = sources(args.places.or(file.places))?;
    let (found, gaps) = image::images(&sources, &args.images)?;
    let mut out = Output::open(args.output.as_deref())?;
    let progress = progress(image::bytes(&found), talk);
    let threads = NonZero::new(options.threads()).unwrap_or(NonZero::<usize>::MIN);
    let verified = image::verify(found, threads, &|bytes| progress.inc(bytes));
    progress.finish_and_clear();
    for gap in &gaps {
        talk.gap(gap);
    }
    let host = v1::Host {
        name: Bytes::from(rustix::system::uname().nodename().to_bytes()),
    };
    let document = Images::new(
        (tool(), host, now()),
        verified.images,
        verified.layers,
        gaps,
    );
    let written = match format.unwrap_or(Format::Table) {
        Format::Table => table::write(&document, talk.is_verbose(), &mut out),
        Format::Json => serde_json::to_writer_pretty(&mut out, &document)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out)),
        Format::Ndjson | Format::Docker => {
            return Err(CliError::new(
                "image verify speaks in two forms: --format table or json",
            ));
        }
    };
    written
        .and_then(|()| out.finish())
        .map_err(|error| CliError::writing(&error))?;
    Ok(document.exit_code())
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
