//! Which containers a request is about.

mod by_process;
mod look;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use plimsoll_core::model::{Container, Gap, RuntimeKind, escape};

pub use self::look::{Looked, runtimes};
use super::containerd::{self, Containerd};
use super::docker::Dockers;
use super::overlay_mount::OverlayMount;
use super::storage::{self, Storage};
use super::subvolume::Subvolume;
use super::tree::Tree;
use super::{Runtime, RuntimeError};

/// Where containers are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Only containers of this runtime, when given.
    pub runtime: Option<RuntimeKind>,
    /// Socket of the Docker Engine API, when given: a path, without `unix://`.
    pub docker_host: Option<PathBuf>,
    /// The data root of a runtime, when given: its own files tell whose. Else each runtime is asked,
    /// or its configuration read, or its default taken.
    pub data_root: Option<PathBuf>,
    /// Root of a mounted disk that default paths are taken beneath; `/` when absent. With it no
    /// socket is asked and no process is looked at.
    pub root: Option<PathBuf>,
    /// Whether the sandboxes of pods are containers too.
    pub sandboxes: bool,
    /// How many threads may read the records of many containers; as many as there are processors when absent.
    pub jobs: Option<NonZero<usize>>,
}

impl Sources {
    /// Whether nothing narrows down where containers are looked for.
    fn is_everything(&self) -> bool {
        let Self {
            sandboxes, jobs, ..
        } = *self;
        *self
            == Self {
                sandboxes,
                jobs,
                ..Self::default()
            }
    }
}

/// Which container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A name, an id or its unambiguous prefix.
    Named {
        /// Of this runtime; of any when absent.
        runtime: Option<RuntimeKind>,
        /// The name.
        name: String,
    },
    /// A container of a pod.
    Pod {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod: String,
        /// The container's name in the pod.
        container: String,
    },
    /// An overlay mount, by its mount point.
    OverlayMount(PathBuf),
    /// The root of a process, by its number.
    Process(u32),
    /// A Btrfs subvolume that is a snapshot, by its path.
    Subvolume(PathBuf),
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
    /// No image has this name or id.
    #[error("no image \"{target}\" in {searched}")]
    NoImage {
        /// What was asked for, escaped.
        target: String,
        /// Where it was looked for, for people.
        searched: String,
    },
    /// Several containers have this name, or ids that begin so.
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

/// A runtime that containers are looked for in.
struct Entry {
    /// Whose containers it tells.
    kinds: &'static [RuntimeKind],
    /// What lies in its data root and in no other runtime's.
    marker: &'static str,
    find: Find,
}

/// Finds a runtime; with a name, a container of this name or id is all that is asked for.
type Find = fn(&Sources, Option<&str>) -> Result<Rc<dyn Runtime>, RuntimeError>;

/// The runtimes, in the order in which their containers are told.
const RUNTIMES: &[Entry] = &[
    Entry {
        kinds: &[RuntimeKind::Docker],
        marker: "containers",
        find: |sources, name| Ok(Rc::new(Dockers::find(sources, name)?)),
    },
    Entry {
        kinds: &[RuntimeKind::Containerd],
        marker: containerd::METADATA,
        find: |sources, _| Ok(Rc::new(Containerd::find(sources)?)),
    },
    Entry {
        kinds: &[RuntimeKind::Podman, RuntimeKind::CriO],
        marker: storage::MARK,
        find: |sources, _| Ok(Rc::new(Storage::find(sources)?)),
    },
];

impl Entry {
    /// Whether containers of this kind are its.
    fn tells(&self, kind: RuntimeKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Whether it is to be looked at, and must then be there.
    fn is_asked_for(&self, sources: &Sources, runtime: Option<RuntimeKind>) -> Option<bool> {
        if let Some(kind) = runtime.or(sources.runtime) {
            return self.tells(kind).then_some(true);
        }
        if sources.docker_host.is_some() {
            return self.tells(RuntimeKind::Docker).then_some(true);
        }
        match &sources.data_root {
            Some(path) => self.owns(path).then_some(true),
            None => Some(false),
        }
    }

    /// Whether a data root is of this runtime. What has no runtime's marker is taken for Docker's,
    /// which then says what is missing.
    fn owns(&self, data_root: &Path) -> bool {
        let has = |entry: &Self| data_root.join(entry.marker).symlink_metadata().is_ok();
        has(self) || self.tells(RuntimeKind::Docker) && !RUNTIMES.iter().any(has)
    }

    /// The gap for a runtime that could not be read.
    fn unreadable(&self, error: &RuntimeError) -> Gap {
        let name = self.kinds.first().map_or("runtime", |kind| kind.as_str());
        Gap::new(name, error.to_string())
    }
}

/// What looking for a runtime came to.
#[derive(Clone)]
enum Outcome {
    Here(Rc<dyn Runtime>),
    /// There is none: where it was looked for.
    Absent(String),
    Unreadable(Gap),
}

/// A search for containers.
struct Search<'s> {
    sources: &'s Sources,
    /// What was found of each runtime, as far as it was looked for.
    outcomes: Vec<Option<Outcome>>,
    found: Vec<Found>,
    /// Containers that are not asked for: sandboxes.
    left_out: Vec<Container>,
    gaps: Vec<Gap>,
}

/// Returns the containers that the targets name, or all of them when there is no target, and what of
/// the runtimes' records could not be read.
///
/// # Errors
/// [`FindError`] when a target is unknown, ambiguous or unusable, or no runtime can be asked.
pub fn containers(
    sources: &Sources,
    targets: &[Target],
) -> Result<(Vec<Found>, Vec<Gap>), FindError> {
    let mut search = Search {
        sources,
        outcomes: vec![None; RUNTIMES.len()],
        found: Vec::new(),
        left_out: Vec::new(),
        gaps: Vec::new(),
    };
    if targets.is_empty() {
        search.all()?;
    }
    for target in targets {
        match target {
            Target::OverlayMount(path) => search.overlay(OverlayMount::at(path)?)?,
            Target::Process(pid) => search.process(*pid)?,
            Target::Subvolume(path) => search.add(Rc::new(Subvolume::at(path)?))?,
            Target::Trees { image, container } => {
                search.add(Rc::new(Tree::new(image, container)))?;
            }
            Target::Named { runtime, name } => search.named(*runtime, name)?,
            Target::Pod {
                namespace,
                pod,
                container,
            } => search.in_pod([namespace, pod, container])?,
        }
    }
    Ok((search.found, search.gaps))
}

impl Search<'_> {
    /// Looks for a runtime, unless that was done; with `name` a container of this name is all that is
    /// asked for.
    ///
    /// # Errors
    /// [`FindError::Unavailable`] when it `must` be there and cannot be used.
    fn runtime(&mut self, at: usize, must: bool, name: Option<&str>) -> Result<Outcome, FindError> {
        let known = self.outcomes.get(at).cloned().flatten();
        let (Some(entry), None) = (RUNTIMES.get(at), &known) else {
            return known.ok_or_else(|| FindError::Unavailable("there is no such runtime".into()));
        };
        let outcome = match (entry.find)(self.sources, name) {
            Ok(runtime) => Outcome::Here(runtime),
            Err(error) if must => return Err(error.into()),
            Err(RuntimeError::Absent(why)) => Outcome::Absent(why),
            Err(error) => Outcome::Unreadable(entry.unreadable(&error)),
        };
        if let Some(known) = self.outcomes.get_mut(at) {
            *known = Some(outcome.clone());
        }
        Ok(outcome)
    }

    /// Adds every container of every runtime. One that cannot be read keeps no other from being told.
    fn all(&mut self) -> Result<(), FindError> {
        let (mut absent, mut unreadable) = (Vec::new(), Vec::new());
        let mut any = false;
        for (at, must) in asked(self.sources, None) {
            match self.runtime(at, must, None)? {
                Outcome::Here(runtime) => {
                    any = true;
                    match self.add(runtime) {
                        Err(error) if must => return Err(error.into()),
                        Err(error) => {
                            let entry = RUNTIMES.get(at);
                            self.gaps
                                .extend(entry.map(|entry| entry.unreadable(&error)));
                        }
                        Ok(()) => {}
                    }
                }
                Outcome::Absent(why) => absent.push(why),
                Outcome::Unreadable(gap) => {
                    unreadable.push(gap.why.clone());
                    self.gaps.push(gap);
                }
            }
        }
        if self.sources.is_everything() {
            any |= self.unclaimed()?;
        }
        match any {
            true => Ok(()),
            false => Err(nothing(absent, unreadable)),
        }
    }

    /// Adds every container of a runtime.
    fn add(&mut self, runtime: Rc<dyn Runtime>) -> Result<(), RuntimeError> {
        let (containers, unread) = runtime.containers()?;
        self.gaps.extend(unread);
        for container in containers {
            match container.is_sandbox() && !self.sources.sandboxes {
                true => self.left_out.push(container),
                false => self.found.push((Rc::clone(&runtime), container)),
            }
        }
        Ok(())
    }

    /// Adds the one container that a name means.
    fn named(&mut self, kind: Option<RuntimeKind>, name: &str) -> Result<(), FindError> {
        self.one(name, kind, Some(name), &|runtime| {
            let (mut candidates, gaps) = runtime.named(name)?;
            candidates.retain(|container| kind.is_none_or(|kind| container.runtime == kind));
            Ok((candidates, gaps))
        })
    }

    /// Adds the one container of this name in a pod.
    fn in_pod(&mut self, [namespace, pod, container]: [&str; 3]) -> Result<(), FindError> {
        let target = format!("{namespace}/{pod}/{container}");
        self.one(&target, None, None, &|runtime| {
            let (mut candidates, gaps) = runtime.containers()?;
            candidates.retain(|candidate| {
                candidate.pod.as_ref().is_some_and(|of| {
                    of.namespace == namespace
                        && of.name == pod
                        && of.container.as_deref() == Some(container)
                })
            });
            // One that was restarted is there once more for each time, and one of them is meant.
            if candidates.iter().any(Container::is_live) {
                candidates.retain(Container::is_live);
            }
            Ok((candidates, gaps))
        })
    }

    /// Adds the one container that `meant` finds in all runtimes together.
    fn one(
        &mut self,
        target: &str,
        kind: Option<RuntimeKind>,
        name: Option<&str>,
        meant: &Meant<'_>,
    ) -> Result<(), FindError> {
        let mut candidates: Vec<Found> = Vec::new();
        // What could not be read of the runtime of each; another one's is about none of them.
        let mut unread: Vec<(Rc<dyn Runtime>, Vec<Gap>)> = Vec::new();
        let mut searched = Vec::new();
        let (mut absent, mut unreadable) = (Vec::new(), Vec::new());
        for (at, must) in asked(self.sources, kind) {
            let runtime = match self.runtime(at, must, name)? {
                Outcome::Here(runtime) => runtime,
                Outcome::Absent(why) => {
                    absent.push(why);
                    continue;
                }
                Outcome::Unreadable(gap) => {
                    unreadable.push(gap.why);
                    continue;
                }
            };
            searched.push(runtime.describe());
            let (found, gaps) = match meant(&*runtime) {
                Ok(answer) => answer,
                Err(error) if must => return Err(error.into()),
                Err(error) => {
                    unreadable.push(error.to_string());
                    continue;
                }
            };
            let done = found.iter().any(|container| is_whole_id(container, target));
            candidates.extend(found.into_iter().map(|one| (Rc::clone(&runtime), one)));
            unread.push((runtime, gaps));
            if done {
                break;
            }
        }
        if candidates.iter().any(|(_, one)| one.is_called(target)) {
            candidates.retain(|(_, one)| one.is_called(target));
        }
        let target = escape(target.as_bytes()).into_owned();
        if candidates.len() > 1 {
            let candidates = candidates
                .iter()
                .map(|(_, c)| format!("{} ({})", c.display_name(), c.id.short()))
                .collect::<Vec<_>>()
                .join(", ");
            return Err(FindError::Ambiguous { target, candidates });
        }
        let Some(found) = candidates.pop() else {
            if searched.is_empty() {
                return Err(nothing(absent, unreadable));
            }
            let unreadable = unreadable.into_iter();
            searched.extend(unreadable.map(|why| format!("what cannot be read ({why})")));
            let searched = searched.join(" nor in ");
            return Err(FindError::NotFound { target, searched });
        };
        let of_its = unread
            .into_iter()
            .filter(|(of, _)| Rc::ptr_eq(of, &found.0));
        for gap in of_its.flat_map(|(_, gaps)| gaps) {
            if !self.gaps.contains(&gap) {
                self.gaps.push(gap);
            }
        }
        self.found.push(found);
        Ok(())
    }
}

/// The error where no runtime can be asked: those that are there cannot be read, else there is none, and
/// where each was looked for.
pub(crate) fn nothing(absent: Vec<String>, unreadable: Vec<String>) -> FindError {
    let told = match (absent.as_slice(), unreadable.is_empty()) {
        (_, false) => unreadable,
        ([_, _, ..], true) => vec![
            "no container runtime has its files in its usual place, neither Docker nor containerd, Podman nor CRI-O: give a data root with --data-root; plimsoll doctor tells where was looked"
                .into(),
        ],
        (_, true) => absent,
    };
    FindError::Unavailable(told.join("; "))
}

/// Finds the containers of a runtime that could be meant.
type Meant<'m> = dyn Fn(&dyn Runtime) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> + 'm;

/// Returns the runtimes that are to be looked at, and whether each must be there.
fn asked(sources: &Sources, kind: Option<RuntimeKind>) -> Vec<(usize, bool)> {
    let entries = RUNTIMES.iter().enumerate();
    entries
        .filter_map(|(at, entry)| Some((at, entry.is_asked_for(sources, kind)?)))
        .collect()
}

/// Whether a container is found by its whole id, which no other one of any runtime can have.
fn is_whole_id(container: &Container, name: &str) -> bool {
    const LENGTH: usize = 64;
    container.id.as_str() == name
        && name.len() == LENGTH
        && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl From<RuntimeError> for FindError {
    fn from(error: RuntimeError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
