//! Every scenario in running containers of Podman: Plimsoll by the name of the container and by the
//! overlay mount, and what `podman diff` says, held against the referee. The operations are done from
//! the host, in the merged directory.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll_core::model::{Gap, Measurement};
use plimsoll_e2e::brute::{self, Differences, Tree};
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
    /// Whether the kernel mounts the containers, so that the mount tells its layers.
    by_kernel: bool,
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
        let read = || Tree::read(&container.merged);
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
        let Ok(tree) = read else {
            container.kill();
            if self.by_kernel || !SHOWN_LATER.contains(&operation.name) {
                return vec![format!("{}: its tree cannot be read", operation.name)];
            }
            let nothing = Differences::new();
            for record in [&self.plimsoll, &self.podman_diff] {
                record.word(operation.name, "impossible", &nothing);
            }
            return Vec::new();
        };
        let expected = brute::differences(untouched, &tree);
        let mut wrong: Vec<String> = operation.doubt(&performed, &expected).into_iter().collect();

        if self.by_kernel {
            let measurement = check(&container.merged);
            let of_image = brute::differences(image, &tree);
            let reported = brute::of_changes(&measurement.changes);
            if reported != of_image || !measurement.gaps.is_empty() {
                wrong.push(format!(
                    "{}:\n  expected {of_image:?}\n  reported {reported:?}\n  gaps {:?}",
                    operation.name, measurement.gaps
                ));
            }
        }
        let (named, gaps) = podman::inspect(self.podman.live(), &[name]).expect("inspect");
        let by_name = not_of_runtime(&named[0]);
        let is_exact = by_name == expected && gaps.is_empty() && named[0].gaps.is_empty();
        let judged = told::judge_output(
            &self.podman.try_podman(&["diff", name]),
            &expected,
            self.untouched,
            &container.merged,
        );
        self.podman_diff
            .tool(operation.name, performed.worked, &expected, &judged);
        let mark = match self.by_kernel {
            false if !is_exact => {
                self.in_fuse(operation, &container, &named[0], (untouched, &expected))
            }
            _ => None,
        };
        if !is_exact && mark.is_none() {
            wrong.push(format!(
                "{} by name:\n  expected {expected:?}\n  reported {by_name:?}\n  gaps {gaps:?} {:?}",
                operation.name,
                named[0].gaps
            ));
        }
        match mark {
            Some(mark) if performed.worked => {
                wrong.retain(|_| mark != LATER);
                self.plimsoll.word(operation.name, mark, &expected);
            }
            _ => self.plimsoll.engine(
                operation.name,
                performed.worked,
                &expected,
                wrong.is_empty(),
            ),
        }

        drop(performed);
        if mark != Some(LATER) {
            container.kill();
        }
        wrong
    }
}

/// Where Plimsoll says that it cannot be told, and why.
const UNTOLD: &str = "gap";

/// Where the container goes on showing what it will not show once it is started again.
const LATER: &str = "later";

/// Scenarios in which fuse-overlayfs 1.10 shows, until the container is started again, something else than
/// its layers hold: it fails halfway, or a process wrote a mark itself.
const SHOWN_LATER: &[&str] = &[
    "delete and make a whole tree, the same",
    "user xattrs that look like overlay marks",
    "device 0:0 in the place of a file",
    "exchange a file and a directory",
];

impl Table<'_> {
    /// Where fuse-overlayfs itself makes that what a process sees cannot be told from the layers: the word
    /// for it, where that was told, or what is told is what is seen after the container was stopped.
    fn in_fuse(
        &self,
        operation: &Operation,
        container: &Running,
        measurement: &Measurement,
        (untouched, expected): (&Tree, &Differences),
    ) -> Option<&'static str> {
        let several = |gap: &Gap| gap.why.contains("several names in the image");
        if !measurement.gaps.is_empty() {
            let has_gap = |path: &str| {
                measurement
                    .gaps
                    .iter()
                    .any(|gap| gap.what.as_bytes() == path.as_bytes())
            };
            let mut told = not_of_runtime(measurement).into_iter();
            let is_true =
                told.all(|(path, what)| expected.get(&path) == Some(&what) || has_gap(&path));
            return (is_true && measurement.gaps.iter().all(several)).then_some(UNTOLD);
        }
        if !SHOWN_LATER.contains(&operation.name) {
            return None;
        }
        let name = measurement.container.name.as_deref()?;
        container.kill();
        self.podman.podman(&["wait", name]);
        self.podman.settle();
        let merged = self.podman.podman(&["mount", name]);
        let expected = brute::differences(untouched, &Tree::read(Path::new(&merged)));
        self.podman.podman(&["unmount", name]);
        let (found, gaps) = podman::inspect(self.podman.live(), &[name]).expect("inspect");
        let exact = not_of_runtime(&found[0]) == expected && gaps.is_empty();
        (exact && found[0].gaps.is_empty()).then_some(LATER)
    }
}

fn run(podman: &Podman, name: &str) -> Running {
    podman.run(name, "image", &["/busybox", "sleep", "100000"]);
    podman.running(name)
}

#[test]
fn overlay() {
    every_scenario(Podman::new, true, ["in-podman", "podman-diff"]);
}

#[test]
fn fuse_overlayfs() {
    every_scenario(Podman::fuse, false, ["in-podman-fuse", "podman-diff-fuse"]);
}

fn every_scenario(make: fn() -> Podman, by_kernel: bool, columns: [&str; 2]) {
    require!(
        "podman",
        "runc",
        "conmon",
        "busybox",
        "fuse-overlayfs",
        "mkfs.ext4",
        "xfs_io",
        "python3"
    );
    let podman = make();
    podman.import("image", operations_rootfs().path());
    let untouched = run(&podman, "untouched");
    let table = Table {
        podman: &podman,
        by_kernel,
        untouched: &untouched.merged,
        plimsoll: Record::of(columns[0]),
        podman_diff: Record::of(columns[1]),
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
