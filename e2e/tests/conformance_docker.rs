//! Every scenario in containers of a real Docker daemon: Plimsoll by the data root alone, and what
//! `docker diff` says, held against the referee. The operations are done from the host, in the merged
//! directory of the running container, or in its subvolume.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll_core::model::{Measurement, State};
use plimsoll_e2e::brute::{self, Differences, Tree};
use plimsoll_e2e::conformance::{IN_EACH_STATE, Record};
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::look::{inspect, inspect_one, not_of_runtime};
use plimsoll_e2e::operations::{self, Operation};
use plimsoll_e2e::rootfs::operations_rootfs;
use plimsoll_e2e::{require, told};

const SLEEP: [&str; 3] = ["/busybox", "sleep", "100000"];

/// Two at a time: there may be no more processors.
const JOBS: usize = 2;

struct Table<'a> {
    daemon: &'a Dockerd,
    untouched: &'a Path,
    plimsoll: Record,
    docker_diff: Record,
}

impl Table<'_> {
    /// One scenario in a container of its own; returns what is wrong with what Plimsoll says.
    fn scenario(&self, name: &str, operation: &Operation, untouched: &Tree) -> Vec<String> {
        let id = self.daemon.run(name, &[], "image", &SLEEP);
        let root = self.daemon.rootfs(&id);
        let performed = operation.perform(&root);
        let expected = brute::differences(untouched, &Tree::read(&root));
        let mut wrong: Vec<String> = operation.doubt(&performed, &expected).into_iter().collect();

        let measurement = inspect_one(self.daemon.disk(), name);
        let reported = not_of_runtime(&measurement);
        if reported != expected {
            wrong.push(format!(
                "{}:\n  expected {expected:?}\n  reported {reported:?}",
                operation.name
            ));
        }
        self.plimsoll.engine(
            operation.name,
            performed.worked,
            &expected,
            wrong.is_empty(),
        );

        let judged = told::judge_output(
            &self.daemon.try_docker(&["diff", name]),
            &expected,
            self.untouched,
            &root,
        );
        self.docker_diff
            .tool(operation.name, performed.worked, &expected, &judged);
        drop(performed);
        self.daemon.docker(&["kill", name]);
        wrong
    }
}

fn scenarios(driver: Driver, plimsoll: &str, docker_diff: &str) {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.btrfs",
        "mkfs.xfs",
        "xfs_io",
        "python3"
    );
    let daemon = start(driver);
    let untouched = daemon.rootfs(&daemon.run("untouched", &[], "image", &SLEEP));
    let table = Table {
        daemon: &daemon,
        untouched: &untouched,
        plimsoll: Record::of(plimsoll),
        docker_diff: Record::of(docker_diff),
    };
    // What is told of a container in which nothing was done would say nothing of the others.
    assert_eq!(daemon.docker(&["diff", "untouched"]), "");
    let version = daemon.docker(&["version", "--format", "{{.Server.Version}}"]);
    table.docker_diff.version(&format!("Docker {version}"));
    let todo: Vec<&Operation> = match driver {
        Driver::Btrfs => operations::all().collect(),
        _ => operations::anywhere().collect(),
    };
    let next = AtomicUsize::new(0);
    let work = || {
        let image = Tree::read(&untouched);
        let mut wrong = Vec::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(operation) = todo.get(n) else {
                return wrong;
            };
            wrong.extend(table.scenario(&format!("c{n}"), operation, &image));
        }
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..JOBS).map(|_| scope.spawn(work)).collect();
        let ended = threads.into_iter().map(|t| t.join());
        ended.flat_map(|wrong| wrong.expect("thread")).collect()
    });
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn start(driver: Driver) -> Dockerd {
    let daemon = Dockerd::start(driver);
    daemon.import("base", operations_rootfs().path());
    daemon.build("image", "FROM base\nCOPY Dockerfile /dockerfile");
    daemon
}

#[test]
fn overlay2() {
    scenarios(
        Driver::Overlay2OnXfs,
        "in-docker-overlay2",
        "docker-diff-overlay2",
    );
}

#[test]
fn btrfs() {
    scenarios(Driver::Btrfs, "in-docker-btrfs", "docker-diff-btrfs");
}

/// What must be told of the containers of one kind, by scenario.
type Expected = Vec<(&'static str, Differences)>;

fn name(prefix: &str, n: usize) -> String {
    format!("{prefix}{n}")
}

/// Holds every container of one kind against the referee, by the data root alone.
fn hold(
    daemon: &Dockerd,
    prefix: &str,
    expected: &Expected,
    state: State,
    column: &str,
) -> Vec<String> {
    let record = Record::of(column);
    let (found, gaps) = inspect(daemon.disk(), &[]).expect("inspect");
    assert_eq!(gaps, []);
    let mut wrong = Vec::new();
    for (n, (scenario, expected)) in expected.iter().enumerate() {
        let ours = |m: &&Measurement| m.container.display_name() == name(prefix, n);
        let measurement = found.iter().find(ours).expect("the container");
        let reported = not_of_runtime(measurement);
        let exact = reported == *expected
            && measurement.gaps.is_empty()
            && measurement.container.state == state;
        record.engine(scenario, true, expected, exact);
        if !exact {
            wrong.push(format!(
                "{scenario}, {column}, {:?}:\n  expected {expected:?}\n  reported {reported:?}\n  gaps {:?}",
                measurement.container.state, measurement.gaps
            ));
        }
    }
    wrong
}

/// Some scenarios of each group in containers of each state.
fn states(driver: Driver) {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.btrfs",
        "mkfs.xfs",
        "xfs_io",
        "python3"
    );
    let mut daemon = start(driver);
    let untouched = daemon.rootfs(&daemon.run("untouched", &[], "image", &SLEEP));
    let image = Tree::read(&untouched);
    let mut wrong = Vec::new();
    let mut done = |operation: &Operation, root: &Path| {
        let performed = operation.perform(root);
        let expected = brute::differences(&image, &Tree::read(root));
        assert!(performed.worked, "{}", operation.name);
        wrong.extend(operation.doubt(&performed, &expected));
        expected
    };
    let (mut run, mut created) = (Expected::new(), Expected::new());
    for (n, scenario) in IN_EACH_STATE.iter().enumerate() {
        let operation = operations::named(scenario);
        let id = daemon.run(&name("run", n), &[], "image", &SLEEP);
        run.push((scenario, done(operation, &daemon.rootfs(&id))));
        let id = daemon.create(&name("created", n), &[], "image", &SLEEP);
        let expected = daemon.in_created(&id, |root| done(operation, root));
        created.push((scenario, expected));
    }
    let every = |verb: &[&str], prefix: &str| {
        let names: Vec<String> = (0..IN_EACH_STATE.len()).map(|n| name(prefix, n)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        daemon.docker(&[verb, &names].concat());
    };
    wrong.extend(hold(&daemon, "run", &run, State::Running, "running"));
    wrong.extend(hold(
        &daemon,
        "created",
        &created,
        State::Created,
        "created",
    ));
    every(&["pause"], "run");
    wrong.extend(hold(&daemon, "run", &run, State::Paused, "paused"));
    every(&["unpause"], "run");
    every(&["stop", "--time=0"], "run");
    wrong.extend(hold(&daemon, "run", &run, State::Exited, "exited"));
    every(&["start"], "created");
    let column = "created-then-run";
    wrong.extend(hold(&daemon, "created", &created, State::Running, column));
    daemon.kill();
    let column = "daemon-dead";
    wrong.extend(hold(&daemon, "created", &created, State::Running, column));
    let column = "exited-daemon-dead";
    wrong.extend(hold(&daemon, "run", &run, State::Exited, column));
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn states_overlay2() {
    states(Driver::Overlay2);
}

#[test]
fn states_btrfs() {
    states(Driver::Btrfs);
}
