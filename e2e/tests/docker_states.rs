//! Each state of a container, with each storage driver: the same edits, the same exact changes.

use std::path::Path;
use std::process::{Command, Stdio};

use plimsoll_core::model::{EngineKind, Measurement, State};
use plimsoll_e2e::brute::Differences;
use plimsoll_e2e::disk::Disk;
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::edits::{EDITS, edited};
use plimsoll_e2e::look::{inspect, inspect_with, not_of_runtime};
use plimsoll_e2e::matrix::{self, Access};
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_e2e::{program, require};
use plimsoll_host::inspect::{Options, Sources};

/// How the containers of a daemon are looked at.
struct Way {
    sources: Sources,
    engine: EngineKind,
    /// Where it counts in the table of runtimes, if it does.
    told: Option<(&'static str, Access)>,
}

impl Way {
    /// Looks at a container, of which everything must be seen and these edits be told.
    fn look(&self, name: &str, edits: &Differences) -> Measurement {
        let options = Options {
            engine: (self.engine == EngineKind::Digest).then_some(self.engine),
            ..Options::default()
        };
        let (mut found, gaps) =
            inspect_with(self.sources.clone(), &[name], options).expect("inspect");
        let measurement = found.pop().expect("one container");
        assert_eq!((gaps, &*measurement.gaps), (vec![], &[][..]), "{name}");
        assert_eq!(measurement.engine, Some(self.engine), "{name}");
        assert_eq!(not_of_runtime(&measurement), *edits, "{name}");
        measurement
    }

    /// Looks at a container that is, or was when the disk was taken away, in this state.
    fn expect(&self, name: &str, state: State, edits: &Differences) {
        let measurement = self.look(name, edits);
        let is_offline = self.sources.root.is_some();
        let running = matches!(state, State::Running | State::Paused) && !is_offline;
        assert_eq!(
            measurement.container.state,
            match state {
                // No process of it is on this machine.
                State::Running | State::Paused if is_offline => State::Exited,
                state => state,
            },
            "{name}"
        );
        assert_eq!(measurement.container.pid.is_some(), running, "{name}");
        if let Some((place, access)) = self.told {
            matrix::told_in(place, state, access);
        }
    }
}

fn states(place: Option<&'static str>, driver: Driver, engine: EngineKind) {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.btrfs",
        "mkfs.xfs"
    );
    let mut daemon = Dockerd::start(driver);
    let version = daemon.docker(&["version", "--format", "{{.Server.Version}}"]);
    matrix::version(&format!("Docker {version}"));
    daemon.import("base", small_rootfs().path());
    daemon.build(
        "image",
        "FROM base\nRUN echo second > /etc/second\nWORKDIR /srv/app",
    );
    let sleep = ["sleep", "1000"];
    for name in ["running", "paused", "exited"] {
        daemon.run(name, &[], "image", &sleep);
        daemon.exec(name, EDITS);
    }
    daemon.docker(&["pause", "paused"]);
    daemon.docker(&["stop", "--time=0", "exited"]);
    daemon.create("created", &[], "image", &sleep);
    daemon.run("untouched", &[], "image", &sleep);
    // It reads every directory of both trees, and moves access times in the image's.
    daemon.docker(&["diff", "untouched"]);
    let created = change_before_start(&daemon);

    let edited = edited();
    let cases = [
        ("created", State::Created, &created),
        ("running", State::Running, &edited),
        ("paused", State::Paused, &edited),
        ("exited", State::Exited, &edited),
        ("untouched", State::Running, &Differences::new()),
    ];
    let way = |sources, access: Option<Access>| Way {
        sources,
        engine,
        told: place.zip(access),
    };
    let live = way(daemon.live(), Some(Access::Live));
    let beside = way(daemon.disk(), None);
    for (name, state, edits) in cases {
        live.expect(name, state, edits);
        beside.expect(name, state, edits);
    }
    // All at once, sorted by name.
    let (all, gaps) = inspect(daemon.live(), &[]).expect("inspect");
    let names: Vec<_> = all.iter().map(|m| m.container.display_name()).collect();
    assert_eq!(
        names,
        ["created", "exited", "paused", "running", "untouched"]
    );
    assert_eq!(gaps, []);

    daemon.kill();
    let told = inspect(daemon.live(), &[]).unwrap_err();
    assert!(told.starts_with("nobody answers at"), "{told}");
    let dead = way(daemon.disk(), Some(Access::Dead));
    let root = daemon.data_root();
    let disk = Disk::with(&[(&root, "var/lib/docker")]);
    let offline = way(disk.sources(), Some(Access::Offline));
    for (name, state, edits) in cases {
        dead.expect(name, state, edits);
        offline.expect(name, state, edits);
    }
    drop(disk);
    // The record still says that it runs; the process table knows better.
    let pid = beside.look("running", &edited).container.pid;
    let pid = pid.expect("its pid");
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("pid")).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
    // Its memory goes before it has ended: only its state tells.
    let ended = |stat: &str| stat.contains(") Z ") || stat.contains(") X ");
    while std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
        .is_ok_and(|stat| !ended(&stat))
    {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    beside.expect("running", State::Exited, &edited);

    daemon.start_again();
    for (name, _, edits) in cases {
        live.look(name, edits);
    }
}

/// Changes a container that was never started, as `docker cp` can.
fn change_before_start(daemon: &Dockerd) -> Differences {
    let tool = daemon.scratch().join("usr/bin/tool");
    std::fs::create_dir_all(tool.parent().expect("parent")).expect("directory");
    daemon.docker(&[
        "cp",
        "-a",
        "created:/usr/bin/tool",
        &tool.display().to_string(),
    ]);
    let shell = format!(
        "cd {}; touch -r usr/bin/tool ref; printf X | dd of=usr/bin/tool bs=1 seek=100 conv=notrunc status=none
         touch -r ref usr/bin/tool; mkdir home; echo new > home/new
         tar --format=pax -cf change.tar usr/bin/tool home/new",
        daemon.scratch().display()
    );
    plimsoll_e2e::command::shell(&shell);
    let tar = std::fs::File::open(daemon.scratch().join("change.tar")).expect("tar");
    let status = Command::new("docker")
        .args(["cp", "-", "created:/"])
        .env(
            "DOCKER_HOST",
            format!("unix://{}", daemon.socket().display()),
        )
        .stdin(Stdio::from(tar))
        .status()
        .expect("docker");
    assert!(status.success());
    [
        ("/home/new", ('A', vec![])),
        ("/usr/bin/tool", ('C', vec!["content"])),
    ]
    .map(|(path, what)| (path.to_owned(), what))
    .into()
}

#[test]
fn overlay2() {
    states(
        Some("docker-overlay2"),
        Driver::Overlay2,
        EngineKind::Overlay,
    );
}

#[test]
fn overlay2_on_xfs() {
    states(None, Driver::Overlay2OnXfs, EngineKind::Overlay);
}

#[test]
fn btrfs() {
    states(Some("docker-btrfs"), Driver::Btrfs, EngineKind::Btrfs);
}

#[test]
fn vfs() {
    states(Some("docker-vfs"), Driver::Vfs, EngineKind::Digest);
}

/// Between two runs, and with its removal begun and not ended.
fn states_in_between(place: &str, driver: Driver, engine: EngineKind) {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.btrfs",
        "chattr"
    );
    let daemon = Dockerd::start(driver);
    daemon.import("image", small_rootfs().path());
    // The first run edits, and each ends in failure: the daemon waits longer every time.
    let script = format!("test -e /home/new || {{ {EDITS} }}; exit 1");
    daemon.run(
        "restarting",
        &["--restart=always"],
        "image",
        &["sh", "-euc", &script],
    );
    let edited = edited();
    let start = std::time::Instant::now();
    loop {
        let measurement = inspect_one_as_it_is(daemon.live(), "restarting");
        if measurement.container.state == State::Restarting {
            assert_eq!(measurement.engine, Some(engine));
            assert_eq!(measurement.container.pid, None);
            if measurement.gaps.is_empty() && not_of_runtime(&measurement) == edited {
                matrix::told_in(place, State::Restarting, Access::Live);
                break;
            }
        }
        assert!(
            start.elapsed() < std::time::Duration::from_secs(60),
            "{measurement:?}"
        );
    }
    daemon.docker(&["rm", "--force", "restarting"]);

    daemon.run("leaving", &[], "image", &["sleep", "1000"]);
    daemon.exec("leaving", EDITS);
    let id = daemon.id("leaving");
    let layer = daemon.layer(&id, "");
    // A file that cannot be removed stops the removal halfway, and so does being the default subvolume.
    let keep = |kept: bool| match driver {
        Driver::Btrfs => {
            let top = daemon.data_root().parent().expect("mount point").to_owned();
            let default = if kept { &layer } else { &top };
            plimsoll_e2e::command::run(
                "btrfs",
                &["subvolume", "set-default", &default.display().to_string()],
            )
        }
        _ => {
            let file = layer.join("home/new/file").display().to_string();
            plimsoll_e2e::command::run("chattr", &[if kept { "+i" } else { "-i" }, &file])
        }
    };
    keep(true);
    let removed = daemon.try_docker(&["rm", "--force", "leaving"]);
    assert!(!removed.status.success());
    for sources in [daemon.live(), daemon.disk()] {
        // Its name is free again; what is left of it is told, and is never called intact.
        let (found, _) = inspect(sources, &[]).expect("inspect");
        let left: Vec<_> = found
            .iter()
            .filter(|one| one.container.id.as_str() == id)
            .collect();
        assert_eq!(left.len(), 1, "{removed:?}");
        let state = left[0].container.state;
        // The daemon gave it up, and left the record as it was.
        assert!(matches!(state, State::Dead | State::Removing), "{state:?}");
        assert!(!left[0].gaps.is_empty());
    }
    keep(false);
    daemon.docker(&["rm", "--force", &id]);
    let (found, gaps) = inspect(daemon.live(), &[]).expect("inspect");
    assert_eq!((found.len(), gaps), (0, Vec::new()));
}

/// Looks at one container, which may change its state meanwhile.
fn inspect_one_as_it_is(sources: Sources, name: &str) -> plimsoll_core::model::Measurement {
    let (mut found, _) = inspect(sources, &[name]).expect("inspect");
    found.pop().expect("one container")
}

#[test]
fn restarting_and_half_removed_on_overlay2() {
    states_in_between("docker-overlay2", Driver::Overlay2, EngineKind::Overlay);
}

#[test]
fn restarting_and_half_removed_on_btrfs() {
    states_in_between("docker-btrfs", Driver::Btrfs, EngineKind::Btrfs);
}

/// The reason to be: an edit that `docker diff` does not show.
fn headline(driver: Driver) {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.btrfs"
    );
    let daemon = Dockerd::start(driver);
    daemon.import("image", small_rootfs().path());
    daemon.run("web", &["--tmpfs", "/ref"], "image", &["sleep", "1000"]);
    let check = || {
        program::command()
            .arg("check")
            .arg("--docker-host")
            .arg(daemon.socket())
            .arg("web")
            .output()
            .expect("plimsoll")
    };
    let before = check();
    assert_eq!(before.status.code(), Some(0), "{before:?}");
    let already = daemon.docker(&["diff", "web"]);
    daemon.exec(
        "web",
        "touch -r /etc/passwd /ref/time
         sed s/^games:x:5:60:/games:x:0:00:/ /etc/passwd > /ref/new
         cat /ref/new > /etc/passwd
         touch -r /ref/time /etc/passwd",
    );
    let passwd = daemon.exec("web", "cat /etc/passwd");
    assert!(passwd.contains("games:x:0:00:"), "{passwd}");
    assert_eq!(
        daemon.docker(&["diff", "web"]),
        already,
        "docker diff got better"
    );
    let after = check();
    let told = String::from_utf8_lossy(&after.stdout);
    assert_eq!(after.status.code(), Some(1), "{after:?}");
    assert!(
        told.lines()
            .any(|l| l.trim_start().starts_with("C  /etc/passwd") && l.contains("content")),
        "{told}"
    );
}

#[test]
fn what_docker_diff_does_not_show_on_overlay2() {
    headline(Driver::Overlay2);
}

#[test]
fn what_docker_diff_does_not_show_on_btrfs() {
    headline(Driver::Btrfs);
}

/// The harness takes everything down, also what a killed daemon and a paused container leave.
#[test]
fn nothing_is_left_behind() {
    require!("dockerd", "containerd", "docker", "busybox", "setpriv");
    let mut daemon = Dockerd::start(Driver::Overlay2);
    daemon.import("image", small_rootfs().path());
    let pids = ["paused", "running"].map(|name| {
        daemon.run(name, &[], "image", &["sleep", "1000"]);
        daemon.docker(&["inspect", "-f", "{{.State.Pid}}", name])
    });
    daemon.docker(&["pause", "paused"]);
    daemon.kill();
    let root = daemon.data_root().display().to_string();
    let socket = daemon.socket();
    drop(daemon);
    for pid in pids {
        let exe = format!("/proc/{pid}/exe");
        assert!(Path::new(&exe).read_link().is_err(), "{pid} still runs");
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(
        !mounts.contains(root.trim_end_matches("/docker")),
        "{mounts}"
    );
    assert!(!socket.exists());
}
