//! `plimsoll completions` and `plimsoll man`: what a package installs beside the program, made from
//! the definition of the command line itself.

use std::io::Write as _;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::CliError;
use crate::output::Output;

/// Writes the completions of a shell to stdout.
///
/// # Errors
/// [`CliError`] when they cannot be written.
pub(crate) fn completions(shell: Shell) -> Result<u8, CliError> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "plimsoll", &mut text);
    let mut out = Output::open_plain(None)?;
    out.write_all(&text)
        .and_then(|()| out.finish())
        .map_err(|error| CliError::writing(&error))?;
    Ok(0)
}

/// Writes a manual page for the program and for each command into `directory`.
///
/// # Errors
/// [`CliError`] when a page cannot be written.
pub(crate) fn man(directory: &Path) -> Result<u8, CliError> {
    clap_mangen::generate_to(Cli::command(), directory)
        .map_err(|error| CliError::file("cannot write manual pages into", directory, &error))?;
    Ok(0)
}
