//! Every scenario in containers of a real containerd: Plimsoll by its root alone, held against the referee.
//! The operations are done from the host, in the root file system that the shim has mounted.

use std::sync::atomic::{AtomicUsize, Ordering};

use plimsoll_e2e::brute::{self, Tree};
use plimsoll_e2e::conformance::Record;
use plimsoll_e2e::containerd::{Containerd, inspect_one};
use plimsoll_e2e::look::not_of_runtime;
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::oci::Image;
use plimsoll_e2e::operations::{self, Operation};
use plimsoll_e2e::require;
use plimsoll_e2e::rootfs::operations_rootfs;
use plimsoll_host::inspect::Options;

const IMAGE: &str = "example.org/image:1";

/// Two at a time: there may be no more processors.
const JOBS: usize = 2;

/// One scenario in a container of its own; returns what is wrong with what Plimsoll says.
fn scenario(
    daemon: &Containerd,
    snapshotter: &str,
    name: &str,
    operation: &Operation,
    (untouched, record): (&Tree, &Record),
) -> Vec<String> {
    daemon.create("a", snapshotter, &[], IMAGE, name);
    daemon.start_task("a", name);
    let root = daemon.rootfs("a", name);
    let performed = operation.perform(&root);
    let expected = brute::differences(untouched, &Tree::read(&root));
    let mut wrong: Vec<String> = operation.doubt(&performed, &expected).into_iter().collect();
    let measurement = inspect_one(daemon.here(), name, Options::default());
    let reported = not_of_runtime(&measurement);
    if reported != expected {
        wrong.push(format!(
            "{}:\n  expected {expected:?}\n  reported {reported:?}",
            operation.name
        ));
    }
    let exact = wrong.is_empty();
    record.engine(operation.name, performed.worked, &expected, exact);
    drop(performed);
    daemon.ctr("a", &["tasks", "kill", "--signal", "KILL", name]);
    wrong
}

fn scenarios(kind: Kind, snapshotter: &str, column: &str) {
    require!(
        "containerd",
        "ctr",
        "runc",
        "busybox",
        "setpriv",
        "mkfs.btrfs",
        "mkfs.xfs",
        "xfs_io",
        "python3"
    );
    let daemon = Containerd::start(kind);
    let rootfs = operations_rootfs();
    let bin = rootfs.path().join("bin/busybox");
    std::fs::rename(rootfs.path().join("busybox"), bin).expect("busybox");
    plimsoll_e2e::command::shell(&format!(
        "cd '{}'; mkdir -p srv/app; touch -d '2020-01-02 03:04:05.678901' bin srv/app srv .",
        rootfs.path().display()
    ));
    let image = Image::new().layer(rootfs.path()).archive(IMAGE);
    daemon.import("a", snapshotter, &image);
    daemon.create("a", snapshotter, &[], IMAGE, "untouched");
    daemon.start_task("a", "untouched");
    let untouched = daemon.rootfs("a", "untouched");
    let todo: Vec<&Operation> = match snapshotter {
        "btrfs" => operations::all().collect(),
        _ => operations::anywhere().collect(),
    };
    let record = Record::of(column);
    let next = AtomicUsize::new(0);
    let work = || {
        let image = Tree::read(&untouched);
        let mut wrong = Vec::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(operation) = todo.get(n) else {
                return wrong;
            };
            let name = format!("c{n}");
            let beside = (&image, &record);
            wrong.extend(scenario(&daemon, snapshotter, &name, operation, beside));
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
fn overlayfs() {
    scenarios(Kind::Xfs, "overlayfs", "in-containerd-overlayfs");
}

#[test]
fn btrfs() {
    scenarios(Kind::Btrfs, "btrfs", "in-containerd-btrfs");
}
