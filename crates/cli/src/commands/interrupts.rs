//! Ctrl-C and the like, taken note of instead of died of: for commands that must clean up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::CliError;

/// Whether the command was told to stop.
#[derive(Debug, Clone)]
pub(super) struct Interrupts(Arc<AtomicBool>);

impl Interrupts {
    /// Takes note of signals from now on.
    ///
    /// # Errors
    /// [`CliError`] when that cannot be had.
    pub(super) fn watch() -> Result<Self, CliError> {
        let told = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&told))
                .map_err(|error| CliError::new(format!("signals cannot be caught: {error}")))?;
        }
        Ok(Self(told))
    }

    /// Whether one came.
    pub(super) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Stops here when one came.
    ///
    /// # Errors
    /// [`CliError`] then.
    pub(super) fn pause(&self) -> Result<(), CliError> {
        if self.came() {
            return Err(CliError::new("interrupted, and cleaned up"));
        }
        Ok(())
    }
}
