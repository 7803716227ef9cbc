//! Every scenario in running containers of Podman: Plimsoll by the name of the container and by the
//! overlay mount, and what `podman diff` says, held against the referee. The operations are done from
//! the host, in the merged directory.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll_core::model::Measurement;
use plimsoll_e2e::brute::{self, Tree};
use plimsoll_e2e::conformance::Record;
use plimsoll_e2e::look::not_of_runtime;
use plimsoll_e2e::operations::{self, Operation};
use plimsoll_e2e::podman::{self, Podman, Running};
use plimsoll_e2e::rootfs::operations_rootfs;
use plimsoll_e2e::{require, told};
use plimsoll_host::inspect::{Options, Request, Sources, Target, inspect};

/// Two at a time: there may be no more processors.
const JOBS: usize = 2;

struct Table<'a> {
    podman: &'a Podman,
    untouched: &'a Path,
    plimsoll: Record,
    podman_diff: Record,
}

fn check(merged: &Path) -> Measurement {
    let request = Request {
        sources: Sources::default(),
        targets: vec![Target::OverlayMount(merged.to_owned())],
        paths: Vec::new(),
        options: Options::default(),
    };
    let mut found = Vec::new();
    let gaps = inspect(&request, &mut |measurement| found.push(measurement)).expect("inspect");
    assert_eq!(gaps, []);
    found.pop().expect("one measurement")
}

impl Table<'_> {
    /// One scenario in a container of its own; returns what is wrong with what Plimsoll says. Asked by the
    /// name, it leaves out what Podman itself made; by the mount, that is told too: `image` is the image
    /// alone.
    fn scenario(
        &self,
        name: &str,
        operation: &Operation,
        image: &Tree,
        untouched: &Tree,
    ) -> Vec<String> {
        let container = run(self.podman, name);
        let performed = operation.perform(&container.merged);
        let tree = Tree::read(&container.merged);
        let expected = brute::differences(untouched, &tree);
        let mut wrong: Vec<String> = operation.doubt(&performed, &expected).into_iter().collect();

        let measurement = check(&container.merged);
        let of_image = brute::differences(image, &tree);
        let reported = brute::of_changes(&measurement.changes);
        if reported != of_image || !measurement.gaps.is_empty() {
            wrong.push(format!(
                "{}:\n  expected {of_image:?}\n  reported {reported:?}\n  gaps {:?}",
                operation.name, measurement.gaps
            ));
        }
        let (named, gaps) = podman::inspect(self.podman.live(), &[name]).expect("inspect");
        let by_name = not_of_runtime(&named[0]);
        if by_name != expected || !gaps.is_empty() || !named[0].gaps.is_empty() {
            wrong.push(format!(
                "{} by name:\n  expected {expected:?}\n  reported {by_name:?}\n  gaps {gaps:?} {:?}",
                operation.name, named[0].gaps
            ));
        }
        self.plimsoll.engine(
            operation.name,
            performed.worked,
            &expected,
            wrong.is_empty(),
        );

        let judged = told::judge_output(
            &self.podman.try_podman(&["diff", name]),
            &expected,
            self.untouched,
            &container.merged,
        );
        self.podman_diff
            .tool(operation.name, performed.worked, &expected, &judged);
        drop(performed);
        container.kill();
        wrong
    }
}

fn run(podman: &Podman, name: &str) -> Running {
    podman.run(name, "image", &["/busybox", "sleep", "100000"]);
    podman.running(name)
}

#[test]
fn overlay() {
    require!(
        "podman",
        "runc",
        "conmon",
        "busybox",
        "mkfs.ext4",
        "xfs_io",
        "python3"
    );
    let podman = Podman::new();
    podman.import("image", operations_rootfs().path());
    let untouched = run(&podman, "untouched");
    let table = Table {
        podman: &podman,
        untouched: &untouched.merged,
        plimsoll: Record::of("in-podman"),
        podman_diff: Record::of("podman-diff"),
    };
    // What is told of a container in which nothing was done would say nothing of the others.
    assert_eq!(podman.podman(&["diff", "untouched"]), "");
    let version = podman.podman(&["version", "--format", "{{.Client.Version}}"]);
    table.podman_diff.version(&format!("Podman {version}"));
    let todo: Vec<&Operation> = operations::anywhere().collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let (image, untouched) = (Tree::read(&untouched.lower), Tree::read(&untouched.merged));
        let mut wrong = Vec::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(operation) = todo.get(n) else {
                return wrong;
            };
            wrong.extend(table.scenario(&format!("c{n}"), operation, &image, &untouched));
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
