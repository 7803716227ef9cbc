//! Two situations outside the matrix: many containers in one run, and files about which only their
//! content can decide.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use plimsoll_e2e::dockerd::{Dockerd, Driver};

use crate::archive::{Archive, reference};
use crate::changes::{Kind, Truth, apply, choose};
use crate::matrix::{Bench, SEED, place};
use crate::results::Results;
use crate::rounds::{self, Site};
use crate::subject::{Container, Runtimes};
use crate::tool::Task;
use crate::{progress, told, traceless};

/// The name of the first in the results.
pub(crate) const MANY: &str = "many";
/// The name of the second.
pub(crate) const CONTENTS: &str = "contents";

impl Bench<'_> {
    /// Many containers that do not run, in one process: one in ten of them has a change.
    pub(crate) fn many(&self, driver: Driver, archive: &Archive, results: &mut Results) {
        let count = self.plan.many();
        progress(&format!("{}: {count} containers", driver.as_str()));
        let docker = Dockerd::start(driver);
        let path = archive.path.display().to_string();
        docker.docker(&["load", "--quiet", "--input", &path]);
        let image = reference(archive.spec);
        let names: Vec<String> = (0..count).map(|number| format!("many-{number}")).collect();
        let made = |name: &String| {
            let id = docker.create(name, &[], &image, &[]);
            Container::of(&docker, name, id)
        };
        let (one, other) = names.split_at(count / 2);
        let containers: Vec<Container> = std::thread::scope(|scope| {
            let beside = scope.spawn(|| one.iter().map(made).collect::<Vec<_>>());
            let other: Vec<_> = other.iter().map(made).collect();
            let one = beside.join().expect("containers");
            one.into_iter().chain(other).collect()
        });
        let change = choose(&archive.candidates, 1, SEED);
        let mut truth = Truth::new();
        for container in containers.iter().step_by(10) {
            docker.in_created(&container.id, |root| apply(&change, root));
            let changed = change.iter();
            truth.extend(changed.map(|(path, kind)| (format!("/{}{path}", container.name), *kind)));
        }
        let mut all = Command::new(self.program);
        all.args([
            "check",
            "--format",
            "json",
            "--runtime",
            "docker",
            "--data-root",
        ])
        .arg(docker.data_root());
        let floor_name = match driver {
            Driver::Btrfs => "floor-btrfs",
            _ => "floor-overlay",
        };
        let mut floor = self.stand.floor(floor_name);
        if driver == Driver::Btrfs {
            floor.arg(docker.data_root());
        }
        for container in &containers {
            match container.subvolume {
                Some((id, _)) => floor.arg(id.to_string()),
                None => floor.arg(&container.layer),
            };
        }
        let tasks = [
            Task::new("plimsoll", all)
                .told(told::plimsoll_each)
                .exits(1),
            Task::new(floor_name, floor),
        ];
        let site = Site {
            place: place(driver, MANY, count, "created", "warm"),
            truth: &truth,
            tasks: &tasks,
        };
        rounds::run(self.stand, self.plan, results, &[site]);
    }

    /// A running container with files that have all been written to: half of them are the same, the
    /// others have one other byte. Neither size nor time tells.
    pub(crate) fn contents(&self, runtimes: &Runtimes, archive: &Archive, results: &mut Results) {
        let driver = runtimes.docker.driver();
        let wanted = if self.plan.quick { 200 } else { 10_000 };
        progress(&format!(
            "{}: {wanted} files decided by content",
            driver.as_str()
        ));
        let mut random = fastrand::Rng::with_seed(SEED);
        let paths = random.choose_multiple(&archive.candidates, wanted);
        let truth: Truth = paths
            .into_iter()
            .enumerate()
            .map(|(number, path)| {
                let same = number.is_multiple_of(2);
                let kind = if same {
                    Kind::Rewritten
                } else {
                    Kind::EditedTimePutBack
                };
                (path.clone(), kind)
            })
            .collect();
        let container = Container::run(&runtimes.docker, CONTENTS, archive, &truth);
        let pairs = self.stand.dir().join("pairs");
        write_pairs(&pairs, &runtimes.docker, &container, &truth);
        let check = traceless::plimsoll(self.program, &runtimes.docker, CONTENTS, &[]);
        let mut compare = Task::new("floor-compare", self.stand.floor("floor-compare"));
        compare.input = Some(pairs);
        let tasks = [
            Task::new("plimsoll", check).told(told::plimsoll).exits(1),
            compare,
        ];
        let site = Site {
            place: place(driver, CONTENTS, wanted, "running", "warm"),
            truth: &truth,
            tasks: &tasks,
        };
        rounds::run(self.stand, self.plan, results, &[site]);
    }
}

/// Writes the file of the image and that of the container for each path.
fn write_pairs(file: &Path, docker: &Dockerd, container: &Container, truth: &Truth) {
    let lowers = match container.subvolume {
        Some(_) => vec![container.init.clone()],
        None => lowers(docker, &container.layer),
    };
    let mut out = std::io::BufWriter::new(std::fs::File::create(file).expect("pairs"));
    for path in truth.keys().map(|path| path.trim_start_matches('/')) {
        let mut candidates = lowers.iter().map(|lower| lower.join(path));
        let image = candidates
            .find(|place| place.exists())
            .expect("the image's file");
        for place in [image, container.layer.join(path)] {
            out.write_all(place.as_os_str().as_bytes()).expect("pairs");
            out.write_all(&[0]).expect("pairs");
        }
    }
    out.flush().expect("pairs");
}

fn lowers(docker: &Dockerd, layer: &Path) -> Vec<PathBuf> {
    let record = layer.with_file_name("lower");
    let names = std::fs::read_to_string(record).expect("lower");
    let beneath = docker.data_root().join("overlay2");
    names.split(':').map(|name| beneath.join(name)).collect()
}
