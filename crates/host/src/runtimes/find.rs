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
                let all = match &mut docker {
                    Some(all) => all,
                    none => none.insert(AllOfDocker::find(sources)?),
                };
                found.push(all.named(name)?);
            }
        }
    }
    if let Some(all) = docker {
        gaps.extend(all.gaps_besides_others(&found));
    }
    Ok((found, gaps))
}

/// All containers of Docker, to be named one by one.
struct AllOfDocker {
    runtime: Rc<Docker>,
    containers: Vec<Container>,
    gaps: Vec<Gap>,
}

impl AllOfDocker {
    fn find(sources: &Sources) -> Result<Self, RuntimeError> {
        let runtime = Rc::new(Docker::find(sources)?);
        let (containers, gaps) = runtime.containers()?;
        Ok(Self {
            runtime,
            containers,
            gaps,
        })
    }

    /// Returns the container of this name, of this id, or with an id that alone begins so: in this
    /// order, as Docker resolves names.
    fn named(&self, name: &str) -> Result<Found, FindError> {
        let exactly = |c: &&Container| c.name.as_deref() == Some(name) || c.id.as_str() == name;
        let mut candidates: Vec<_> = self.containers.iter().filter(exactly).collect();
        if candidates.is_empty() && !name.is_empty() {
            let begins = |c: &&Container| c.id.as_str().starts_with(name);
            candidates = self.containers.iter().filter(begins).collect();
        }
        match candidates.as_slice() {
            [] => Err(FindError::NotFound {
                target: escape(name.as_bytes()).into_owned(),
                searched: self.runtime.describe(),
            }),
            [one] => Ok((Rc::clone(&self.runtime) as Rc<dyn Runtime>, (*one).clone())),
            several => Err(FindError::Ambiguous {
                target: escape(name.as_bytes()).into_owned(),
                candidates: several
                    .iter()
                    .map(|c| format!("{} ({})", c.display_name(), c.id.short()))
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// Returns the gaps, those left out that are about a container that nobody asked for: they are
    /// named by its id.
    fn gaps_besides_others(self, found: &[Found]) -> impl Iterator<Item = Gap> {
        self.gaps.into_iter().filter(|gap| {
            let what = gap.what.as_bytes();
            let is_id = what.len() == 64 && what.iter().all(u8::is_ascii_hexdigit);
            !is_id || found.iter().any(|(_, c)| c.id.as_str().as_bytes() == what)
        })
    }
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
