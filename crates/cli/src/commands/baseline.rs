//! `plimsoll baseline`: the digests of an image, stored for a comparison that has the image no more.

use std::num::NonZero;
use std::path::Path;

use plimsoll_core::model::Algorithm;
use plimsoll_host::inspect::Options;
use plimsoll_host::layers::LayerStack;
use plimsoll_host::measure::digest::baseline;
use plimsoll_host::measure::overlay::OverlayPair;
use plimsoll_host::measure::{Confirm, Side};
use plimsoll_host::runtimes::find;

use super::look::sources;
use crate::args::{BaselineArgs, Hash};
use crate::error::{CliError, shown};
use crate::output::Output;
use crate::{config, targets};

/// Runs the command and returns the exit code.
///
/// # Errors
/// [`CliError`] when the container is not found, or anything of its image cannot be read.
pub(crate) fn run(args: BaselineArgs, config: Option<&Path>) -> Result<u8, CliError> {
    let file = config::load(config)?;
    let target = targets::parse(&args.target)?;
    let sources = sources(args.places.or(file.places))?;
    let jobs = args.jobs.or(file.comparison.jobs);
    let options = Options {
        jobs: jobs.and_then(|jobs| NonZero::new(jobs as usize)),
        ..Options::default()
    };
    let algorithm = match args.algorithm.or(file.comparison.algorithm) {
        Some(Hash::Md5) => Algorithm::Md5,
        None | Some(Hash::Sha256) => Algorithm::Sha256,
        Some(Hash::Blake3) => Algorithm::Blake3,
    };
    let (found, _) = find::containers(&sources, std::slice::from_ref(&target))?;
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
    let mut out = Output::open_plain(args.output.as_deref())?;
    let place = args
        .output
        .as_deref()
        .map_or_else(String::new, |file| format!(" {}", shown(file)));
    baseline::write(
        &mut pair,
        Side::Image,
        algorithm,
        options.threads(),
        &mut out,
    )
    .map_err(|error| CliError::new(format!("the baseline{place}: {error}")))?;
    out.finish().map_err(|error| CliError::writing(&error))?;
    Ok(0)
}
