//! Which containers a request is about.

use std::path::PathBuf;
use std::rc::Rc;

use plimsoll_core::model::{Container, Gap, escape};

use super::docker::Docker;
use super::overlay_mount::OverlayMount;
use super::tree::Tree;
use super::{Runtime, RuntimeError};

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

/// Why no container could be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
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

/// A container and the runtime that knows where its layers lie.
pub type Found = (Rc<dyn Runtime>, Container);

/// Returns the containers that the targets name, or all of them when there is no target, and what of
/// the runtimes' records could not be read.
///
/// # Errors
/// [`FindError`] when a target is unknown, ambiguous or unusable, or no runtime can be asked.
pub fn containers(
    sources: &Sources,
    targets: &[Target],
) -> Result<(Vec<Found>, Vec<Gap>), FindError> {
    let mut found = Vec::new();
    let mut gaps = Vec::new();
    if targets.is_empty() {
        add(Rc::new(Docker::find(sources)?), &mut found, &mut gaps)?;
    }
    let mut docker = None;
    for target in targets {
        match target {
            Target::OverlayMount(path) => {
                add(Rc::new(OverlayMount::at(path)?), &mut found, &mut gaps)?;
            }
            Target::Trees { image, container } => {
                add(Rc::new(Tree::new(image, container)), &mut found, &mut gaps)?;
            }
            Target::Any(name) | Target::Docker(name) => {
                let docker = match &mut docker {
                    Some(docker) => docker,
                    none => none.insert(Rc::new(Docker::find_for(sources, name)?)),
                };
                found.push(named(docker, name, &mut gaps)?);
            }
        }
    }
    Ok((found, gaps))
}

/// Finds the one container that a name means, and adds what could not be seen about it.
fn named(runtime: &Rc<Docker>, name: &str, gaps: &mut Vec<Gap>) -> Result<Found, FindError> {
    let (candidates, unread) = runtime.named(name)?;
    let found = match candidates.as_slice() {
        [] => {
            return Err(FindError::NotFound {
                target: escape(name.as_bytes()).into_owned(),
                searched: runtime.describe(),
            });
        }
        [one] => one.clone(),
        several => {
            return Err(FindError::Ambiguous {
                target: escape(name.as_bytes()).into_owned(),
                candidates: several
                    .iter()
                    .map(|c| format!("{} ({})", c.display_name(), c.id.short()))
                    .collect::<Vec<_>>()
                    .join(", "),
            });
        }
    };
    for gap in unread {
        if !gaps.contains(&gap) {
            gaps.push(gap);
        }
    }
    Ok((Rc::clone(runtime) as Rc<dyn Runtime>, found))
}

/// Adds every container of a runtime.
fn add(
    runtime: Rc<dyn Runtime>,
    found: &mut Vec<Found>,
    gaps: &mut Vec<Gap>,
) -> Result<(), RuntimeError> {
    let (containers, unread) = runtime.containers()?;
    gaps.extend(unread);
    found.extend(
        containers
            .into_iter()
            .map(|container| (Rc::clone(&runtime), container)),
    );
    Ok(())
}

impl From<RuntimeError> for FindError {
    fn from(error: RuntimeError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
