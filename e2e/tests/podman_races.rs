//! Checks while Podman itself moves a container about: mounted, unmounted, started, frozen.

use std::sync::atomic::{AtomicBool, Ordering};

use plimsoll_core::model::{MountOrigin, State};
use plimsoll_e2e::look::not_of_runtime;
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::podman::{Podman, inspect, inspect_one};
use plimsoll_e2e::require;
use plimsoll_e2e::rootfs::small_rootfs;

/// A container that is restarted, paused and let go on all the time: the changes are the same all the
/// time, and nobody mounts anything or runs code of his own.
fn restarted_meanwhile(kind: Kind) {
    require!(
        "podman",
        "runc",
        "conmon",
        "busybox",
        "mkfs.ext4",
        "mkfs.btrfs"
    );
    let podman = Podman::with(kind, 1024, "");
    podman.import("image", small_rootfs().path());
    podman.podman(&[
        "run",
        "--detach",
        "--network=none",
        "--name=moved",
        "--volume=/data",
        "--tmpfs=/scratch",
        "image",
        "/bin/busybox",
        "sleep",
        "1000",
    ]);
    podman.exec(
        "moved",
        "rm /etc/shadow; echo x >> /usr/bin/tool; mkdir /home/new; echo > /home/new/f",
    );
    let expected = not_of_runtime(&inspect_one(podman.live(), "moved"));
    assert_eq!(expected.len(), 4);
    let done = AtomicBool::new(false);
    let (mut rounds, mut gaps_met) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..4 {
                podman.podman(&["restart", "--time=0", "moved"]);
                podman.podman(&["pause", "moved"]);
                podman.podman(&["unpause", "moved"]);
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            rounds += 1;
            let (found, gaps) = inspect(podman.live(), &["moved"]).expect("inspect");
            assert_eq!(gaps, [], "{kind:?}");
            let measurement = &found[0];
            assert_eq!(not_of_runtime(measurement), expected, "{kind:?}");
            assert_ne!(measurement.container.state, State::Created, "{kind:?}");
            let mut mounts = measurement.mounts.iter();
            let foreign = mounts.find(|mount| mount.origin == MountOrigin::Foreign);
            assert_eq!(foreign, None, "{kind:?}");
            assert_eq!(measurement.code, [], "{kind:?}");
            for gap in &measurement.gaps {
                println!("{}: {}", gap.what, gap.why);
            }
            gaps_met += measurement.gaps.len();
        }
    });
    assert!(rounds > 10, "the check is too slow to meet a restart");
    println!("{kind:?}: {rounds} rounds, {gaps_met} gaps");
    assert_eq!(
        not_of_runtime(&inspect_one(podman.live(), "moved")),
        expected
    );
}

#[test]
fn restarted_meanwhile_overlay() {
    restarted_meanwhile(Kind::Ext4);
}

#[test]
fn restarted_meanwhile_btrfs() {
    restarted_meanwhile(Kind::Btrfs);
}
