//! Why a run could not be done: one sentence that names the thing, and the way out.

use std::fmt;

use plimsoll_core::model::escape;
use plimsoll_host::inspect::InspectError;

/// Exit code of a run that could not be done.
pub(crate) const COULD_NOT_RUN: u8 = 2;

/// A run that could not be done.
#[derive(Debug)]
pub(crate) struct CliError {
    /// What is wrong; empty when there is nobody left to tell it to.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl CliError {
    /// Returns an error without a way out.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// Adds the way out.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the error of an operation on a file of the operator's.
    pub(crate) fn file(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(format!("{what} {}: {error}", shown(path)))
    }

    /// Returns the error of writing data. Of a reader that went away nothing is said: it is nobody's
    /// fault, but the verdict was not delivered either.
    pub(crate) fn writing(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::new("")
        } else {
            Self::new(format!("the output could not be written: {error}"))
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<InspectError> for CliError {
    fn from(error: InspectError) -> Self {
        let hint = match &error {
            InspectError::NotFound { .. } => {
                Some("plimsoll check, without a name, lists every container that is found")
            }
            _ => None,
        };
        Self {
            message: error.to_string(),
            hint: hint.map(str::to_owned),
        }
    }
}

/// Returns a path of the operator's for a message.
pub(crate) fn shown(path: &std::path::Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    escape(path.as_os_str().as_bytes()).into_owned()
}
