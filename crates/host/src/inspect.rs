//! The pipeline: find, resolve, compare.

use std::path::PathBuf;

use plimsoll_core::model::{Algorithm, EngineKind, Gap, Measurement, RootPath};

use crate::measure::Confirm;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where containers are looked for.
    pub sources: Sources,
    /// Which containers; all that are found when empty.
    pub targets: Vec<Target>,
    /// Only these paths, when not empty: each costs the same whatever the container's size.
    pub paths: Vec<RootPath>,
    /// How they are compared.
    pub options: Options,
}

/// Where containers are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Socket of the Docker Engine API, when given: a path, without `unix://`.
    pub docker_host: Option<PathBuf>,
    /// Docker's data root, when given; else the daemon is asked, else its default is taken.
    pub data_root: Option<PathBuf>,
    /// Root of a mounted disk that default paths are taken beneath; `/` when absent. With it no
    /// socket is asked and no process is looked at.
    pub root: Option<PathBuf>,
}

/// Which container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A name, an id or its unambiguous prefix, of any runtime.
    Any(String),
    /// The same, of Docker.
    Docker(String),
    /// An overlay mount, by its mount point.
    OverlayMount(PathBuf),
    /// Two trees: the image's and the container's.
    Trees {
        /// The image's tree.
        image: PathBuf,
        /// The container's tree.
        container: PathBuf,
    },
}

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
    /// Threads of the digest engine; at least 1.
    pub jobs: usize,
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
            jobs: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            expand: false,
            max_changes: 100_000,
            baseline: None,
        }
    }
}

/// Why nothing could be inspected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// No container has this name or id.
    #[error("no container \"{target}\" in {searched}")]
    NotFound {
        /// What was asked for, escaped.
        target: String,
        /// Where it was looked for, for people.
        searched: String,
    },
    /// Several containers have ids that begin so.
    #[error(
        "\"{target}\" is ambiguous, it could be {candidates}: give more of the id, or the name"
    )]
    Ambiguous {
        /// What was asked for, escaped.
        target: String,
        /// Names and short ids, for people.
        candidates: String,
    },
    /// A runtime, a mount or a tree could not be used; the text names it and the way out.
    #[error("{0}")]
    Unavailable(String),
}

/// Looks at each container asked for, and hands each measurement over as soon as it is made.
/// Returns what could not be seen and belongs to no single container.
///
/// A container that cannot be compared gives a measurement without an engine and with a gap.
///
/// # Errors
/// [`InspectError`] when a target is unknown or nothing can be looked at at all.
pub fn inspect(
    request: &Request,
    each: &mut dyn FnMut(Measurement),
) -> Result<Vec<Gap>, InspectError> {
    let _ = (request, each);
    Err(InspectError::Unavailable("not built yet".into()))
}
