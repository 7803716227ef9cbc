//! `plimsoll diff`: the changes of one container, one a line.

use std::path::Path;

use super::look::{Look, look};
use crate::args::DiffArgs;
use crate::error::CliError;
use crate::render::View;
use crate::talk::Talk;

/// Runs the command and returns the exit code.
///
/// # Errors
/// [`CliError`] when the run could not be done.
pub(crate) fn run(args: DiffArgs, config: Option<&Path>, talk: &Talk) -> Result<u8, CliError> {
    look(
        &Look::new(&[args.target], args.look, config, View::Diff)?,
        talk,
    )
}
