//! Each state of a container of containerd, with each snapshotter: the same edits, the same exact
//! changes, with the daemon alive and dead and from the disk alone.

use plimsoll_core::model::{EngineKind, State};
use plimsoll_e2e::brute::Differences;
use plimsoll_e2e::containerd::{Containerd, inspect, inspect_one};
use plimsoll_e2e::edits::{self, EDITS};
use plimsoll_e2e::look::not_of_runtime;
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::matrix::{self, Access};
use plimsoll_e2e::next;
use plimsoll_e2e::oci::{Archive, Image};
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_e2e::{program, require};
use plimsoll_host::inspect::{Options, Sources};

const IMAGE: &str = "example.org/image:1";

/// What a process in the container does, in the second layer too.
fn edits() -> String {
    format!("{EDITS}echo changed > /etc/second\n")
}

fn edited() -> Differences {
    let mut edited = edits::edited();
    edited.insert("/etc/second".to_owned(), ('C', vec!["content"]));
    edited
}

/// An image of two layers, the second of which changes and removes something of the first.
fn image() -> Archive {
    let base = small_rootfs();
    std::fs::write(base.path().join("etc/removed"), "removed").expect("file");
    let second = tempfile::tempdir().expect("temporary directory");
    plimsoll_e2e::command::shell(&format!(
        "cd '{}'; umask 022; chmod 755 .; mkdir etc; echo second > etc/second; touch etc/.wh.removed
         find . -exec touch -h -d '2020-01-02 03:04:05.678901' {{}} +",
        second.path().display()
    ));
    Image::new()
        .layer(base.path())
        .layer(second.path())
        .archive(IMAGE)
}

struct Case<'a> {
    name: &'a str,
    state: State,
    edits: &'a Differences,
}

/// Of whole trees only what is in them can be compared, and it must be asked for.
fn options(engine: EngineKind) -> Options {
    Options {
        engine: (engine == EngineKind::Digest).then_some(engine),
        ..Options::default()
    }
}

/// Looks at a container in one way; `offline` tells that no process can be seen.
fn expect(sources: Sources, target: &str, engine: EngineKind, case: &Case<'_>, offline: bool) {
    let measurement = inspect_one(sources, target, options(engine));
    let container = &measurement.container;
    let running = matches!(case.state, State::Running | State::Paused);
    let state = match running && offline {
        true => State::Exited,
        false => case.state,
    };
    assert_eq!(container.state, state, "{target}");
    assert_eq!(measurement.engine, Some(engine), "{target}");
    assert_eq!(
        not_of_runtime(&measurement),
        *case.edits,
        "{target}, {:?}",
        case.state
    );
    assert_eq!(container.pid.is_some(), running && !offline, "{target}");
}

fn states(
    place: Option<&str>,
    start: fn(Kind) -> Containerd,
    kind: Kind,
    snapshotter: &str,
    engine: EngineKind,
) {
    require!(
        "containerd",
        "ctr",
        "runc",
        "busybox",
        "setpriv",
        "mkfs.ext4",
        "mkfs.btrfs"
    );
    let mut daemon = start(kind);
    let version = daemon.ctr("a", &["version"]);
    let version = version.lines().rev().find(|line| line.contains("Version:"));
    let version = version.and_then(|line| line.split_whitespace().last());
    matrix::version(&format!("containerd {}", version.expect("a version")));
    let archive = image();
    daemon.import("a", snapshotter, &archive);
    for name in [
        "created",
        "running",
        "paused",
        "stopped",
        "ended",
        "untouched",
    ] {
        daemon.create(
            "a",
            snapshotter,
            &["--label", "nerdctl/name=x"],
            IMAGE,
            name,
        );
    }
    for name in ["running", "paused", "stopped", "ended"] {
        daemon.start_task("a", name);
        daemon.exec("a", name, &edits());
    }
    daemon.start_task("a", "untouched");
    daemon.ctr("a", &["tasks", "pause", "paused"]);
    daemon.stop_task("a", "stopped");
    daemon.ctr("a", &["tasks", "kill", "--signal", "KILL", "ended"]);
    while !daemon
        .try_ctr(&[
            "--namespace",
            &daemon.namespace("a"),
            "tasks",
            "delete",
            "ended",
        ])
        .status
        .success()
    {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }

    let (edited, none) = (edited(), Differences::new());
    let case = |name, state, edits| Case { name, state, edits };
    let mut cases = [
        case("created", State::Created, &none),
        case("running", State::Running, &edited),
        case("paused", State::Paused, &edited),
        case("stopped", State::Exited, &edited),
        // Without a task containerd has nothing by which it could be known that there was one.
        case("ended", State::Created, &edited),
        case("untouched", State::Running, &none),
    ];
    let every_way = |daemon: &Containerd, access: Access, cases: &[Case<'_>]| {
        for case in cases {
            let target = format!("{}/{}", daemon.namespace("a"), case.name);
            expect(daemon.here(), &target, engine, case, false);
            expect(daemon.disk(), case.name, engine, case, true);
            if let Some(place) = place {
                matrix::told_in(place, case.state, access);
                matrix::told_in(place, case.state, Access::Offline);
            }
        }
    };
    every_way(&daemon, Access::Live, &cases);
    let measurement = inspect_one(daemon.here(), "running", options(engine));
    let container = &measurement.container;
    assert_eq!(container.name.as_deref(), Some("x"));
    assert_eq!(container.namespace, Some(daemon.namespace("a")));
    assert_eq!(container.image.reference, Some(IMAGE.into()));
    let digest = |digest: &String| digest.parse().expect("digest");
    assert_eq!(
        container.image.id.map(|id| id.to_string()),
        Some(archive.config.clone())
    );
    assert_eq!(container.image.manifest, Some(digest(&archive.manifest)));
    let layers: Vec<String> = container
        .image
        .layers
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(layers, archive.diff_ids);
    if engine == EngineKind::Overlay {
        let origin = |path: &str| {
            let change = measurement
                .changes
                .iter()
                .find(|c| c.path.to_string() == path);
            change
                .and_then(|change| change.origin.clone())
                .map(|origin| origin.to_string())
        };
        assert_eq!(origin("/etc/passwd").as_ref(), archive.diff_ids.first());
        assert_eq!(origin("/etc/second").as_ref(), archive.diff_ids.get(1));
    }
    for option in [
        Options {
            atomic: true,
            ..options(engine)
        },
        Options {
            engine: Some(EngineKind::Digest),
            ..Options::default()
        },
    ] {
        let measurement = inspect_one(daemon.here(), "running", option);
        assert_eq!(not_of_runtime(&measurement), edited);
    }

    daemon.kill();
    every_way(&daemon, Access::Dead, &cases);
    daemon.start_again();
    // A newer one deletes tasks that ended while it was away: then there is none, as of the one before.
    let tasks = daemon.ctr("a", &["tasks", "list", "--quiet"]);
    if !tasks.lines().any(|task| task == "stopped") {
        cases[3].state = State::Created;
    }
    every_way(&daemon, Access::Live, &cases);
}

#[test]
fn overlayfs() {
    states(
        Some("containerd-overlayfs"),
        Containerd::start,
        Kind::Ext4,
        "overlayfs",
        EngineKind::Overlay,
    );
}

#[test]
fn overlayfs_on_btrfs() {
    states(
        None,
        Containerd::start,
        Kind::Btrfs,
        "overlayfs",
        EngineKind::Overlay,
    );
}

#[test]
fn btrfs() {
    states(
        Some("containerd-btrfs"),
        Containerd::start,
        Kind::Btrfs,
        "btrfs",
        EngineKind::Btrfs,
    );
}

#[test]
fn native() {
    states(
        Some("containerd-native"),
        Containerd::start,
        Kind::Ext4,
        "native",
        EngineKind::Digest,
    );
}

/// The same with a newer containerd.
#[test]
fn overlayfs_next() {
    if let Some(why) = next::missing() {
        eprintln!("SKIPPED {}: {why}", module_path!());
        return;
    }
    states(
        None,
        Containerd::start_next,
        Kind::Ext4,
        "overlayfs",
        EngineKind::Overlay,
    );
}

/// Two namespaces with a container of the same id, and a snapshotter that keeps no metadata.
#[test]
fn namespaces_and_other_snapshotters() {
    require!(
        "containerd",
        "ctr",
        "runc",
        "busybox",
        "setpriv",
        "mkfs.ext4"
    );
    let daemon = Containerd::start(Kind::Ext4);
    let archive = image();
    for namespace in ["a", "b"] {
        daemon.import(namespace, "overlayfs", &archive);
        daemon.create(namespace, "overlayfs", &[], IMAGE, "same");
        daemon.start_task(namespace, "same");
    }
    daemon.exec("b", "same", "echo b > /home/b");
    daemon.ctr(
        "a",
        &[
            "images",
            "import",
            "--snapshotter",
            "native",
            &archive.path.display().to_string(),
        ],
    );
    daemon.create("a", "native", &[], IMAGE, "copies");
    daemon.start_task("a", "copies");
    daemon.exec("a", "copies", &edits());

    let told = inspect(daemon.here(), &["same"], Options::default()).unwrap_err();
    assert!(told.contains("ambiguous"), "{told}");
    for (namespace, changes) in [("a", 0), ("b", 1)] {
        let target = format!("{}/same", daemon.namespace(namespace));
        let measurement = inspect_one(daemon.here(), &target, Options::default());
        assert_eq!(not_of_runtime(&measurement).len(), changes, "{target}");
        assert_eq!(
            measurement.container.pid,
            u32::try_from(daemon.pid(namespace, "same")).ok()
        );
    }
    let (found, gaps) = inspect(daemon.here(), &[], Options::default()).expect("inspect");
    let names: Vec<_> = found.iter().map(|m| m.container.id.as_str()).collect();
    assert_eq!(names, ["copies", "same", "same"]);
    assert_eq!(gaps, []);

    let told = inspect(daemon.here(), &["copies"], Options::default())
        .expect("inspect")
        .0;
    let why: Vec<_> = told[0].gaps.iter().map(|gap| gap.why.as_str()).collect();
    assert!(
        why.iter()
            .any(|why| why.contains("\"native\"") && why.contains("--engine digest")),
        "{why:?}"
    );
    let digest = Options {
        engine: Some(EngineKind::Digest),
        ..Options::default()
    };
    let measurement = inspect_one(daemon.here(), "copies", digest);
    assert_eq!(not_of_runtime(&measurement), edited());

    let output = program::command()
        .args(["diff", "--format", "docker", "--data-root"])
        .arg(daemon.root())
        .arg(format!("containerd:{}/same", daemon.namespace("b")))
        .output()
        .expect("plimsoll");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("A /home/b"),
        "{output:?}"
    );
}

/// What the image is cannot be proved when its blobs are gone: its layers still are there.
#[test]
fn images_that_moved_or_went() {
    require!(
        "containerd",
        "ctr",
        "runc",
        "busybox",
        "setpriv",
        "mkfs.ext4"
    );
    let daemon = Containerd::start(Kind::Ext4);
    let archive = image();
    daemon.import("a", "overlayfs", &archive);
    daemon.create("a", "overlayfs", &[], IMAGE, "web");
    daemon.start_task("a", "web");
    daemon.exec("a", "web", "echo x > /home/x");
    // The name stands for another image now: the one of the container is found by its layers, since
    // another name keeps it from being collected.
    daemon.ctr("a", &["images", "tag", IMAGE, "example.org/kept:1"]);
    let other = Image::new().layer(small_rootfs().path()).archive(IMAGE);
    daemon.import("a", "overlayfs", &other);
    let measurement = inspect_one(daemon.here(), "web", Options::default());
    let id = measurement.container.image.id.map(|id| id.to_string());
    assert_eq!(id, Some(archive.config.clone()));
    assert_eq!(not_of_runtime(&measurement).len(), 1);

    let blob = |digest: &str| {
        let hex = digest.strip_prefix("sha256:").expect("digest");
        daemon
            .root()
            .join("io.containerd.content.v1.content/blobs/sha256")
            .join(hex)
    };
    let config = blob(&archive.config);
    let good = std::fs::read(&config).expect("configuration");
    let bad = String::from_utf8_lossy(&good).replace("/srv/app", "/srv/bad");
    for (content, why) in [
        (Some(bad), "was altered"),
        (None, "is not in the content store"),
    ] {
        std::fs::remove_file(&config).expect("blob");
        if let Some(content) = content {
            std::fs::write(&config, content).expect("blob");
        }
        let (found, _) = inspect(daemon.here(), &["web"], Options::default()).expect("inspect");
        assert_eq!(not_of_runtime(&found[0]).len(), 1);
        assert_eq!(found[0].container.image.id, None);
        let gaps: Vec<_> = found[0].gaps.iter().map(|gap| gap.why.as_str()).collect();
        assert!(gaps.len() == 1 && gaps[0].contains(why), "{gaps:?}");
    }
}

/// Databases that are cut short, broken or no databases: a sentence or a gap, and never "intact".
#[test]
fn damaged_databases() {
    require!(
        "containerd",
        "ctr",
        "runc",
        "busybox",
        "setpriv",
        "mkfs.ext4"
    );
    let mut daemon = Containerd::start(Kind::Ext4);
    daemon.import("a", "overlayfs", &image());
    daemon.create("a", "overlayfs", &[], IMAGE, "web");
    daemon.kill();
    let look = |daemon: &Containerd| -> Result<bool, String> {
        let (found, gaps) = inspect(daemon.disk(), &["web"], Options::default())?;
        let unseen = found
            .iter()
            .any(|m| m.engine.is_none() && !m.gaps.is_empty());
        assert!(unseen || gaps.is_empty());
        Ok(unseen)
    };
    assert_eq!(look(&daemon), Ok(false));
    let root = daemon.root();
    for file in [
        "io.containerd.metadata.v1.bolt/meta.db",
        "io.containerd.snapshotter.v1.overlayfs/metadata.db",
    ] {
        let path = root.join(file);
        let good = std::fs::read(&path).expect("database");
        let is_seen = |content: &[u8]| {
            std::fs::write(&path, content).expect("database");
            look(&daemon).unwrap_or(true)
        };
        for length in [0, 100, 4096, 8192, 3 * 4096 + 17] {
            assert!(is_seen(&good[..length]), "{file}: {length}");
        }
        assert!(is_seen(&vec![0xa5; good.len()]), "{file}");
        // Both meta pages, and no page of a tree.
        let mut torn = good.clone();
        torn[24] ^= 1;
        torn[4096 + 24] ^= 1;
        assert!(is_seen(&torn), "{file}");
        let mut wiped = good.clone();
        wiped[2 * 4096..].fill(0);
        assert!(is_seen(&wiped), "{file}");
        std::fs::remove_file(&path).expect("database");
        assert!(look(&daemon).unwrap_or(true), "{file}");
        std::os::unix::fs::symlink("/etc/passwd", &path).expect("link");
        assert!(look(&daemon).unwrap_or(true), "{file}");
        std::fs::remove_file(&path).expect("link");
        assert!(!is_seen(&good), "{file}");
    }
}

/// What somebody puts between image and container is no part of the image; the copy of an image that
/// containerd makes for a user namespace is.
#[test]
fn what_lies_between() {
    require!(
        "containerd",
        "ctr",
        "runc",
        "busybox",
        "setpriv",
        "mkfs.ext4"
    );
    let daemon = Containerd::start(Kind::Ext4);
    daemon.import("a", "overlayfs", &image());
    for name in ["first", "second"] {
        daemon.create("a", "overlayfs", &[], IMAGE, name);
    }
    daemon.start_task("a", "first");
    daemon.exec("a", "first", &edits());
    daemon.stop_task("a", "first");
    daemon.ctr("a", &["tasks", "delete", "first"]);
    daemon.ctr("a", &["snapshots", "commit", "hidden", "first"]);
    daemon.ctr("a", &["snapshots", "remove", "second"]);
    daemon.ctr("a", &["snapshots", "prepare", "second", "hidden"]);
    let measurement = inspect_one(daemon.here(), "second", Options::default());
    assert!(measurement.container.image.id.is_some());
    assert_eq!(not_of_runtime(&measurement), edited());
    // The snapshot of the first one went with being committed.
    let (found, _) = inspect(daemon.here(), &["first"], Options::default()).expect("inspect");
    assert_eq!(found[0].engine, None);
    assert!(
        found[0].gaps.iter().any(|gap| gap.why.contains("missing")),
        "{:?}",
        found[0].gaps
    );

    user_namespace(&daemon);
}

/// A newer containerd calls the copy of an image for a user namespace otherwise.
#[test]
fn user_namespaces_next() {
    require!("runc", "busybox", "setpriv", "mkfs.ext4");
    if let Some(why) = next::missing() {
        eprintln!("SKIPPED {}: {why}", module_path!());
        return;
    }
    let daemon = Containerd::start_next(Kind::Ext4);
    daemon.import("a", "overlayfs", &image());
    user_namespace(&daemon);
}

fn user_namespace(daemon: &Containerd) {
    let maps = ["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"];
    let waits = ["/bin/busybox", "sleep", "100000"];
    let first = ["run", "--detach", "--null-io", "--snapshotter", "overlayfs"];
    daemon.ctr(
        "a",
        &[&first[..], &maps, &[IMAGE, "mapped"], &waits].concat(),
    );
    let measurement = inspect_one(daemon.here(), "mapped", Options::default());
    assert!(measurement.container.image.id.is_some());
    // What runc made for mounts belongs to the users of the container, and nothing else is new.
    let made = ["/dev", "/proc", "/run", "/srv", "/srv/app", "/sys"];
    for change in &measurement.changes {
        assert!(
            made.contains(&change.path.to_string().as_str()),
            "{change:?}"
        );
    }
    daemon.exec("a", "mapped", "echo x > /home/x");
    let measurement = inspect_one(daemon.here(), "mapped", Options::default());
    assert!(
        measurement
            .changes
            .iter()
            .any(|change| change.path.to_string() == "/home/x")
    );
}
