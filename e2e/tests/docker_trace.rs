//! A check leaves no trace: not on the disk, not in the mount table, and nothing that a process in
//! the container could notice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plimsoll_e2e::command::{run, shell};
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::look::{inspect_one, not_of_runtime};
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_e2e::{brute, program, require};

/// What must be equal before and after.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    files: BTreeMap<PathBuf, String>,
    mounts: Vec<String>,
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
        let base = root.parent().expect("mount point").display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        Self {
            files: brute::trace(&root),
            // Tests beside this one mount file systems of their own.
            mounts: mounts
                .lines()
                .filter(|line| line.contains(&base))
                .map(Into::into)
                .collect(),
            subvolumes,
        }
    }

    /// The files that are not what they were, beneath the data root, and how.
    fn moved(&self, after: &Self, root: &Path) -> Vec<(String, String, String)> {
        let paths: BTreeSet<_> = self.files.keys().chain(after.files.keys()).collect();
        paths
            .into_iter()
            .filter(|path| self.files.get(*path) != after.files.get(*path))
            .map(|path| {
                let what = |traces: &Self| traces.files.get(path).cloned().unwrap_or_default();
                let shown = path
                    .strip_prefix(root)
                    .unwrap_or(path)
                    .display()
                    .to_string();
                (shown, what(self), what(after))
            })
            .collect()
    }
}

fn check(source: &[&std::ffi::OsStr], name: &str, more: &[&str]) -> Option<i32> {
    let output = program::command()
        .arg("check")
        .args(source)
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
    let (root, socket) = (daemon.data_root(), daemon.socket());
    let disk = ["--data-root".as_ref(), root.as_os_str()];
    let live = ["--docker-host".as_ref(), socket.as_os_str()];

    let before = Traces::of(&daemon);
    assert_eq!(
        Traces::of(&daemon),
        before,
        "looking for traces leaves some"
    );
    let cases = [("running", 1), ("stopped", 1), ("created", 0)];
    for (name, code) in cases {
        for more in [&[][..], &["--engine", "digest"], &["--confirm", "always"]] {
            assert_eq!(check(&disk, name, more), Some(code), "{name} {more:?}");
            let after = Traces::of(&daemon);
            assert_eq!(before.moved(&after, &root), [], "{name} {more:?}");
            assert_eq!(after, before, "{name} {more:?}");
        }
    }
    // A daemon that is asked reads records of its own, and the kernel notes when it did. Nothing else
    // moves: no layer, no record of a container.
    for (name, code) in cases {
        assert_eq!(check(&live, name, &[]), Some(code), "{name}");
    }
    let after = Traces::of(&daemon);
    for (path, was, is) in before.moved(&after, &root) {
        let of_daemon = path.contains("/imagedb/content/")
            || path.starts_with("network/files/")
            || path.starts_with("overlay2/l/")
            || (path.starts_with("overlay2/") && path.ends_with("/lower"));
        assert!(of_daemon, "{path}: {was} -> {is}");
        let but_read = |traces: &str| {
            let fields: Vec<_> = traces.split(' ').map(ToOwned::to_owned).collect();
            // The sixth field is the access time.
            [&fields[..5], &fields[6..]].concat()
        };
        assert_eq!(but_read(&was), but_read(&is), "{path}");
    }
    assert_eq!(
        (after.mounts, after.subvolumes),
        (before.mounts, before.subvolumes)
    );
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
    let quiet = wait_for_log(&daemon, "watched", "Watches established");
    let measurement = inspect_one(daemon.live(), "watched");
    let told = not_of_runtime(&measurement);
    assert_eq!(
        told.get("/usr/bin/tool"),
        Some(&('C', vec!["content"])),
        "{told:?}"
    );
    let socket = daemon.socket();
    let live = ["--docker-host".as_ref(), socket.as_os_str()];
    for more in [
        &[][..],
        &["--confirm", "always"],
        &["--format", "json"],
        &["-v"],
    ] {
        assert_eq!(check(&live, "watched", more), Some(1), "{more:?}");
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
