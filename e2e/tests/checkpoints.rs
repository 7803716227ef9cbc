//! Containers that were checkpointed with CRIU, by each runtime and with each storage driver: on disk
//! they are ended ones, with the same changes; and one that is restored runs again (by Podman: Docker fails
//! at it every so often).

use plimsoll_core::model::{EngineKind, Measurement, RuntimeKind, State};
use plimsoll_e2e::containerd::Containerd;
use plimsoll_e2e::cri::{Cri, Pod};
use plimsoll_e2e::disk::Disk;
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::edits::{EDITS, edited};
use plimsoll_e2e::look::{inspect_of, not_of_runtime};
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::matrix::{self, Access};
use plimsoll_e2e::oci::Image;
use plimsoll_e2e::podman::Podman;
use plimsoll_e2e::registry::Registry;
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_e2e::{next, require};
use plimsoll_host::inspect::{Options, Sources};

/// Leaves the test when it cannot run here: see [`require!`].
macro_rules! require_criu {
    ($($program:expr),* $(,)?) => {
        require!($($program),*);
        if let Some(why) = next::criu_missing() {
            eprintln!("SKIPPED {}: {why}", module_path!());
            return;
        }
        matrix::version(&format!("CRIU {}", next::criu_version()));
    };
}

/// Where a container counts in the table of runtimes, and how it is compared.
#[derive(Clone, Copy)]
struct Place {
    id: &'static str,
    runtime: RuntimeKind,
    engine: EngineKind,
}

impl Place {
    /// Looks at the container `one`, of which everything must be seen and the edits be told.
    fn look(self, sources: Sources, state: State) -> Measurement {
        let options = Options {
            engine: (self.engine == EngineKind::Digest).then_some(self.engine),
            ..Options::default()
        };
        let (mut found, gaps) =
            inspect_of(self.runtime, sources, &["one"], options).expect("inspect");
        let measurement = found.pop().expect("one container");
        assert_eq!((gaps, &*measurement.gaps), (vec![], &[][..]), "{}", self.id);
        assert_eq!(measurement.engine, Some(self.engine), "{}", self.id);
        assert_eq!(not_of_runtime(&measurement), edited(), "{}", self.id);
        let container = &measurement.container;
        assert_eq!(container.state, state, "{}", self.id);
        assert_eq!(container.pid.is_some(), container.is_live(), "{}", self.id);
        measurement
    }

    /// The same of one that was checkpointed and ended with it.
    fn checkpointed(self, sources: Sources, access: Access) {
        self.look(sources, State::Exited);
        matrix::told(self.id, "checkpointed", access);
    }
}

fn docker(id: &'static str, driver: Driver, engine: EngineKind) {
    require_criu!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.ext4",
        "mkfs.btrfs"
    );
    if let Some(why) = next::missing() {
        eprintln!("SKIPPED {}: {why}", module_path!());
        return;
    }
    let place = Place {
        id,
        runtime: RuntimeKind::Docker,
        engine,
    };
    // Of checkpoints the daemon knows only then.
    let mut daemon = Dockerd::with(driver, "", r#"{"experimental": true}"#);
    daemon.import("image", small_rootfs().path());
    daemon.run("one", &[], "image", &["sleep", "1000"]);
    daemon.exec("one", EDITS);
    // Two of the same container are the same to its containerd, which then refuses.
    daemon.docker(&["checkpoint", "create", "one", "checkpoint"]);
    place.checkpointed(daemon.live(), Access::Live);
    place.checkpointed(daemon.disk(), Access::Live);
    daemon.kill();
    place.checkpointed(daemon.disk(), Access::Dead);
    let (docker, containerd) = (daemon.data_root(), daemon.containerd_root());
    let disk = Disk::with(&[
        (&docker, "var/lib/docker"),
        (&containerd, "var/lib/containerd"),
    ]);
    place.checkpointed(disk.sources(), Access::Offline);
}

#[test]
fn docker_overlay2() {
    docker("docker-overlay2", Driver::Overlay2, EngineKind::Overlay);
}

#[test]
fn docker_btrfs() {
    docker("docker-btrfs", Driver::Btrfs, EngineKind::Btrfs);
}

#[test]
fn docker_vfs() {
    docker("docker-vfs", Driver::Vfs, EngineKind::Digest);
}

#[test]
fn docker_overlayfs() {
    docker("docker-overlayfs", Driver::Overlayfs, EngineKind::Overlay);
}

#[test]
fn docker_btrfs_snapshots() {
    docker(
        "docker-btrfs-snapshots",
        Driver::BtrfsSnapshots,
        EngineKind::Digest,
    );
}

fn containerd(id: &'static str, kind: Kind, snapshotter: &str, engine: EngineKind) {
    const IMAGE: &str = "example.org/image:1";
    require_criu!(
        "containerd",
        "ctr",
        "runc",
        "busybox",
        "setpriv",
        "mkfs.ext4",
        "mkfs.btrfs"
    );
    let place = Place {
        id,
        runtime: RuntimeKind::Containerd,
        engine,
    };
    let mut daemon = Containerd::start(kind);
    let archive = Image::new().layer(small_rootfs().path()).archive(IMAGE);
    daemon.import("a", snapshotter, &archive);
    daemon.create("a", snapshotter, &[], IMAGE, "one");
    daemon.start_task("a", "one");
    daemon.exec("a", "one", EDITS);
    // An image of it, with its writable layer: that takes a snapshot for the time being.
    let checkpoint = [
        "containers",
        "checkpoint",
        "--rw",
        "one",
        "example.org/one:1",
    ];
    daemon.ctr("a", &checkpoint);
    place.look(daemon.here(), State::Running);
    let images = daemon.file("checkpoint").display().to_string();
    let checkpoint = ["tasks", "checkpoint", "--exit", "--image-path", &images];
    daemon.ctr("a", &[&checkpoint[..], &["one"]].concat());
    assert!(daemon.file("checkpoint/pstree.img").exists());
    place.checkpointed(daemon.here(), Access::Live);
    daemon.kill();
    place.checkpointed(daemon.here(), Access::Dead);
    place.checkpointed(daemon.disk(), Access::Offline);
}

#[test]
fn containerd_overlayfs() {
    containerd(
        "containerd-overlayfs",
        Kind::Ext4,
        "overlayfs",
        EngineKind::Overlay,
    );
}

#[test]
fn containerd_btrfs() {
    containerd("containerd-btrfs", Kind::Btrfs, "btrfs", EngineKind::Btrfs);
}

#[test]
fn containerd_native() {
    containerd(
        "containerd-native",
        Kind::Ext4,
        "native",
        EngineKind::Digest,
    );
}

fn podman(id: &'static str, podman: fn() -> Podman, engine: EngineKind) {
    require_criu!(
        "podman",
        "runc",
        "conmon",
        "busybox",
        "mkfs.ext4",
        "mkfs.btrfs"
    );
    let place = Place {
        id,
        runtime: RuntimeKind::Podman,
        engine,
    };
    let podman = podman();
    podman.import("image", small_rootfs().path());
    let image = match id {
        "podman-composefs" => podman.compose("image", &Registry::start()),
        _ => "image".to_owned(),
    };
    podman.run("one", &image, &["/bin/busybox", "sleep", "1000"]);
    podman.exec("one", EDITS);
    podman.podman(&["container", "checkpoint", "--leave-running", "one"]);
    place.look(podman.live(), State::Running);
    podman.podman(&["container", "checkpoint", "one"]);
    let told = "{{.State.Status}} {{.State.Checkpointed}}";
    let told = podman.podman(&["container", "inspect", "--format", told, "one"]);
    assert_eq!(told, "exited true");
    place.checkpointed(podman.live(), Access::Live);
    place.checkpointed(podman.disk(), Access::Offline);
    podman.podman(&["container", "restore", "one"]);
    place.look(podman.live(), State::Running);
}

#[test]
fn podman_overlay() {
    podman("podman-overlay", Podman::new, EngineKind::Overlay);
}

#[test]
fn podman_fuse_overlayfs() {
    require!("fuse-overlayfs");
    podman("podman-fuse", Podman::fuse, EngineKind::Overlay);
}

#[test]
fn podman_composefs() {
    if let Some(why) = next::podman_missing() {
        eprintln!("SKIPPED {}: {why}", module_path!());
        return;
    }
    podman("podman-composefs", Podman::composefs, EngineKind::Overlay);
}

#[test]
fn podman_btrfs() {
    podman(
        "podman-btrfs",
        || Podman::with(Kind::Btrfs, 2048, ""),
        EngineKind::Btrfs,
    );
}

#[test]
fn podman_vfs() {
    podman("podman-vfs", Podman::vfs, EngineKind::Digest);
}

/// Of a pod: the archive is for who wants to look into it, and the container goes on.
#[test]
fn kubernetes() {
    const PAUSE: &str = "example.org/pause:1";
    const IMAGE: &str = "example.org/app:1";
    require_criu!("containerd", "runc", "busybox", "setpriv", "mkfs.ext4");
    if let Some(why) = next::missing() {
        eprintln!("SKIPPED {}: {why}", module_path!());
        return;
    }
    let mut daemon = Containerd::start_next_with_cri(Kind::Ext4, PAUSE);
    for name in [PAUSE, IMAGE] {
        let image = Image::new().layer(small_rootfs().path()).archive(name);
        daemon.import("k8s.io", "overlayfs", &image);
    }
    let cri = Cri::new(&daemon.socket());
    let pod = Pod {
        name: "web-0",
        namespace: "shop",
        uid: "0f5c",
        group: format!("/{}", daemon.namespace("pods")),
    };
    let refused = |why: String| -> String { panic!("{why}: {}", daemon.log()) };
    let sandbox = cri.run_sandbox(&pod).unwrap_or_else(refused);
    let id = cri.create(&sandbox, &pod, ("one", 0), IMAGE, (&[], &[]));
    let id = id.unwrap_or_else(refused);
    cri.start(&id).expect("start");
    cri.exec(&id, EDITS).expect("exec");
    let archive = daemon.file("checkpoint.tar");
    cri.checkpoint(&id, &archive).expect("checkpoint");
    assert!(archive.exists());
    let place = Place {
        id: "kubernetes-overlayfs",
        runtime: RuntimeKind::Containerd,
        engine: EngineKind::Overlay,
    };
    place.look(daemon.here(), State::Running);
    matrix::told(place.id, "checkpointed", Access::Live);
    daemon.kill();
    for (sources, state, access) in [
        (daemon.here(), State::Running, Access::Dead),
        (daemon.disk(), State::Exited, Access::Offline),
    ] {
        place.look(sources, state);
        matrix::told(place.id, "checkpointed", access);
    }
}
