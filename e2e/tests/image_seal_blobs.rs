//! Seals of layers that containerd keeps, for itself and for Docker.

use std::path::PathBuf;

use plimsoll_core::model::{LayerProof, LayerTrust, Measurement, RuntimeKind};
use plimsoll_e2e::command::{run, shell};
use plimsoll_e2e::containerd::Containerd;
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::image_layers::{DOCKERFILE, NAME, rootfs};
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::oci::Image;
use plimsoll_e2e::sealed::{Seals, told};
use plimsoll_e2e::{next, require};
use plimsoll_host::inspect::Options;
use plimsoll_host::seal::Layers;

/// Seals every layer of the image.
fn seal(seals: &Seals) {
    let (sealed, why) = seals.seal();
    assert!(sealed.iter().all(|sealed| *sealed), "{why:?}");
}

fn check(seals: &Seals) -> Measurement {
    seals.check("web", Layers::Sealed, Options::default())
}

fn all_hold(seals: &Seals) -> Vec<LayerProof> {
    let measurement = check(seals);
    assert_eq!(measurement.gaps, []);
    let proofs = measurement.baseline.proofs;
    let mut held = proofs.iter().map(|proof| proof.held);
    assert!(held.all(|held| held == LayerTrust::Sealed), "{proofs:?}");
    proofs
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
    let seals = Seals::new(daemon.here(), RuntimeKind::Containerd);
    seal(&seals);
    let proofs = all_hold(&seals);
    assert_eq!(proofs.len(), 3);
    let top = proofs[2].path.to_string();
    if snapshotter == "btrfs" {
        run("btrfs", &["property", "set", "-ts", &top, "ro", "false"]);
    }
    shell(&format!(
        "touch -r '{top}/app/x' '{top}'.time; printf y | dd of='{top}/app/x' conv=notrunc status=none; touch -r '{top}'.time '{top}/app/x'; rm '{top}'.time"
    ));
    let proofs = check(&seals).baseline.proofs;
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
    let seals = Seals::new(daemon.disk(), RuntimeKind::Docker);
    seal(&seals);
    let proofs = all_hold(&seals);
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
    let measurement = check(&seals);
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
