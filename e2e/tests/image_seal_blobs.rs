//! Seals of layers that containerd keeps, for itself and for Docker.

use std::num::NonZero;
use std::path::PathBuf;

use plimsoll_core::model::{LayerProof, LayerTrust, Measurement, RuntimeKind};
use plimsoll_e2e::command::{run, shell};
use plimsoll_e2e::containerd::Containerd;
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::image_layers::{DOCKERFILE, NAME, rootfs};
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::oci::Image;
use plimsoll_e2e::sealed::told;
use plimsoll_e2e::{next, require};
use plimsoll_host::image;
use plimsoll_host::inspect::{Options, Request, Sources, Target, inspect_down};
use plimsoll_host::seal::{self, Layers, Prover};

/// Where layers and seals are.
struct Place {
    sources: Sources,
    runtime: RuntimeKind,
    seals: seal::Store,
}

impl Place {
    fn new(sources: Sources, runtime: RuntimeKind, state: &tempfile::TempDir) -> Self {
        let seals = seal::Store::at(state.path());
        seals.make().expect("a store");
        Self {
            sources,
            runtime,
            seals,
        }
    }

    /// Seals the image, of which each layer can be.
    fn seal(&self) {
        let (images, gaps) = image::images(&self.sources, &[NAME.to_owned()]).expect("images");
        assert_eq!(gaps, []);
        let two = NonZero::new(2).expect("two");
        let sealed = seal::seal(images, &self.seals, two, &|_| {});
        let gaps: Vec<_> = sealed.verified.layers.iter().map(|l| &l.gaps).collect();
        assert!(sealed.sealed.iter().all(|sealed| *sealed), "{gaps:?}");
    }

    fn check(&self, name: &str) -> Measurement {
        let request = Request {
            sources: self.sources.clone(),
            targets: vec![Target::Named {
                runtime: Some(self.runtime),
                name: name.into(),
            }],
            paths: Vec::new(),
            options: Options::default(),
        };
        let mut prover = Prover::new(Layers::Sealed, self.seals.clone(), None);
        let mut found = None;
        let gaps = inspect_down(&request, &mut prover, &mut |m| found = Some(m));
        assert_eq!(gaps.expect("inspect"), []);
        found.expect("one container")
    }

    #[track_caller]
    fn all_hold(&self, name: &str) -> Vec<LayerProof> {
        let proofs = self.check(name).baseline.proofs;
        assert!(
            proofs.iter().all(|proof| proof.held == LayerTrust::Sealed),
            "{proofs:?}"
        );
        proofs
    }
}

macro_rules! require_containerd {
    () => {
        require!(
            "containerd",
            "ctr",
            "busybox",
            "setpriv",
            "setcap",
            "setfattr",
            "btrfs"
        )
    };
}

/// An image of three layers, of containerd's own.
fn own(snapshotter: &str, kind: Kind) {
    let daemon = Containerd::start(kind);
    let base = rootfs();
    let dirs = tempfile::tempdir().expect("a directory");
    shell(&format!(
        "cd '{}'; mkdir -p 2/app 3/app; echo new > 2/app/f1; touch 2/.wh.old; echo x > 3/app/x",
        dirs.path().display()
    ));
    let archive = Image::new()
        .layer(base.path())
        .layer(&dirs.path().join("2"))
        .layer(&dirs.path().join("3"))
        .archive(NAME);
    daemon.import("a", snapshotter, &archive);
    daemon.create("a", snapshotter, &[], NAME, "web");
    let state = tempfile::tempdir().expect("a directory");
    let place = Place::new(daemon.here(), RuntimeKind::Containerd, &state);
    place.seal();
    let proofs = place.all_hold("web");
    assert_eq!(proofs.len(), 3);
    let top = proofs[2].path.to_string();
    if snapshotter == "btrfs" {
        run("btrfs", &["property", "set", "-ts", &top, "ro", "false"]);
    }
    shell(&format!(
        "touch -r '{top}/app/x' '{top}'.time; printf y | dd of='{top}/app/x' conv=notrunc status=none; touch -r '{top}'.time '{top}/app/x'; rm '{top}'.time"
    ));
    let proofs = place.check("web").baseline.proofs;
    assert_eq!(told(&proofs[2]), "violated, broken C /app/x content");
}

#[test]
fn containerd_overlayfs() {
    require_containerd!();
    own("overlayfs", Kind::Ext4);
}

#[test]
fn containerd_btrfs() {
    require_containerd!();
    own("btrfs", Kind::Btrfs);
}

/// Docker's classic builder leaves what is no layer between the layers, and containers see it: it is sealed
/// along with the layer above.
#[test]
fn docker_with_the_containerd_store() {
    require!("docker", "busybox", "setpriv", "setcap", "setfattr");
    if let Some(why) = next::missing() {
        return eprintln!("SKIPPED {}: {why}", module_path!());
    }
    let daemon = Dockerd::start(Driver::Overlayfs);
    daemon.import("base", rootfs().path());
    daemon.build(NAME, DOCKERFILE);
    daemon.create("web", &[], NAME, &["/bin/busybox", "true"]);
    let state = tempfile::tempdir().expect("a directory");
    let place = Place::new(daemon.disk(), RuntimeKind::Docker, &state);
    place.seal();
    let proofs = place.all_hold("web");
    assert_eq!(proofs.len(), 6);
    let snapshots = "io.containerd.snapshotter.v1.overlayfs/snapshots";
    let snapshots = daemon.containerd_root().join(snapshots);
    let between: Vec<PathBuf> = shell(&format!("ls -dv {}/*/fs/.dockerenv", snapshots.display()))
        .lines()
        .map(PathBuf::from)
        .collect();
    let of = between[1]
        .parent()
        .expect("its directory")
        .display()
        .to_string();
    shell(&format!("echo planted > {of}/etc/hosts"));
    let measurement = place.check("web");
    let told: Vec<String> = measurement.baseline.proofs.iter().map(told).collect();
    let violated = told
        .iter()
        .filter(|told| told.starts_with("violated, broken"));
    assert_eq!(violated.count(), 1, "{told:?}");
    assert!(
        told.iter()
            .any(|told| told.contains("C /etc/hosts content")),
        "{told:?}"
    );
}
