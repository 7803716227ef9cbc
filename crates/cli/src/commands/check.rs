//! `plimsoll check`: the verdict on each container.

use std::path::Path;

use super::look::{Look, look};
use crate::args::CheckArgs;
use crate::error::CliError;
use crate::render::View;
use crate::talk::Talk;

/// Runs the command and returns the exit code.
///
/// # Errors
/// [`CliError`] when the run could not be done.
pub(crate) fn run(args: CheckArgs, config: Option<&Path>, talk: &Talk) -> Result<u8, CliError> {
    look(
        &Look::new(&args.targets, args.look, config, View::Check)?,
        talk,
    )
}
