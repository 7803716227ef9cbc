//! What is said to the person at the terminal: on stderr, never among the data.

use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use plimsoll_core::model::Gap;

use crate::error::CliError;

/// How much is said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk {
    verbose: u8,
    quiet: bool,
}

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

impl Talk {
    pub(crate) fn new(verbose: u8, quiet: bool) -> Self {
        Self { verbose, quiet }
    }

    /// Whether more than usual is wanted.
    pub(crate) fn is_verbose(self) -> bool {
        self.verbose > 0
    }

    /// Whether only errors are wanted.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Says why the run could not be done.
    pub(crate) fn error(self, error: &CliError) {
        if error.message.is_empty() {
            return;
        }
        line(format_args!("{ERROR}error{ERROR:#}: {}", error.message));
        if let Some(hint) = &error.hint {
            line(format_args!(" {HINT}hint{HINT:#}: {hint}"));
        }
    }

    /// Says that something is not as it seems. Even with `-q`: it bears on the verdict.
    pub(crate) fn warn(self, text: &str) {
        line(format_args!("{WARNING}warning{WARNING:#}: {text}"));
    }

    /// Says that something could not be seen.
    pub(crate) fn gap(self, gap: &Gap) {
        self.warn(&format!("not seen: {}: {}", gap.what, gap.why));
    }

    /// Says something of use to a person.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet {
            line(format_args!("{text}"));
        }
    }
}

fn line(text: std::fmt::Arguments<'_>) {
    // With stderr gone there is nobody to tell, and the exit code says it anyway.
    drop(writeln!(anstream::stderr(), "{text}"));
}
