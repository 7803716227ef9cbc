//! Checks while Docker itself moves a container about: mounted, unmounted, started, frozen.

use std::sync::atomic::{AtomicBool, Ordering};

use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::look::{inspect, inspect_one, not_of_runtime};
use plimsoll_e2e::require;
use plimsoll_e2e::rootfs::small_rootfs;

/// A container that is restarted, paused and let go on all the time: its rootfs is unmounted and
/// mounted again beneath the check, its processes and their mounts come and go. The changes are the
/// same all the time, and nobody mounts anything or runs code of his own.
fn restarted_meanwhile(driver: Driver) {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "mkfs.btrfs",
        "mkfs.xfs"
    );
    let daemon = Dockerd::start(driver);
    daemon.import("image", small_rootfs().path());
    let sleep = ["sleep", "1000"];
    daemon.run(
        "moved",
        &["-v", "/data", "--tmpfs", "/scratch"],
        "image",
        &sleep,
    );
    daemon.exec(
        "moved",
        "rm /etc/shadow; echo x >> /usr/bin/tool; mkdir /home/new; echo > /home/new/f",
    );
    let expected = not_of_runtime(&inspect_one(daemon.disk(), "moved"));
    assert_eq!(expected.len(), 4);
    let done = AtomicBool::new(false);
    let (mut rounds, mut gaps_met) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..6 {
                daemon.docker(&["restart", "--time=0", "moved"]);
                daemon.docker(&["pause", "moved"]);
                daemon.docker(&["unpause", "moved"]);
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            rounds += 1;
            let (found, gaps) = inspect(daemon.disk(), &["moved"]).expect("inspect");
            assert_eq!(gaps, [], "{driver:?}");
            let measurement = &found[0];
            assert_eq!(not_of_runtime(measurement), expected, "{driver:?}");
            let foreign = measurement
                .mounts
                .iter()
                .find(|mount| mount.origin == plimsoll_core::model::MountOrigin::Foreign);
            assert_eq!(foreign, None, "{driver:?}");
            assert_eq!(measurement.code, [], "{driver:?}");
            gaps_met += measurement.gaps.len();
        }
    });
    assert!(rounds > 10, "the check is too slow to meet a restart");
    println!("{driver:?}: {rounds} rounds, {gaps_met} gaps");
    assert_eq!(
        not_of_runtime(&inspect_one(daemon.disk(), "moved")),
        expected
    );
}

#[test]
fn restarted_meanwhile_overlay2() {
    restarted_meanwhile(Driver::Overlay2);
}

#[test]
fn restarted_meanwhile_btrfs() {
    restarted_meanwhile(Driver::Btrfs);
}
