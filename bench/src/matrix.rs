//! The matrix: each image, count of changes and state, with every tool.

use std::path::Path;

use plimsoll_e2e::dockerd::Driver;

use crate::archive::{self, Archive, Spec};
use crate::changes::{Truth, choose};
use crate::measure::Stand;
use crate::plan::{Part, Plan, STATES, State};
use crate::results::{Place, Results};
use crate::rounds::{self, Site};
use crate::subject::{Container, Elsewhere, Runtimes};
use crate::thorough::Before;
use crate::{progress, send, thorough, traceless};

/// The seed of what is changed: the same paths on every driver and in every run.
pub(crate) const SEED: u64 = 4;

/// A tool that takes longer than this, in microseconds, is not asked in the other states.
const SLOW: f64 = 1_000_000.0;

/// Where everything is run from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bench<'a> {
    /// What was asked for.
    pub(crate) plan: &'a Plan,
    /// Where programs are run from.
    pub(crate) stand: &'a Stand,
    /// Plimsoll itself.
    pub(crate) program: &'a Path,
}

/// The images of a part.
#[derive(Debug)]
pub(crate) struct Images {
    /// The one that the part is about.
    pub(crate) own: Archive,
    /// The one that is measured beside it.
    pub(crate) beside: Option<Archive>,
}

/// Makes the images of a plan that are not made yet.
pub(crate) fn images(parts: &[Part], cache: &Path, stand: &Stand) -> Vec<Images> {
    let base = archive::base(cache);
    let make = |spec: Spec| {
        progress(&format!("image {}", spec.name));
        archive::make(spec, &base, stand.dir())
    };
    let both = |part: &Part| Images {
        beside: part.beside.as_ref().map(|beside| make(beside.spec)),
        own: make(part.spec),
    };
    parts.iter().map(both).collect()
}

impl Bench<'_> {
    /// Fills the matrix for one image on one driver.
    pub(crate) fn part(
        &self,
        runtimes: &Runtimes,
        part: &Part,
        images: &Images,
        results: &mut Results,
    ) {
        let driver = runtimes.docker.driver();
        let name = part.spec.name;
        progress(&format!("{}: loading {name}", driver.as_str()));
        let archive = &images.own;
        runtimes.load(archive);
        if let Some(beside) = &images.beside {
            runtimes.load(beside);
        }
        let image = part.elsewhere.then(|| runtimes.load_elsewhere(archive));

        // What is taken before the changes, from a container that has none.
        let unchanged = (!part.thorough.is_empty()).then(|| {
            progress(&format!(
                "{}: {name}: digests and databases",
                driver.as_str()
            ));
            let docker = &runtimes.docker;
            let container =
                Container::run(docker, &format!("{name}-before"), archive, &Truth::new());
            Before::take(self.stand, self.program, runtimes, &container, name)
        });
        for &changes in &part.changes {
            let truth = choose(&archive.candidates, changes, SEED);
            let elsewhere = image.as_deref().map(|image| {
                Elsewhere::make(
                    runtimes,
                    &format!("{name}-{changes}"),
                    image,
                    archive,
                    &truth,
                )
            });
            self.states(
                runtimes,
                part,
                images,
                changes,
                &truth,
                elsewhere.as_ref(),
                results,
            );
            if !part.thorough.contains(&changes) {
                continue;
            }
            if let Some((before, elsewhere)) = unchanged.as_ref().zip(elsewhere.as_ref()) {
                self.read(
                    runtimes, archive, changes, &truth, elsewhere, before, results,
                );
            }
        }
    }

    /// The slow tools, at a container of their own.
    #[expect(
        clippy::too_many_arguments,
        reason = "one place of the matrix has as many coordinates"
    )]
    fn read(
        &self,
        runtimes: &Runtimes,
        archive: &Archive,
        changes: usize,
        truth: &Truth,
        elsewhere: &Elsewhere,
        before: &Before,
        results: &mut Results,
    ) {
        let driver = runtimes.docker.driver();
        let name = archive.spec.name;
        let own = format!("{name}-{changes}-read");
        let container = Container::run(&runtimes.docker, &own, archive, truth);
        let mut tasks = thorough::tasks(self.program, runtimes, &container, elsewhere, before);
        let states = if self.plan.full { STATES } else { &STATES[..1] };
        for &state in states {
            enter(runtimes, &own, None, state);
            match state {
                State::Running => {}
                // It is of a snapshot, which has no state.
                State::Paused => tasks.retain(|task| task.tool != "ctr-diff"),
                // Nothing is mounted then where the tree of an overlay was.
                State::Stopped if driver != Driver::Btrfs => {
                    tasks.retain(|task| {
                        task.tool == "docker-diff" || task.tool.starts_with("plimsoll")
                    });
                }
                State::Stopped => {}
            }
            let site = Site {
                place: place(driver, name, changes, state.as_str(), "warm"),
                truth,
                tasks: &tasks,
            };
            progress(&format!(
                "{}: {name}, {changes} changes, {}, slow tools",
                driver.as_str(),
                state.as_str()
            ));
            rounds::run(self.stand, self.plan, results, &[site]);
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one place of the matrix has as many coordinates"
    )]
    fn states(
        &self,
        runtimes: &Runtimes,
        part: &Part,
        images: &Images,
        changes: usize,
        truth: &Truth,
        elsewhere: Option<&Elsewhere>,
        results: &mut Results,
    ) {
        let driver = runtimes.docker.driver();
        let name = part.spec.name;
        let own = format!("{name}-{changes}");
        let archive = &images.own;
        let container = Container::run(&runtimes.docker, &own, archive, truth);
        let mut tasks = traceless::tasks(self.stand, self.program, runtimes, &container, elsewhere);
        let beside = images.beside.as_ref().filter(|_| part.has_beside(changes));
        let beside = beside.map(|archive| {
            let truth = choose(&archive.candidates, changes, SEED);
            let own = format!("{}-{changes}", archive.spec.name);
            let container = Container::run(&runtimes.docker, &own, archive, &truth);
            let tasks = traceless::tasks(self.stand, self.program, runtimes, &container, None);
            (archive.spec.name, truth, tasks)
        });
        for &state in &part.states {
            enter(runtimes, &own, elsewhere, state);
            let place = place(driver, name, changes, state.as_str(), "warm");
            progress(&format!(
                "{}: {name}, {changes} changes, {}",
                driver.as_str(),
                state.as_str()
            ));
            let mut sites = vec![Site {
                place: place.clone(),
                truth,
                tasks: &tasks,
            }];
            if let (State::Running, Some((name, truth, tasks))) = (state, &beside) {
                sites.push(Site {
                    place: self::place(driver, name, changes, state.as_str(), "warm"),
                    truth,
                    tasks,
                });
            }
            rounds::run(self.stand, self.plan, results, &sites);
            if state == State::Running && driver == Driver::Btrfs {
                let container =
                    Container::run(&runtimes.docker, &format!("{own}-sent"), archive, truth);
                let dir = runtimes.docker.data_root().join("sent");
                let site = Site {
                    place: place.clone(),
                    truth,
                    tasks: &[send::task(&dir, &container)],
                };
                rounds::run(self.stand, self.plan, results, &[site]);
            }
            if !self.plan.full {
                // Podman compares whole trees on Btrfs.
                let is_slow = |tool: &str| {
                    results
                        .cell(&place, tool)
                        .is_some_and(|cell| cell.median() > SLOW)
                };
                tasks.retain(|task| task.tool.starts_with("plimsoll") || !is_slow(task.tool));
            }
            if self.plan.cold && state == State::Running {
                let place = Place {
                    cache: "cold".into(),
                    ..place
                };
                rounds::run_cold(self.stand, results, &place, truth, &tasks);
            }
        }
    }
}

/// Takes the containers from the state before into this one.
fn enter(runtimes: &Runtimes, name: &str, elsewhere: Option<&Elsewhere>, state: State) {
    let steps: &[&[&str]] = match state {
        State::Running => &[],
        State::Paused => &[&["pause"]],
        State::Stopped => &[&["unpause"], &["kill", "--signal", "KILL"]],
    };
    for step in steps {
        runtimes.docker.docker(&[step, &[name][..]].concat());
        if let Some(elsewhere) = elsewhere {
            runtimes
                .podman
                .podman(&[step, &[elsewhere.podman.as_str()][..]].concat());
        }
    }
    if state == State::Stopped {
        // Only then the runtime is done with it too.
        runtimes.docker.docker(&["wait", name]);
        if let Some(elsewhere) = elsewhere {
            runtimes.podman.podman(&["wait", &elsewhere.podman]);
        }
    }
}

/// Returns a place.
pub(crate) fn place(
    driver: Driver,
    image: &str,
    changes: usize,
    state: &str,
    cache: &str,
) -> Place {
    Place {
        driver: driver.as_str().to_owned(),
        image: image.to_owned(),
        changes,
        state: state.to_owned(),
        cache: cache.to_owned(),
    }
}
