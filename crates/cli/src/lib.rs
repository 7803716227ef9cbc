//! `plimsoll`: tells from outside which files of a container differ from its image.
//!
//! ```text
//! argv, PLIMSOLL_*, config.yaml -args, config-> Request -host::inspect-> Measurement
//!   -core::policy-> Appraisal -core::report-> Container -render-> stdout or a file
//! ```
//!
//! stdout carries data and stderr talk; the exit code is a promise (`plimsoll --help`).

mod args;
mod commands;
mod config;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod output;
mod reference;
mod render;
mod talk;
mod targets;

use std::mem::ManuallyDrop;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

/// Runs the program with the arguments of this process, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = parse();
    let talk = talk::Talk::new(cli.verbose, cli.quiet);
    match commands::run(cli, &talk) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            talk.error(&error);
            ExitCode::from(error::COULD_NOT_RUN)
        }
    }
}

/// Parses the arguments of this process, or ends it with what is to be said of them: as `clap::Parser::parse`
/// does, but that the description of all options is left to the end of the process. To take it apart is a sixth
/// of the instructions that the command line costs.
fn parse() -> args::Cli {
    let mut command = ManuallyDrop::new(args::Cli::command());
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let parsed = parsed.and_then(|mut matches| {
        args::Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    });
    parsed.unwrap_or_else(|error| error.exit())
}
