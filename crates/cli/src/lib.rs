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

use std::process::ExitCode;

use clap::Parser as _;

/// Runs the program with the arguments of this process, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let talk = talk::Talk::new(cli.verbose, cli.quiet);
    match commands::run(cli, &talk) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            talk.error(&error);
            ExitCode::from(error::COULD_NOT_RUN)
        }
    }
}
