//! One file a command.

mod baseline;
mod bench;
mod check;
mod completions;
mod demo;
mod diff;
mod doctor;
mod image;
mod interrupts;
mod list;
mod look;

use crate::args::{Cli, Command};
use crate::error::CliError;
use crate::talk::Talk;

/// Runs a command and returns the exit code.
///
/// # Errors
/// [`CliError`] when the run could not be done.
pub(crate) fn run(cli: Cli, talk: &Talk) -> Result<u8, CliError> {
    let config = cli.config.as_deref();
    match cli.command {
        Command::Check(args) => check::run(args, config, talk),
        Command::Diff(args) => diff::run(args, config, talk),
        Command::Image(command) => image::run(command, config, talk),
        Command::List(args) => list::run(&args, config),
        Command::Doctor(args) => doctor::run(args, config, talk),
        Command::Demo(args) => demo::run(&args, talk),
        Command::Bench(args) => bench::run(args, config, talk),
        Command::Baseline(args) => baseline::run(args, config),
        Command::Completions { shell } => completions::completions(shell),
        Command::Man { directory } => completions::man(&directory),
    }
}
