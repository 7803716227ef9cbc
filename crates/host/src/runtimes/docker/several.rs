//! Every Docker daemon of this machine together.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::num::NonZero;

use plimsoll_core::model::{Change, Container, ExpectedMount, Gap, RuntimePath};

use super::Docker;
use super::daemons::{self, Hints};
use super::snapshots::Snapshots;
use super::source::{Asked, Running, Source, same_place};
use crate::layers::LayerStack;
use crate::layers::stored::StoredImage;
use crate::runtimes::find::Sources;
use crate::runtimes::{Located, Runtime, RuntimeError};

/// The Docker that the defaults lead to, and those of the other daemons that run.
#[derive(Debug)]
pub struct Dockers {
    first: Result<Docker, RuntimeError>,
    others: OnceCell<Others>,
    /// How many threads may read records.
    jobs: Option<NonZero<usize>>,
}

/// What there is beside the first one.
#[derive(Debug, Default)]
struct Others {
    dockers: Vec<Docker>,
    /// What of them could not be seen.
    gaps: Vec<Gap>,
    /// Whether one of them has the data root of the first, and a daemon that answers, which that lacks.
    first_is_among: bool,
}

impl Dockers {
    /// Finds Docker as [`Docker::find`] does; and where nothing says which one is meant, the daemons that
    /// run beside it. Of a container that is asked for by name these are looked for only once the first
    /// does not know it, as the docker command does not know them either.
    ///
    /// # Errors
    /// Those of [`Docker::find`], when no other daemon runs.
    pub fn find(sources: &Sources, name: Option<&str>) -> Result<Self, RuntimeError> {
        let found = Self {
            first: Docker::find(sources, name),
            others: OnceCell::new(),
            jobs: sources.jobs,
        };
        if sources.root.is_some() || sources.docker_host.is_some() || sources.data_root.is_some() {
            found.others.get_or_init(Others::default);
        }
        match &found.first {
            Err(error) if found.others().dockers.is_empty() => Err(error.clone()),
            _ => Ok(found),
        }
    }

    fn others(&self) -> &Others {
        self.others.get_or_init(|| {
            let known = self.first.as_ref().ok();
            others(known, self.jobs)
        })
    }

    /// The gap for a first one that is there and cannot be used.
    fn unusable(&self) -> Option<Gap> {
        match &self.first {
            Ok(_) | Err(RuntimeError::Absent(_)) => None,
            Err(error) => Some(Gap::new("docker", error.to_string())),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Docker> {
        let others = self.others();
        let first = self.first.iter().filter(|_| !others.first_is_among);
        first.chain(&others.dockers)
    }

    /// Returns the one that has a container.
    fn of(&self, container: &Container) -> Result<&Docker, RuntimeError> {
        // Where there is no other, what it does not have is told where it is read.
        let others = self.others.get();
        if let Ok(first) = &self.first
            && others.is_none_or(|others| others.dockers.is_empty())
        {
            return Ok(first);
        }
        let mut all = self.all();
        let has = |docker: &&Docker| docker.has(&container.id);
        all.find(has).ok_or(RuntimeError::Gone)
    }
}

/// Asks the daemons that run and are not the first Docker's. All are asked at the same time, so that one that
/// hangs holds up no other; and of each data root the containers are told once.
fn others(first: Option<&Docker>, jobs: Option<NonZero<usize>>) -> Others {
    let mut others = Others::default();
    let unseen = |hints: &Hints, error: &RuntimeError| {
        let what = format!("dockerd (process {})", hints.pid);
        Gap::new(what.as_str(), error.to_string())
    };
    let mut running = Vec::new();
    for hints in daemons::running() {
        match Running::of(&hints) {
            Ok(daemon) if first.is_some_and(|first| daemon.is(&first.source)) => {}
            Ok(daemon) => running.push((hints, daemon)),
            Err(error) => others.gaps.push(unseen(&hints, &error)),
        }
    }
    let asked: Vec<(Hints, Option<Asked>)> = std::thread::scope(|scope| {
        let questions: Vec<_> = running
            .into_iter()
            .map(|(hints, daemon)| (hints, scope.spawn(|| daemon.ask())))
            .collect();
        let answers = questions.into_iter();
        answers
            .map(|(hints, question)| (hints, question.join().ok()))
            .collect()
    });
    for (hints, asked) in asked {
        let lost = || RuntimeError::Unavailable("it could not be asked".into());
        let source = match asked.ok_or_else(lost).and_then(Asked::open) {
            Ok(source) => source,
            Err(error) => {
                others.gaps.push(unseen(&hints, &error));
                continue;
            }
        };
        if others
            .dockers
            .iter()
            .any(|known| shares_root(&known.source, &source))
        {
            continue;
        }
        if let Some(first) = first.filter(|first| shares_root(&first.source, &source)) {
            if first.source.daemon.is_some() || source.daemon.is_none() {
                continue;
            }
            others.first_is_among = true;
        }
        others.dockers.push(Docker {
            source,
            snapshots: Snapshots::of(None),
            jobs,
        });
    }
    others
}

/// Whether two have a data root in common.
fn shares_root(a: &Source, b: &Source) -> bool {
    let in_b = |path: &std::path::Path| b.roots.iter().any(|root| same_place(root.path(), path));
    a.roots.iter().any(|root| in_b(root.path()))
}

impl Dockers {
    /// Returns what each daemon has, and what could not be read.
    fn of_all<T>(
        &self,
        ask: impl Fn(&Docker) -> Result<(Vec<T>, Vec<Gap>), RuntimeError>,
    ) -> Result<(Vec<T>, Vec<Gap>), RuntimeError> {
        let others = self.others();
        let mut gaps = others.gaps.clone();
        gaps.extend(self.unusable());
        let mut found = Vec::new();
        let mut failed = None;
        for docker in self.all() {
            match ask(docker) {
                Ok((one, unread)) => {
                    found.extend(one);
                    gaps.extend(unread);
                }
                // One that cannot be read keeps no other from being told.
                Err(error) if others.dockers.is_empty() => return Err(error),
                Err(error) => {
                    gaps.push(Gap::new(docker.describe().as_str(), error.to_string()));
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok((found, gaps)),
        }
    }
}

impl Runtime for Dockers {
    fn describe(&self) -> String {
        let all: Vec<String> = self.all().map(Runtime::describe).collect();
        all.join(", ")
    }

    fn places(&self) -> Vec<String> {
        self.all().flat_map(Runtime::places).collect()
    }

    fn containers(&self) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        let (mut found, gaps) = self.of_all(Docker::containers)?;
        found.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok((found, gaps))
    }

    fn images(&self) -> Result<(Vec<StoredImage>, Vec<Gap>), RuntimeError> {
        let (mut found, gaps) = self.of_all(Docker::images)?;
        // Those that the containerd of the machine keeps are told of by every daemon that may use it.
        let mut seen = HashSet::new();
        found.retain(|image| {
            let top = image.layers.last().map(|layer| layer.files.path.clone());
            let image = &image.image;
            top.is_none() || seen.insert((image.id, image.manifest, top))
        });
        Ok((found, gaps))
    }

    fn named(&self, name: &str) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        if let Ok(first) = &self.first {
            let answer = first.named(name)?;
            if !answer.0.is_empty() {
                return Ok(answer);
            }
        }
        let others = self.others();
        let mut gaps = others.gaps.clone();
        gaps.extend(self.unusable());
        let mut found = Vec::new();
        for docker in &others.dockers {
            match docker.named(name) {
                Ok((containers, unread)) => {
                    found.extend(containers);
                    gaps.extend(unread);
                }
                Err(error) => gaps.push(Gap::new(docker.describe().as_str(), error.to_string())),
            }
        }
        Ok((found, gaps))
    }

    fn locate(&self, container: &Container, plain: bool) -> Result<Located, RuntimeError> {
        self.of(container)?.locate(container, plain)
    }

    fn further_mounts(&self, container: &Container, stack: &LayerStack) -> Vec<ExpectedMount> {
        self.of(container).map_or_else(
            |_| Vec::new(),
            |docker| docker.further_mounts(container, stack),
        )
    }

    fn runtime_paths(
        &self,
        container: &Container,
        stack: &LayerStack,
        changes: &[Change],
    ) -> (Vec<RuntimePath>, Vec<Gap>) {
        self.of(container).map_or_else(
            // That it is gone is told where it is looked for once more.
            |_| Default::default(),
            |docker| docker.runtime_paths(container, stack, changes),
        )
    }

    fn vanished(&self, container: &Container) -> Option<Gap> {
        match self.of(container) {
            Ok(docker) => docker.vanished(container),
            Err(_) => Some(super::gap_of(
                &container.id,
                "the container was removed during the check",
            )),
        }
    }
}
