//! Docker with the containerd image store: the same edits, the same exact changes, in each state.

use plimsoll_core::model::{EngineKind, RuntimeKind, State};
use plimsoll_e2e::brute::Differences;
use plimsoll_e2e::containerd;
use plimsoll_e2e::disk::Disk;
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::look::{inspect, inspect_with, not_of_runtime};
use plimsoll_e2e::matrix::{self, Access};
use plimsoll_e2e::next;
use plimsoll_e2e::require;
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_host::inspect::{Options, Sources};

const EDITS: &str = r"
    touch -r /usr/bin/tool /tmp/ref
    printf changed! | dd of=/usr/bin/tool bs=1 seek=100 conv=notrunc 2>/dev/null
    touch -r /tmp/ref /usr/bin/tool
    rm /tmp/ref
    rm /usr/lib/lib.so
    echo changed > /etc/second
";

fn edited() -> Differences {
    [
        ("/etc/second", ('C', vec!["content"])),
        ("/usr/bin/tool", ('C', vec!["content"])),
        ("/usr/lib/lib.so", ('D', vec![])),
    ]
    .map(|(path, what)| (path.to_owned(), what))
    .into()
}

fn states(place: &str, driver: Driver, engine: EngineKind) {
    require!(
        "docker",
        "runc",
        "busybox",
        "setpriv",
        "mkfs.ext4",
        "mkfs.btrfs"
    );
    if let Some(why) = next::missing() {
        eprintln!("SKIPPED {}: {why}", module_path!());
        return;
    }
    let mut daemon = Dockerd::start(driver);
    let version = daemon.docker(&["version", "--format", "{{.Server.Version}}"]);
    matrix::version(&format!("Docker {version}"));
    daemon.import("base", small_rootfs().path());
    daemon.build(
        "image",
        "FROM base\nRUN echo second > /etc/second\nWORKDIR /srv/app",
    );
    let sleep = ["sleep", "100000"];
    for name in ["running", "paused", "exited"] {
        daemon.run(name, &["-v", "/scratch:/data"], "image", &sleep);
        daemon.exec(name, EDITS);
    }
    daemon.docker(&["pause", "paused"]);
    daemon.docker(&["stop", "--time=0", "exited"]);
    daemon.create("created", &[], "image", &sleep);
    let (edited, none) = (edited(), Differences::new());
    let cases = [
        ("created", State::Created, &none),
        ("running", State::Running, &edited),
        ("paused", State::Paused, &edited),
        ("exited", State::Exited, &edited),
    ];
    // Of snapshots of Btrfs that lie on each other, only whole trees can be compared.
    let options = || Options {
        engine: (engine == EngineKind::Digest).then_some(engine),
        ..Options::default()
    };
    let look = |sources: Sources, access: Option<Access>| {
        let is_offline = sources.root.is_some();
        for (name, state, edits) in cases {
            let (found, gaps) = inspect_with(sources.clone(), &[name], options()).expect("inspect");
            assert_eq!(gaps, [], "{name}");
            let measurement = &found[0];
            assert_eq!(measurement.gaps, [], "{name}");
            let now = match state {
                State::Running | State::Paused if is_offline => State::Exited,
                state => state,
            };
            assert_eq!(measurement.container.state, now, "{name}");
            assert_eq!(measurement.engine, Some(engine), "{name}");
            assert_eq!(measurement.container.runtime, RuntimeKind::Docker);
            assert_eq!(not_of_runtime(measurement), *edits, "{name}");
            assert_eq!(measurement.container.image.layers.len(), 3, "{name}");
            assert!(measurement.container.image.id.is_some(), "{name}");
            assert!(measurement.container.image.manifest.is_some(), "{name}");
            if let Some(access) = access {
                matrix::told_in(place, state, access);
            }
        }
    };
    look(daemon.live(), Some(Access::Live));
    look(daemon.disk(), None);
    if engine != EngineKind::Digest {
        let (found, _) = inspect(daemon.disk(), &["running"]).expect("inspect");
        let origin = |path: &str| {
            let change = found[0].changes.iter().find(|c| c.path.to_string() == path);
            change.and_then(|change| change.origin.as_deref().copied())
        };
        let layers = &found[0].container.image.layers;
        assert_eq!(origin("/usr/bin/tool").as_ref(), layers.first());
        assert_eq!(origin("/etc/second").as_ref(), layers.get(1));
    } else {
        let (found, _) = inspect(daemon.disk(), &["running"]).expect("inspect");
        let told: Vec<_> = found[0].gaps.iter().map(|gap| gap.why.as_str()).collect();
        assert!(
            told.iter().any(|why| why.contains("--engine digest")),
            "{told:?}"
        );
    }
    // Docker's are not told once more as containerd's.
    let sources = Sources {
        data_root: Some(daemon.containerd_root()),
        ..Sources::default()
    };
    let (found, gaps) = containerd::inspect(sources, &[], Options::default()).expect("inspect");
    assert!(found.is_empty() && gaps.is_empty(), "{found:?} {gaps:?}");
    // One that is removed is gone for both.
    let id = daemon.create("removed", &[], "image", &sleep);
    daemon.docker(&["rm", "removed"]);
    assert!(inspect(daemon.disk(), &[&id]).is_err());
    daemon.kill();
    look(daemon.disk(), Some(Access::Dead));
    let (docker, containerd) = (daemon.data_root(), daemon.containerd_root());
    let disk = Disk::with(&[
        (&docker, "var/lib/docker"),
        (&containerd, "var/lib/containerd"),
    ]);
    look(disk.sources(), Some(Access::Offline));
}

#[test]
fn overlayfs() {
    states("docker-overlayfs", Driver::Overlayfs, EngineKind::Overlay);
}

#[test]
fn btrfs() {
    states(
        "docker-btrfs-snapshots",
        Driver::BtrfsSnapshots,
        EngineKind::Digest,
    );
}
