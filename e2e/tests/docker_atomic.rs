//! `--atomic`: a container that writes all the time, held still or looked at in a snapshot, and let go.

use plimsoll_core::model::{EngineKind, State};
use plimsoll_e2e::command::run;
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::look::inspect_with;
use plimsoll_e2e::require;
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_host::inspect::Options;

fn held_still(driver: Driver, engine: EngineKind) {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "mkfs.btrfs",
        "btrfs"
    );
    let daemon = Dockerd::start(driver);
    daemon.import("image", small_rootfs().path());
    // Two files that never differ but between two writes.
    let writer = "i=0; while true; do i=$((i + 1)); echo $i > /tmp/a; echo $i > /tmp/b; done";
    daemon.run("busy", &[], "image", &["sh", "-c", writer]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let subvolumes = || match driver {
        Driver::Btrfs => run(
            "btrfs",
            &[
                "subvolume",
                "list",
                "-o",
                &daemon
                    .data_root()
                    .join("btrfs/subvolumes")
                    .display()
                    .to_string(),
            ],
        )
        .lines()
        .count(),
        _ => 0,
    };
    let before = subvolumes();
    for _ in 0..5 {
        let options = Options {
            atomic: true,
            ..Options::default()
        };
        let (mut found, gaps) = inspect_with(daemon.disk(), &["busy"], options).expect("inspect");
        assert_eq!(gaps, []);
        let measurement = found.remove(0);
        assert_eq!(measurement.gaps, []);
        assert_eq!(
            (measurement.engine, measurement.container.state),
            (Some(engine), State::Running)
        );
        let paths: Vec<String> = measurement
            .changes
            .iter()
            .map(|change| change.path.to_string())
            .collect();
        assert!(paths.contains(&"/tmp/a".to_owned()), "{paths:?}");
    }
    assert_eq!(subvolumes(), before, "no snapshot is left");
    // It was let go again: it still writes.
    // Between two writes the file is empty.
    let read = "until v=$(cat /tmp/a) && [ \"$v\" ]; do :; done; echo $v";
    let value = || daemon.exec("busy", read);
    let first = value();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_ne!(value(), first, "the container stands still");
}

#[test]
fn overlay_by_freezing() {
    held_still(Driver::Overlay2, EngineKind::Overlay);
}

#[test]
fn btrfs_by_a_snapshot() {
    held_still(Driver::Btrfs, EngineKind::Btrfs);
}
