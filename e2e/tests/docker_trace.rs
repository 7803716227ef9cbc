//! A check leaves no trace: not on the disk, not in the mount table, and nothing that a process in
//! the container could notice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plimsoll_e2e::command::{run, shell};
use plimsoll_e2e::dockerd::{Dockerd, Driver, inspect_one, not_of_docker, small_rootfs};
use plimsoll_e2e::{brute, program, require};

/// What must be equal before and after.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    files: BTreeMap<PathBuf, String>,
    mounts: String,
    subvolumes: String,
}

impl Traces {
    fn of(daemon: &Dockerd) -> Self {
        let root = daemon.data_root();
        let subvolumes = if daemon.driver() == Driver::Btrfs {
            // With generations: a tree that was written to has another one.
            run(
                "btrfs",
                &["subvolume", "list", "-acgu", &root.display().to_string()],
            )
        } else {
            String::new()
        };
        Self {
            files: brute::trace(&root),
            mounts: std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"),
            subvolumes,
        }
    }
}

fn check(daemon: &Dockerd, name: &str, more: &[&str]) -> Option<i32> {
    let output = program::command()
        .args(["check", "--docker-host"])
        .arg(daemon.socket())
        .args(more)
        .arg(name)
        .output()
        .expect("plimsoll");
    output.status.code()
}

/// Changes of which the content must be read to know.
const EDITS: &str = "
    touch -r /usr/bin/tool /tmp/ref; printf X | dd of=/usr/bin/tool bs=1 seek=100 conv=notrunc 2>/dev/null
    touch -r /tmp/ref /usr/bin/tool; rm /tmp/ref
    echo x >> /etc/passwd; rm /usr/lib/lib.so; mkdir /home/x; echo y > /home/x/y; ln -sf z /usr/bin/link
    cp /etc/shadow /home/same; cat /home/same > /etc/shadow";

fn leaves_nothing(driver: Driver, mount_options: &str) {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.btrfs",
        "btrfs"
    );
    let daemon = Dockerd::with(driver, mount_options, "{}");
    daemon.import("image", small_rootfs().path());
    for name in ["running", "stopped"] {
        daemon.run(name, &[], "image", &["sleep", "1000"]);
        daemon.exec(name, EDITS);
    }
    daemon.docker(&["stop", "--time=0", "stopped"]);
    daemon.create("created", &[], "image", &["sleep", "1000"]);
    // What the daemon and the file system still have to write down.
    shell(&format!("sync -f {}", daemon.data_root().display()));
    let expected = [("running", 1), ("stopped", 1), ("created", 0)];
    // The engines bring pending changes to disk once; from then on there are none.
    for (name, code) in expected {
        assert_eq!(check(&daemon, name, &[]), Some(code), "{name}");
    }
    let before = Traces::of(&daemon);
    assert_eq!(
        Traces::of(&daemon),
        before,
        "looking for traces leaves some"
    );
    for (name, code) in expected {
        for more in [&[][..], &["--engine", "digest"], &["--confirm", "always"]] {
            // The digest engine opens every file of the container's subvolume.
            assert_eq!(check(&daemon, name, more), Some(code), "{name} {more:?}");
            let after = Traces::of(&daemon);
            assert_eq!(after.mounts, before.mounts, "{name} {more:?}");
            assert_eq!(after.subvolumes, before.subvolumes, "{name} {more:?}");
            let moved: Vec<_> = before
                .files
                .iter()
                .filter(|(path, what)| after.files.get(*path) != Some(what))
                .map(|(path, what)| (path, what, after.files.get(path)))
                .collect();
            assert_eq!(moved, [], "{name} {more:?}");
            assert_eq!(after, before, "{name} {more:?}");
        }
    }
}

#[test]
fn overlay2_relatime() {
    leaves_nothing(Driver::Overlay2, "");
}

#[test]
fn overlay2_strictatime() {
    leaves_nothing(Driver::Overlay2, ",strictatime");
}

#[test]
fn overlay2_on_xfs_strictatime() {
    leaves_nothing(Driver::Overlay2OnXfs, ",strictatime");
}

#[test]
fn btrfs_relatime() {
    leaves_nothing(Driver::Btrfs, "");
}

#[test]
fn btrfs_strictatime() {
    leaves_nothing(Driver::Btrfs, ",strictatime");
}

/// Puts a program and the libraries it needs into a rootfs.
fn install(rootfs: &Path, name: &str) {
    shell(&format!(
        "program=$(command -v {name})
         cp \"$program\" {rootfs}/usr/bin/
         ldd \"$program\" | grep -o '/[^ ]*' | while read -r library; do
             mkdir -p {rootfs}$(dirname $library); cp -L $library {rootfs}$library
         done",
        rootfs = rootfs.display()
    ));
}

/// Waits until the log of a container satisfies a condition.
fn wait_for_log(daemon: &Dockerd, name: &str, what: &str) -> String {
    let start = Instant::now();
    loop {
        let output = daemon.try_docker(&["logs", name]);
        let log = [output.stdout, output.stderr].concat();
        let log = String::from_utf8_lossy(&log).into_owned();
        if log.contains(what) {
            return log;
        }
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "no \"{what}\" in: {log}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A watcher in the container, on every file and directory of its rootfs, sees nothing of a check.
fn nothing_to_see(driver: Driver) {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.btrfs",
        "inotifywait",
        "ldd"
    );
    let daemon = Dockerd::start(driver);
    let rootfs = small_rootfs();
    install(rootfs.path(), "inotifywait");
    daemon.import("image", rootfs.path());
    let watch =
        "sleep 2; inotifywait -m -r --format '%w%f %e' / @/proc @/sys @/dev 2>&1; sleep 1000";
    daemon.run("watched", &[], "image", &["sh", "-c", watch]);
    daemon.exec("watched", EDITS);
    wait_for_log(&daemon, "watched", "Watches established");
    let quiet = wait_for_log(&daemon, "watched", "Watches established");
    let measurement = inspect_one(daemon.live(), "watched");
    let told = not_of_docker(&measurement);
    assert_eq!(
        told.get("/usr/bin/tool"),
        Some(&('C', vec!["content"])),
        "{told:?}"
    );
    for more in [
        &[][..],
        &["--confirm", "always"],
        &["--format", "json"],
        &["-v"],
    ] {
        assert_eq!(check(&daemon, "watched", more), Some(1), "{more:?}");
    }
    let output = program::command()
        .args(["check", "--data-root"])
        .arg(daemon.data_root())
        .args(["watched", "--", "/usr/bin/tool", "/etc/shadow", "/usr/lib"])
        .output()
        .expect("plimsoll");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(
        wait_for_log(&daemon, "watched", "Watches established"),
        quiet
    );
    // The watcher does see what there is to see.
    daemon.exec("watched", ": > /home/seen");
    wait_for_log(&daemon, "watched", "/home/seen CREATE");
}

#[test]
fn a_watcher_on_overlay2_sees_nothing() {
    nothing_to_see(Driver::Overlay2);
}

#[test]
fn a_watcher_on_btrfs_sees_nothing() {
    nothing_to_see(Driver::Btrfs);
}
