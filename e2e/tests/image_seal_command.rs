//! `plimsoll image seal` and `check --layers` as people run them; and what a kill leaves behind.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use plimsoll_core::model::LayerTrust;
use plimsoll_e2e::dockerd::Driver;
use plimsoll_e2e::image_store::{NAME, Store};
use plimsoll_e2e::sealed::{CONTAINER, Sealed};
use plimsoll_e2e::{program, require_docker_image};
use plimsoll_host::seal::Layers;

/// Runs a command of `plimsoll` on the store; returns its exit code and what it said.
fn run(sealed: &Sealed, arguments: &[&str]) -> (Option<i32>, String) {
    let output = program::command()
        .args(arguments)
        .arg("--data-root")
        .arg(sealed.store.docker().data_root())
        .env("PLIMSOLL_STATE", sealed.seals.state.path())
        .output()
        .expect("plimsoll");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn what_people_see() {
    require_docker_image!();
    let sealed = Sealed::new(Store::of_docker(Driver::Overlay2));
    let check = |layers: &str| run(&sealed, &["check", CONTAINER, "--layers", layers]);

    let (code, told) = check("sealed");
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("it has no seal: plimsoll image seal makes one"),
        "{told}"
    );
    let (code, told) = run(&sealed, &["check", CONTAINER]);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = check("digest");
    assert_eq!(code, Some(0), "{told}");

    let (code, told) = run(&sealed, &["image", "seal"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("6 of 6 layers sealed, in "), "{told}");
    for entry in std::fs::read_dir(sealed.seals.store().directory()).expect("seals") {
        let length = entry.expect("a seal").metadata().expect("metadata").len();
        assert!(length <= 200, "{length}");
    }
    let (code, told) = run(&sealed, &["check", CONTAINER, "--format", "json"]);
    assert_eq!(code, Some(0), "{told}");
    let document: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let container = &document["containers"][0];
    assert_eq!(container["baseline"]["layers"], "sealed");
    let proofs = container["baseline"]["proofs"].as_array().expect("proofs");
    let ids: Vec<_> = proofs.iter().map(|proof| &proof["diffId"]).collect();
    let layers = container["image"]["layers"].as_array().expect("layers");
    assert_eq!(ids, layers.iter().collect::<Vec<_>>());

    // The headline of a layer: the same length, the time put back, and nobody else would see it.
    sealed.store.edit("bit $L5/usr/bin/run");
    let (code, told) = run(&sealed, &["check", CONTAINER]);
    assert_eq!(code, Some(1), "{told}");
    let line = format!("layer 5 of {NAME} (sha256:");
    assert!(told.contains(&line), "{told}");
    assert!(told.contains("C  /usr/bin/run  content"), "{told}");
    assert!(told.contains("1 violated"), "{told}");
    // Only paths: each at a constant cost, unless somebody asks for the layers.
    let paths = ["check", CONTAINER, "--data-root"];
    let with_paths = |more: &[&str]| {
        let output = program::command()
            .args(paths)
            .arg(sealed.store.docker().data_root())
            .args(more)
            .args(["--", "/app/f1"])
            .env("PLIMSOLL_STATE", sealed.seals.state.path())
            .output();
        output.expect("plimsoll").status.code()
    };
    assert_eq!(with_paths(&[]), Some(0));
    assert_eq!(with_paths(&["--layers", "sealed"]), Some(1));
    sealed.store.edit("bit $L5/usr/bin/run");
    let (code, told) = run(&sealed, &["check", CONTAINER]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("was touched since it was sealed, and is what its digest says"),
        "{told}"
    );
}

/// A store that somebody else could have written is not believed, whatever is in it.
#[test]
fn a_store_that_is_not_ours() {
    require_docker_image!();
    let sealed = Sealed::new(Store::of_docker(Driver::Overlay2));
    sealed.all_sealed();
    let check = |why: &str| {
        let (code, told) = run(&sealed, &["check", CONTAINER]);
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains(why), "{told}");
    };
    let seals = sealed.seals.store().directory();
    let first: PathBuf = std::fs::read_dir(&seals)
        .expect("seals")
        .map(|entry| entry.expect("a seal").path())
        .min()
        .expect("one");
    let good = std::fs::read(&first).expect("a seal");

    chown(&seals, Some(1000), None).expect("chown");
    check("it belongs to user 1000, not to 0");
    let (code, told) = run(&sealed, &["image", "seal"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("no seals can be kept: "), "{told}");
    chown(&seals, Some(0), None).expect("chown");
    std::fs::set_permissions(&first, std::fs::Permissions::from_mode(0o666)).expect("chmod");
    check("others may write to it");
    std::fs::set_permissions(&first, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    std::fs::write(&first, &good[..20]).expect("write");
    check("is damaged");
    // Sealing anew mends it.
    let (code, told) = run(&sealed, &["image", "seal"]);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = run(&sealed, &["check", CONTAINER, "--layers", "sealed"]);
    assert_eq!(code, Some(0), "{told}");
}

/// Killed at any moment: what was sealed stays sealed, and nothing is there but whole seals.
#[test]
fn a_kill_loses_no_seal() {
    require_docker_image!();
    let sealed = Sealed::new(Store::of_docker(Driver::Overlay2));
    // The base alone, so that some are sealed and some are not.
    let (code, told) = run(&sealed, &["image", "seal", "base"]);
    assert_eq!(code, Some(0), "{told}");
    let count = || {
        let measurement = sealed.check(Layers::Auto);
        assert_eq!(measurement.gaps, []);
        let proofs = measurement.baseline.proofs.iter();
        proofs
            .filter(|proof| proof.held == LayerTrust::Sealed)
            .count()
    };
    let mut before = count();
    assert_eq!(before, 1);
    for round in 0..25 {
        let mut child = program::command()
            .args(["image", "seal", "--data-root"])
            .arg(sealed.store.docker().data_root())
            .env("PLIMSOLL_STATE", sealed.seals.state.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("plimsoll");
        std::thread::sleep(Duration::from_micros(round * 2400 % 60_000));
        child.kill().expect("kill");
        child.wait().expect("wait");
        let now = count();
        assert!(now >= before, "{now} of {before} in round {round}");
        before = now;
    }
    let (code, told) = run(&sealed, &["image", "seal"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(count(), 6);
}
