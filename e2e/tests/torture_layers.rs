//! Random operations in the layers of images, each burst held against brute force: what `image verify`
//! tells is what differs, and the seals of the layers that were touched are broken, and no others.
//!
//! A short run by default; `make torture` sets `PLIMSOLL_TORTURE_STEPS` and `PLIMSOLL_TORTURE_SEED`.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use plimsoll_core::model::LayerTrust;
use plimsoll_e2e::brute::{self, Differences, Tree};
use plimsoll_e2e::command::{run, shell};
use plimsoll_e2e::dockerd::Driver;
use plimsoll_e2e::image_store::Store;
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::podman::Podman;
use plimsoll_e2e::sealed::Sealed;
use plimsoll_e2e::torture::{Generator, number};
use plimsoll_e2e::{require_docker_image, require_podman_image};
use plimsoll_host::seal::Layers;

/// Returns differences without what is told of times alone, which a runtime may move, and without what
/// lies beneath something that is told itself.
fn normal(mut found: Differences) -> Differences {
    found.retain(|_, (letter, aspects)| *letter != 'C' || !aspects.is_empty());
    let whole: Vec<String> = found
        .iter()
        .filter(|(_, (letter, _))| *letter != 'C')
        .map(|(path, _)| format!("{path}/"))
        .collect();
    found.retain(|path, _| !whole.iter().any(|above| path.starts_with(above)));
    found
}

/// Takes away the marks that the steps gave to entries of a base: there is nothing beneath that they could
/// hide, so that they mean nothing, and nobody in a container sees them.
fn without_marks(layer: &Path) {
    shell(&format!(
        r"python3 - '{}' <<'END'
import os, sys
for directory, names, files in os.walk(os.fsencode(sys.argv[1])):
    for name in [b'.'] + files:
        try:
            os.removexattr(os.path.join(directory, name), 'trusted.overlay.opaque', follow_symlinks=False)
        except OSError:
            pass
END",
        layer.display()
    ));
}

/// In a layer of an overlay a device 0, 0 is a whiteout, and of another kind than any device: a device of the
/// image that gave way to one was replaced.
fn with_whiteouts(mut expected: Differences, layer: &Path) -> Differences {
    for (path, (letter, aspects)) in &mut expected {
        if aspects.contains(&"device") {
            let entry = layer.join(path.trim_start_matches('/'));
            let entry = entry.symlink_metadata().expect("an entry");
            if entry.file_type().is_char_device() && entry.rdev() == 0 {
                (*letter, *aspects) = ('T', Vec::new());
            }
        }
    }
    expected
}

/// Copies a layer to a place beside the store's own.
fn copy(layer: &Path, to: &Path) -> PathBuf {
    let to = to.join("pristine");
    let path = |path: &Path| path.display().to_string();
    run("cp", &["-a", &path(layer), &path(&to)]);
    to
}

/// Works on one layer for a while.
fn torture(store: Store, at: usize, scratch: &Path, name: &str) {
    let steps = number("PLIMSOLL_TORTURE_STEPS", 600);
    let seed = number("PLIMSOLL_TORTURE_SEED", 1);
    let sealed = Sealed::new(store);
    sealed.all_sealed();
    sealed.all_hold(name);
    let layer = sealed.store.layers[at].clone();
    let is_overlay = layer.ends_with("diff");
    let pristine = Tree::read(&copy(&layer, scratch));
    let mut generator = Generator::new(seed, &layer);
    let mut sizes = fastrand::Rng::with_seed(seed);
    let (mut done, mut bursts) = (0, 0);
    while done < steps {
        let burst = sizes.u64(1..60);
        let performed: Vec<String> = (0..burst)
            .map(|_| {
                let step = generator.next_step();
                step.perform(&layer);
                format!("{step}")
            })
            .collect();
        if is_overlay {
            without_marks(&layer);
        }
        done += burst;
        bursts += 1;
        let mut expected = brute::differences(&pristine, &Tree::read(&layer));
        if is_overlay {
            expected = with_whiteouts(expected, &layer);
        }
        let expected = normal(expected);
        let layers = sealed.store.verify();
        let found = normal(brute::of_changes(&layers[at].changes));
        assert_eq!(layers[at].gaps, []);
        let missed: Vec<_> = expected
            .iter()
            .filter(|(p, d)| found.get(*p) != Some(*d))
            .collect();
        let invented: Vec<_> = found
            .iter()
            .filter(|(p, d)| expected.get(*p) != Some(*d))
            .collect();
        assert!(
            missed.is_empty() && invented.is_empty(),
            "{name}, seed {seed}, after {done} steps: missed {missed:?}, told {invented:?}; the last steps were\n{}",
            performed.join("\n")
        );
    }
    let proofs = sealed.check(Layers::Auto).baseline.proofs;
    for (n, proof) in proofs.iter().enumerate() {
        let whole = sealed.store.layers[n] != Path::new(&proof.path.to_string());
        assert!(
            proof.seal_broken == (n == at) || whole || at == 5,
            "{name}: layer {n}"
        );
    }
    assert_eq!(proofs[at].held, LayerTrust::Violated);
    println!("{name}: {done} steps in {bursts} bursts, nothing missed and nothing invented");
}

#[test]
fn docker_overlay2() {
    require_docker_image!();
    let store = Store::of_docker(Driver::Overlay2);
    let scratch = store.docker().scratch();
    torture(store, 0, &scratch, "Docker, overlay2");
}

#[test]
fn docker_btrfs() {
    require_docker_image!();
    let store = Store::of_docker(Driver::Btrfs);
    let scratch = store.docker().scratch();
    torture(store, 5, &scratch, "Docker, btrfs");
}

#[test]
fn podman_overlay() {
    require_podman_image!();
    let podman = Podman::with(Kind::Ext4, 2048, "");
    let scratch = tempfile::tempdir().expect("a directory");
    torture(
        Store::of_podman(podman, "overlay"),
        0,
        scratch.path(),
        "Podman, overlay",
    );
}
