//! How the two sides are compared.

use std::num::NonZero;
use std::path::PathBuf;

use plimsoll_core::model::{Algorithm, EngineKind};

use super::Confirm;
use crate::parallel;

/// How the two sides are compared.
#[derive(Debug, Clone)]
pub struct Options {
    /// The engine; `None` takes the one that the storage driver has.
    pub engine: Option<EngineKind>,
    /// The hash function of the digest engine.
    pub algorithm: Algorithm,
    /// When content is read.
    pub confirm: Confirm,
    /// Hold the container still while it is looked at. This writes: a read-only snapshot on Btrfs,
    /// a frozen cgroup on overlay.
    pub atomic: bool,
    /// Threads that compare containers and read contents; as many as there are processors for when absent.
    pub jobs: Option<NonZero<usize>>,
    /// List everything beneath a deleted directory.
    pub expand: bool,
    /// Changes kept for one container at most; more are counted in a gap.
    pub max_changes: usize,
    /// A stored baseline that the digest engine compares with, in place of the image's side.
    pub baseline: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: None,
            algorithm: Algorithm::Sha256,
            confirm: Confirm::Auto,
            atomic: false,
            jobs: None,
            expand: false,
            max_changes: 100_000,
            baseline: None,
        }
    }
}

impl Options {
    /// Returns how many threads hash.
    #[must_use]
    pub fn threads(&self) -> usize {
        parallel::thread_count(self.jobs)
    }
}
