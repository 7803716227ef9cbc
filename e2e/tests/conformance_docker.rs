//! Every scenario in containers of a real Docker daemon: Plimsoll by the data root alone, and what
//! `docker diff` says, held against the referee. The operations are done from the host, in the merged
//! directory of the running container, or in its subvolume.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll_e2e::brute::{self, Tree};
use plimsoll_e2e::conformance::Record;
use plimsoll_e2e::dockerd::{Dockerd, Driver, inspect_one, not_of_docker, operations_rootfs};
use plimsoll_e2e::operations::{self, Operation};
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
        let reported = not_of_docker(&measurement);
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
    let daemon = Dockerd::start(driver);
    daemon.import("base", operations_rootfs().path());
    daemon.build("image", "FROM base\nCOPY Dockerfile /dockerfile");
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
