//! Each state of a container of Podman, with each storage driver: the same edits, the same exact
//! changes, on this machine and on the disk of another.

use plimsoll_core::model::{
    EngineKind, Measurement, MountOrigin, RuntimeKind, RuntimePathKind, State,
};
use plimsoll_e2e::brute::{self, Differences};
use plimsoll_e2e::command::shell;
use plimsoll_e2e::edits::{EDITS, edited};
use plimsoll_e2e::look::{inspect_of, not_of_runtime};
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::matrix::{self, Access};
use plimsoll_e2e::podman::{FUSE_OVERLAYFS, Podman, inspect};
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_e2e::{program, require};
use plimsoll_host::inspect::{Options, Sources};

const SLEEP: [&str; 3] = ["/bin/busybox", "sleep", "1000"];

/// Makes an image of two layers, with a working directory that it does not have.
fn image(podman: &Podman) {
    podman.import("base", small_rootfs().path());
    podman.podman(&[
        "run",
        "--name=second",
        "--network=none",
        "base",
        "/bin/touch",
        "/etc/second",
    ]);
    podman.podman(&[
        "commit",
        "--quiet",
        "--change=WORKDIR /srv/app",
        "second",
        "image",
    ]);
    podman.podman(&["rm", "second"]);
}

/// Starts a container with some of everything that Podman mounts.
fn run(podman: &Podman, name: &str, options: &[&str]) {
    let first = [
        "run",
        "--detach",
        "--network=none",
        "--name",
        name,
        "--tmpfs=/scratch",
    ];
    let volume = ["--volume=/data/inner", "image"];
    podman.podman(&[&first[..], options, &volume, &SLEEP].concat());
}

/// Looks at one container, of which everything must be seen.
fn look(sources: Sources, name: &str, engine: EngineKind) -> Measurement {
    // Of whole trees only what is in them can be compared, and it must be asked for.
    let options = Options {
        engine: (engine == EngineKind::Digest).then_some(engine),
        ..Options::default()
    };
    let (mut found, gaps) =
        inspect_of(RuntimeKind::Podman, sources, &[name], options).expect("inspect");
    let measurement = found.pop().expect("one container");
    assert_eq!((gaps, &*measurement.gaps), (vec![], &[][..]), "{name}");
    measurement
}

fn expect(sources: Sources, name: &str, state: State, engine: EngineKind, edits: &Differences) {
    let measurement = look(sources, name, engine);
    let container = &measurement.container;
    assert_eq!(container.state, state, "{name}");
    assert_eq!(measurement.engine, Some(engine), "{name}");
    assert_eq!(not_of_runtime(&measurement), *edits, "{name}, {state:?}");
    assert_eq!(measurement.gaps, [], "{name}, {state:?}");
    assert_eq!(container.pid.is_some(), container.is_live(), "{name}");
    let image = &container.image;
    assert_eq!(image.layers.len(), 2, "{name}");
    assert!(image.id.is_some() && image.manifest.is_some(), "{image:?}");
    let reference = image.reference.as_ref().map(ToString::to_string);
    assert_eq!(reference.as_deref(), Some("localhost/image:latest"));
    let foreign = |measurement: &Measurement| {
        let mut mounts = measurement.mounts.iter();
        mounts
            .find(|mount| mount.origin == MountOrigin::Foreign)
            .cloned()
    };
    assert_eq!(foreign(&measurement), None, "{name}");
    assert_eq!(measurement.code, [], "{name}");
    if container.is_live() {
        assert!(measurement.mounts.len() > 10, "{:?}", measurement.mounts);
    }
    for change in &measurement.changes {
        if matches!(engine, EngineKind::Overlay) && change.before().is_some() {
            assert!(change.origin.is_some(), "{}", change.path);
        }
    }
}

fn states(place: &str, podman: &Podman, engine: EngineKind) {
    let version = podman.podman(&["version", "--format", "{{.Client.Version}}"]);
    matrix::version(&format!("Podman {version}"));
    image(podman);
    let mapped = ["--uidmap=0:100000:65536", "--gidmap=0:200000:65536"];
    // Debian's fuse-overlayfs (1.10) gives what it copies up other owners than it maps: a container with
    // ids of its own does not start.
    let is_fuse = place == "podman-fuse";
    let mapped: &[&str] = if is_fuse { &[] } else { &mapped };
    for (name, options) in [
        ("running", &[][..]),
        ("paused", &[]),
        ("exited", &[]),
        ("transient", &["--rm"]),
        ("mapped", mapped),
    ] {
        run(podman, name, options);
        podman.exec(name, EDITS);
    }
    podman.podman(&["pause", "paused"]);
    podman.podman(&["stop", "--time=0", "exited"]);
    podman.podman(&["create", "--name=created", "--network=none", "image"]);
    run(podman, "untouched", &[]);
    let created = change_before_start(podman);

    let (edited, none) = (edited(), Differences::new());
    let cases = [
        ("created", State::Created, &created),
        ("exited", State::Exited, &edited),
        ("mapped", State::Running, &edited),
        ("paused", State::Paused, &edited),
        ("running", State::Running, &edited),
        ("transient", State::Running, &edited),
        ("untouched", State::Running, &none),
    ];
    for (name, state, edits) in cases {
        expect(podman.live(), name, state, engine, edits);
        // Of a disk nothing runs.
        let at_rest = match state {
            State::Created => State::Created,
            _ => State::Exited,
        };
        expect(podman.disk(), name, at_rest, engine, edits);
        matrix::told_in(place, state, Access::Live);
        matrix::told_in(place, state, Access::Offline);
    }
    // All at once, sorted by name; by the beginning of an id; by another runtime.
    let (all, gaps) = inspect(podman.live(), &[]).expect("inspect");
    let names: Vec<_> = all.iter().map(|m| m.container.display_name()).collect();
    assert_eq!(names, cases.map(|(name, _, _)| name));
    assert_eq!(gaps, []);
    let id = podman.podman(&["inspect", "--format={{.ID}}", "running"]);
    let measurement = look(podman.live(), &id[..20], engine);
    assert_eq!(measurement.container.name.as_deref(), Some("running"));
    let options = Options::default;
    let told = inspect_of(RuntimeKind::CriO, podman.live(), &["running"], options()).unwrap_err();
    assert!(told.starts_with("no container \"running\""), "{told}");

    // The working directory is of the machine's root where the container has ids of its own.
    let is_mapped = !mapped.is_empty();
    let mapped = look(podman.live(), "mapped", engine);
    let of_root = |kind: &RuntimePathKind| {
        matches!(
            kind,
            RuntimePathKind::OwnedBy {
                uid: 100_000,
                gid: 200_000,
                ..
            }
        )
    };
    let mut made = mapped.container.runtime_paths.iter();
    assert_eq!(made.any(|path| of_root(&path.kind)), is_mapped);

    // Podman's own record says that it runs; the process table knows better.
    let running = look(podman.live(), "running", engine);
    let pid = running.container.pid.expect("its pid");
    let conmon = podman.podman(&["inspect", "--format={{.State.ConmonPid}}", "running"]);
    for pid in [conmon, pid.to_string()] {
        let pid = rustix::process::Pid::from_raw(pid.parse().expect("number")).expect("pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
    }
    let ended = |stat: &str| stat.contains(") Z ") || stat.contains(") X ");
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !ended(&stat)) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    expect(podman.live(), "running", State::Exited, engine, &edited);
    podman.podman(&["rm", "--force", "--time=0", "exited"]);
    let told = inspect(podman.live(), &["exited"]).unwrap_err();
    assert!(told.starts_with("no container \"exited\""), "{told}");
}

/// Changes a container that was never started, as `podman cp` can.
fn change_before_start(podman: &Podman) -> Differences {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "new\n").expect("file");
    podman.podman(&["cp", &file.display().to_string(), "created:/home/file"]);
    [("/home/file".to_owned(), ('A', vec![]))].into()
}

#[test]
fn overlay() {
    require!("podman", "runc", "conmon", "busybox", "mkfs.ext4");
    let podman = Podman::with(Kind::Ext4, 2048, "");
    states("podman-overlay", &podman, EngineKind::Overlay);
}

#[test]
fn fuse_overlayfs() {
    require!(
        "podman",
        "runc",
        "conmon",
        "busybox",
        "fuse-overlayfs",
        "mkfs.ext4"
    );
    states("podman-fuse", &Podman::fuse(), EngineKind::Overlay);
}

#[test]
fn btrfs() {
    require!("podman", "runc", "conmon", "busybox", "mkfs.btrfs");
    let podman = Podman::with(Kind::Btrfs, 2048, "");
    states("podman-btrfs", &podman, EngineKind::Btrfs);
}

#[test]
fn vfs() {
    require!("podman", "runc", "conmon", "busybox", "mkfs.ext4");
    states("podman-vfs", &Podman::vfs(), EngineKind::Digest);
}

/// The program itself, which leaves nothing behind: no access time where they are kept strictly, no
/// mount.
fn leaves_nothing(make: fn() -> Podman) {
    require!(
        "fuse-overlayfs",
        "podman",
        "runc",
        "conmon",
        "busybox",
        "mkfs.ext4",
        "mkfs.btrfs"
    );
    let podman = make();
    image(&podman);
    for name in ["running", "exited"] {
        run(&podman, name, &[]);
        podman.exec(name, EDITS);
    }
    podman.podman(&["stop", "--time=0", "exited"]);
    podman.settle();
    let root = podman.graph_root();
    shell(&format!("sync -f {}", root.display()));
    let mounts = || {
        let text = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let own = |line: &&str| line.contains(&root.display().to_string());
        text.lines()
            .filter(own)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = (brute::trace_of_one(&root), mounts());
    for (target, code) in [
        ("podman:running", 1),
        ("podman:exited", 1),
        ("cri-o:exited", 2),
    ] {
        let mut check = program::command();
        check.args(["check", target, "--data-root"]).arg(&root);
        let output = check.output().expect("plimsoll");
        assert_eq!(output.status.code(), Some(code), "{target}: {output:?}");
        assert!((brute::trace_of_one(&root), mounts()) == before, "{target}");
    }
}

#[test]
fn leaves_nothing_overlay() {
    leaves_nothing(|| Podman::with(Kind::Ext4, 2048, ",strictatime"));
}

#[test]
fn leaves_nothing_fuse_overlayfs() {
    leaves_nothing(|| {
        let podman = Podman::with(Kind::Ext4, 2048, ",strictatime");
        podman.mount_by(FUSE_OVERLAYFS);
        podman
    });
}

#[test]
fn leaves_nothing_btrfs() {
    leaves_nothing(|| Podman::with(Kind::Btrfs, 2048, ",strictatime"));
}
