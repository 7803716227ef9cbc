//! A check of containers of containerd leaves no trace, holds up nobody, and is held up by nobody.

use std::sync::atomic::{AtomicBool, Ordering};

use plimsoll_core::model::EngineKind;
use plimsoll_e2e::brute::{self, Differences};
use plimsoll_e2e::command::{run, shell};
use plimsoll_e2e::containerd::{Containerd, inspect_one};
use plimsoll_e2e::look::not_of_runtime;
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::oci::Image;
use plimsoll_e2e::require;
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_host::inspect::Options;

const IMAGE: &str = "example.org/image:1";

/// Changes of which the content must be read to know, and links.
const EDITS: &str = "
    touch -r /usr/bin/tool /ref; printf changed! | dd of=/usr/bin/tool bs=1 seek=100 conv=notrunc 2>/dev/null
    touch -r /ref /usr/bin/tool; rm /ref
    rm /usr/lib/lib.so; echo y > /home/y; ln -sf z /usr/bin/link";

fn leaves_nothing(kind: Kind, snapshotter: &str) {
    require!(
        "containerd",
        "ctr",
        "runc",
        "busybox",
        "setpriv",
        "mkfs.ext4",
        "mkfs.btrfs",
        "btrfs"
    );
    let mut daemon = Containerd::start_strictly(kind);
    let image = Image::new().layer(small_rootfs().path()).archive(IMAGE);
    daemon.import("a", snapshotter, &image);
    let volume = daemon.file("volume").display().to_string();
    std::fs::create_dir(&volume).expect("volume");
    let mount = format!("type=bind,src={volume},dst=/srv/data,options=rbind:rw");
    for name in ["running", "created"] {
        daemon.create("a", snapshotter, &["--mount", &mount], IMAGE, name);
    }
    daemon.start_task("a", "running");
    daemon.exec("a", "running", EDITS);
    // It collects what nobody needs when it likes, and writes that down.
    daemon.kill();
    shell(&format!("sync -f {}", daemon.root().display()));
    let traces = || {
        let subvolumes = match kind {
            // With generations: a tree that was written to has another one.
            Kind::Btrfs => {
                let root = daemon.root().display().to_string();
                run("btrfs", &["subvolume", "list", "-acgu", &root])
            }
            _ => String::new(),
        };
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let base = daemon.root().display().to_string();
        let mounts: Vec<String> = mounts
            .lines()
            .filter(|line| line.contains(&base))
            .map(Into::into)
            .collect();
        let state = daemon.file("state/io.containerd.runtime.v2.task");
        let bundles = std::fs::read_dir(state.join(daemon.namespace("a"))).expect("bundles");
        // The merged directory among them is the container's.
        let bundles: Vec<_> = bundles
            .flatten()
            .flat_map(|bundle| {
                ["init.pid", "work", "config.json"].map(|file| bundle.path().join(file))
            })
            .map(|path| brute::trace(&path))
            .collect();
        (brute::trace(&daemon.root()), bundles, subvolumes, mounts)
    };
    let before = traces();
    assert!(traces() == before, "looking for traces leaves some");
    for (name, changes) in [("running", 4), ("created", 0)] {
        for engine in [None, Some(EngineKind::Digest)] {
            let options = Options {
                engine,
                ..Options::default()
            };
            for sources in [daemon.here(), daemon.disk()] {
                let measurement = inspect_one(sources, name, options.clone());
                assert_eq!(not_of_runtime(&measurement).len(), changes, "{name}");
                let after = traces();
                let moved: Vec<_> = before
                    .0
                    .iter()
                    .filter(|(path, was)| after.0.get(*path) != Some(was))
                    .map(|(path, was)| (path, was, after.0.get(path)))
                    .collect();
                assert_eq!(moved, [], "{name}, {engine:?}");
                assert!(after == before, "{name}, {engine:?}");
            }
        }
    }
}

#[test]
fn overlayfs() {
    leaves_nothing(Kind::Ext4, "overlayfs");
}

#[test]
fn btrfs() {
    leaves_nothing(Kind::Btrfs, "btrfs");
}

/// While others are made and removed, every answer about this one is whole: the database is written all the
/// time, and pages of it are used again.
#[test]
fn a_busy_database() {
    require!(
        "containerd",
        "ctr",
        "runc",
        "busybox",
        "setpriv",
        "mkfs.ext4"
    );
    let daemon = Containerd::start(Kind::Ext4);
    let image = Image::new().layer(small_rootfs().path()).archive(IMAGE);
    daemon.import("a", "overlayfs", &image);
    daemon.create("a", "overlayfs", &[], IMAGE, "web");
    let ended = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut rounds = 0;
            while !ended.load(Ordering::Relaxed) {
                daemon.create("a", "overlayfs", &[], IMAGE, "other");
                daemon.ctr("a", &["containers", "delete", "other"]);
                rounds += 1;
            }
            rounds
        });
        for _ in 0..300 {
            let measurement = inspect_one(daemon.here(), "web", Options::default());
            assert_eq!(not_of_runtime(&measurement), Differences::new());
            assert!(measurement.container.image.id.is_some());
        }
        ended.store(true, Ordering::Relaxed);
        busy.join().expect("the other one")
    });
    assert!(rounds > 0);
}
