//! Seals of layers in real stores: they hold while nothing is touched, whatever reads the layers; and break
//! at every touch, be it put back again.

use std::path::Path;

use plimsoll_core::Verdict;
use plimsoll_core::model::{EngineKind, LayerTrust, Measurement};
use plimsoll_core::policy::{Policy, appraise};
use plimsoll_e2e::dockerd::Driver;
use plimsoll_e2e::image_store::{NAME, Runtime, Store};
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::podman::Podman;
use plimsoll_e2e::sealed::{CONTAINER, Sealed, told};
use plimsoll_e2e::{require_docker_image, require_podman_image};
use plimsoll_host::measure::REFERENCE;
use plimsoll_host::seal::Layers;

fn verdict(measurement: &Measurement) -> Verdict {
    appraise(measurement, &Policy::default(), measurement_time()).verdict
}

fn measurement_time() -> plimsoll_core::model::Timestamp {
    plimsoll_core::model::Timestamp {
        seconds: 1_800_000_000,
        nanoseconds: 0,
    }
}

/// With no seals layers are trusted, and told to have none where seals are asked for; and they can be
/// rebuilt for a check.
fn before_sealing(sealed: &Sealed) {
    let unsealed = sealed.check(Layers::Auto);
    assert_eq!(unsealed.baseline.layers, LayerTrust::Trusted);
    assert_eq!((unsealed.baseline.proofs, unsealed.gaps), (vec![], vec![]));
    let asked = sealed.check(Layers::Sealed);
    assert!(asked.gaps.iter().all(|gap| gap.why.contains("image seal")));
    assert_ne!(asked.gaps, []);
    assert_eq!(verdict(&asked), Verdict::Unknown);
    assert_eq!(sealed.held(Layers::Digest), [LayerTrust::Verified; 6]);
}

/// Layers that lie each in a directory of its own.
fn own_directories(sealed: &Sealed) {
    before_sealing(sealed);
    sealed.all_sealed();
    sealed.all_hold("sealing");
    assert_eq!(sealed.held(Layers::Auto), [LayerTrust::Sealed; 6]);
    assert_eq!(sealed.check(Layers::Trust).baseline.proofs, []);
    // Reading is no touch, even where it moves access times.
    sealed.store.edit(
        r#"mkdir "$L1".bound; mount --bind -o strictatime "$L1" "$L1".bound
        find "$L1".bound -type f -exec cat {} + >/dev/null; find "$L1".bound -type l -exec readlink {} + >/dev/null
        umount "$L1".bound; rmdir "$L1".bound"#,
    );
    sealed.all_hold("reading");

    sealed.store.edit(
        r#"# The content, by one bit, and the time put back.
        bit $L1/app/f10
        # Another inode with the same content, attributes and times.
        keep $L2/app sh -c "cp -a $L2/app/f1 $L2/app/new; mv $L2/app/new $L2/app/f1"
        # Through another mount.
        mkdir /tmp/plimsoll-bound.$$; mount --bind $L3 /tmp/plimsoll-bound.$$
        bit /tmp/plimsoll-bound.$$/new/dir/x; umount /tmp/plimsoll-bound.$$; rmdir /tmp/plimsoll-bound.$$
        # A mark.
        keep $L4/again setfattr -x trusted.overlay.opaque $L4/again
        # A mode, there and back.
        chmod 700 $L5/usr/bin/run; chmod 755 $L5/usr/bin/run"#,
    );
    let measurement = sealed.check(Layers::Sealed);
    assert_eq!(measurement.gaps, []);
    let found: Vec<String> = measurement.baseline.proofs.iter().map(told).collect();
    assert_eq!(
        found,
        [
            "violated, broken C /app/f10 content",
            "verified, broken",
            "violated, broken C /new/dir/x content",
            "violated, broken C /again xattr",
            "verified, broken",
            "sealed",
        ]
    );
    assert_eq!(measurement.baseline.layers, LayerTrust::Violated);
    assert_eq!(verdict(&measurement), Verdict::Violated);
    // What is not what its digest says is not sealed anew; what was put back is.
    let (again, why) = sealed.seals.seal();
    assert_eq!(again, [false, true, false, false, true, true]);
    assert_eq!(why, Vec::<String>::new());
    let found: Vec<String> = sealed
        .check(Layers::Auto)
        .baseline
        .proofs
        .iter()
        .map(told)
        .collect();
    assert_eq!(found[1], "sealed");
    assert_eq!(found[0], "violated, broken C /app/f10 content");
}

#[test]
fn docker_overlay2() {
    require_docker_image!();
    own_directories(&Sealed::new(Store::of_docker(Driver::Overlay2)));
}

#[test]
fn podman_overlay() {
    require_podman_image!();
    own_directories(&Sealed::new(Store::of_podman(Podman::new(), "overlay")));
}

/// Each of these leaves everything as it was that a check of content and attributes could see.
#[test]
fn every_touch_breaks_the_seal() {
    require_docker_image!();
    let sealed = Sealed::new(Store::of_docker(Driver::Overlay2));
    for touch in [
        "keep $L1/app/f1 sh -c \"printf 1 | dd of=$L1/app/f1 conv=notrunc status=none\"",
        "chmod 644 $L1/app/f2",
        "chown 0:0 $L1/app/f3",
        "setfattr -n user.x -v y $L1/app/f4; setfattr -x user.x $L1/app/f4",
        "keep $L1 ln $L1/app/f5 $L1/f5; keep $L1 rm $L1/f5",
        "keep $L1/app touch $L1/app/planted; keep $L1/app rm $L1/app/planted",
        "keep $L1/app mv $L1/app/f6 $L1/app/f6x; keep $L1/app mv $L1/app/f6x $L1/app/f6",
        "touch -h -r $L1/usr/bin/link $L1/usr/bin/link",
        "chattr +i $L1/app/f9; chattr -i $L1/app/f9",
        "keep $L1/app sh -c 'cp -a app/fifo app/new; mv app/new app/fifo'",
        "cp -a $L1 $L1.copy; rm -r $L1; mv $L1.copy $L1",
        "keep $L1/app/f11 python3 -c 'import mmap, sys; f = open(sys.argv[1], \"r+b\"); m = mmap.mmap(f.fileno(), 0); m[0] = m[0]' $L1/app/f11",
        "keep $L1/app/sparse fallocate -p -o 0 -l 4096 $L1/app/sparse",
    ] {
        sealed.all_sealed();
        sealed.all_hold(touch);
        sealed.store.edit(&format!("cd $L1; {touch}"));
        let proofs = sealed.check(Layers::Sealed).baseline.proofs;
        let found: Vec<String> = proofs.iter().map(told).collect();
        assert_eq!(found[0], "verified, broken", "{touch}");
        assert_eq!(found[1..], ["sealed"; 5], "{touch}");
    }
}

/// Layers that are whole trees: the one on top is what a container lies on.
fn whole_trees(sealed: &Sealed, scratch: &Path) {
    before_sealing(sealed);
    sealed.all_sealed();
    sealed.all_hold("sealing");
    let is_btrfs = sealed.check(Layers::Trust).engine == Some(EngineKind::Btrfs);
    // Another container is made of the image; access times move; the file system is balanced.
    match &sealed.store.runtime {
        Runtime::Docker(daemon) => {
            daemon.create("other", &[], NAME, &["/bin/busybox", "true"]);
            daemon.docker(&["diff", CONTAINER]);
        }
        Runtime::Podman(podman) => {
            podman.podman(&["create", "--name", "other", NAME, "/bin/busybox", "true"]);
            podman.podman(&["diff", CONTAINER]);
        }
    }
    sealed.all_hold("a new container");
    let scratch = scratch.join("bound");
    let at = scratch.display();
    sealed.store.edit(&format!(
        r#"mkdir {at}; mount --bind $L6 {at}; mount -o remount,bind,strictatime {at}
        find {at} -type f -exec cat {{}} + >/dev/null; sync; umount {at}; rmdir {at}"#,
    ));
    sealed.all_hold("reading");
    if is_btrfs {
        sealed.store.edit("btrfs balance start -m --full-balance $L6 >/dev/null 2>&1 || btrfs balance start -m $L6 >/dev/null");
        sealed.all_hold("balancing");
    }

    sealed.store.edit("bit $L6/usr/bin/run");
    let measurement = sealed.check(Layers::Sealed);
    let mut gaps = measurement.gaps.iter();
    assert!(gaps.all(|gap| gap.what.as_bytes() == REFERENCE.as_bytes()));
    let found: Vec<String> = measurement.baseline.proofs.iter().map(told).collect();
    assert_eq!(found[..5], ["verified, broken"; 5]);
    assert_eq!(found[5], "violated, broken C /usr/bin/run content");
    assert_eq!(verdict(&measurement), Verdict::Violated);
    assert_eq!(sealed.seals.seal().0, [true, true, true, true, true, false]);
    sealed.store.edit("bit $L6/usr/bin/run");
    sealed.all_sealed();
    sealed.all_hold("sealing anew");
    // What lies beneath is what the tree was made of; nothing in the container comes from there.
    sealed.store.edit("chmod 600 $L2/app/f1");
    sealed.all_hold("a layer beneath was changed");
    let (again, why) = sealed.seals.seal();
    assert_eq!(again, [true, false, false, false, false, false]);
    assert!(why.iter().all(|why| why.contains("beneath")), "{why:?}");
}

#[test]
fn docker_btrfs() {
    require_docker_image!();
    let store = Store::of_docker(Driver::Btrfs);
    let scratch = store.docker().scratch();
    whole_trees(&Sealed::new(store), &scratch);
}

#[test]
fn podman_btrfs() {
    require_podman_image!();
    let podman = Podman::with(Kind::Btrfs, 2048, "");
    let scratch = tempfile::tempdir().expect("a directory");
    let store = Store::of_podman(podman, "btrfs");
    whole_trees(&Sealed::new(store), scratch.path());
}

#[test]
fn podman_vfs() {
    require_podman_image!();
    let scratch = tempfile::tempdir().expect("a directory");
    let store = Store::of_podman(Podman::vfs(), "vfs");
    whole_trees(&Sealed::new(store), scratch.path());
}
