//! An interrupted run ends by a panic, which takes down every daemon, mount and loop device on its way.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Begins to take note of the signals that end a program.
pub(crate) fn watch() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED)).expect("signal");
    }
}

/// Ends the run when one has come; asked between any two steps that take their time.
pub(crate) fn check() {
    assert!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
}
