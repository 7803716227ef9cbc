//! Images that Podman keeps as composefs: the same edits, the same exact changes, in each state. The mounts
//! of the images are reached by no path.

use plimsoll_core::model::{EngineKind, RuntimeKind, State};
use plimsoll_e2e::brute::Differences;
use plimsoll_e2e::edits::{EDITS, edited};
use plimsoll_e2e::look::{inspect_of, not_of_runtime};
use plimsoll_e2e::matrix::{self, Access};
use plimsoll_e2e::podman::{Podman, inspect, inspect_one};
use plimsoll_e2e::registry::Registry;
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_e2e::{next, program, require};
use plimsoll_host::inspect::{Options, Sources};

const SLEEP: [&str; 3] = ["/bin/busybox", "sleep", "1000"];

/// Where this counts in the table of runtimes.
const PLACE: &str = "podman-composefs";

/// Leaves the test when it cannot run here: see [`require!`].
macro_rules! require_podman {
    () => {
        require!("runc", "busybox", "setpriv", "unshare", "mkfs.ext4");
        if let Some(why) = next::podman_missing() {
            eprintln!("SKIPPED {}: {why}", module_path!());
            return;
        }
    };
}

/// Makes an image of two layers as composefs, and one with an ordinary layer more; returns their names.
fn images(podman: &Podman) -> [String; 2] {
    let registry = Registry::start();
    podman.import("base", small_rootfs().path());
    let add = |from: &str, script: &str, to: &str| {
        let name = ["run", "--name=second", "--network=none", from];
        podman.podman(&[&name[..], &["/bin/sh", "-ec", script]].concat());
        podman.podman(&["commit", "--quiet", "second", to]);
        podman.podman(&["rm", "second"]);
    };
    add(
        "base",
        "echo second > /etc/second; mkdir /opt; echo more > /opt/more",
        "second",
    );
    let second = podman.compose("second", &registry);
    let layers = std::fs::read_dir(podman.graph_root().join("overlay")).expect("layers");
    let composed = layers
        .flatten()
        .filter(|layer| layer.path().join("composefs-data/composefs.blob").exists());
    assert_eq!(composed.count(), 2);
    add(&second, "echo third > /etc/third; rm /opt/more", "third");
    [second, "third".to_owned()]
}

fn expect(sources: Sources, name: &str, state: State, edits: &Differences) {
    let measurement = inspect_one(sources, name);
    assert_eq!(measurement.container.state, state, "{name}");
    assert_eq!(measurement.engine, Some(EngineKind::Overlay), "{name}");
    assert_eq!(not_of_runtime(&measurement), *edits, "{name}, {state:?}");
    for change in &measurement.changes {
        assert_eq!(change.renamed_from, None, "{change:?}");
        let of_image = change.before().is_some();
        assert_eq!(change.origin.is_some(), of_image, "{change:?}");
    }
}

#[test]
fn states() {
    require_podman!();
    let podman = Podman::composefs();
    let version = podman.podman(&["version", "--format", "{{.Client.Version}}"]);
    matrix::version(&format!("Podman {version}"));
    let [second, third] = images(&podman);
    for (name, image) in [
        ("running", &second),
        ("paused", &second),
        ("exited", &second),
        ("mixed", &third),
    ] {
        podman.run(name, image, &SLEEP);
        podman.exec(name, EDITS);
    }
    // The mounts of the images are mapped as well, and ordinary layers of this Podman.
    podman.import("plain", small_rootfs().path());
    let maps = ["--uidmap=0:100000:65536", "--gidmap=0:200000:65536"];
    for (name, image) in [("mapped", &*second), ("plain", "plain")] {
        let first = ["run", "--detach", "--network=none", "--name", name];
        podman.podman(&[&first[..], &maps, &[image], &SLEEP].concat());
        podman.exec(name, EDITS);
    }
    podman.run("untouched", &second, &SLEEP);
    podman.podman(&["pause", "paused"]);
    podman.podman(&["stop", "--time=0", "exited"]);
    podman.podman(&["create", "--name=created", "--network=none", &second]);
    let (edited, none) = (edited(), Differences::new());
    for (name, state, edits) in [
        ("created", State::Created, &none),
        ("exited", State::Exited, &edited),
        ("mapped", State::Running, &edited),
        ("mixed", State::Running, &edited),
        ("paused", State::Paused, &edited),
        ("plain", State::Running, &edited),
        ("running", State::Running, &edited),
        ("untouched", State::Running, &none),
    ] {
        expect(podman.live(), name, state, edits);
        let at_rest = match state {
            State::Created => State::Created,
            _ => State::Exited,
        };
        expect(podman.disk(), name, at_rest, edits);
        matrix::told_in(PLACE, state, Access::Live);
        matrix::told_in(PLACE, state, Access::Offline);
    }
    let options = Options {
        engine: Some(EngineKind::Digest),
        ..Options::default()
    };
    let names = ["mixed", "running"];
    let found = inspect_of(RuntimeKind::Podman, podman.live(), &names, options);
    let (found, gaps) = found.expect("inspect");
    assert_eq!((gaps, found.len()), (vec![], 2));
    for measurement in &found {
        assert_eq!(measurement.engine, Some(EngineKind::Digest));
        assert_eq!(measurement.gaps, []);
        assert_eq!(not_of_runtime(measurement), edited);
    }
}

/// An image that is damaged, or has what is not known: that is no answer, and other containers have theirs.
#[test]
fn damaged_images() {
    require_podman!();
    let podman = Podman::composefs();
    let [second, _] = images(&podman);
    podman.podman(&["create", "--name=one", "--network=none", &second]);
    podman.import("plain", small_rootfs().path());
    podman.podman(&["create", "--name=other", "--network=none", "plain"]);
    let lower = podman.podman(&["inspect", "--format={{.GraphDriver.Data.LowerDir}}", "one"]);
    let top = lower.split(':').next().expect("a layer");
    let layer = std::path::Path::new(top).parent().expect("its directory");
    let blob = layer.join("composefs-data/composefs.blob");
    let good = std::fs::read(&blob).expect("image");
    let with = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        bad
    };
    let check = |name: &str| {
        let mut check = program::command();
        let target = format!("podman:{name}");
        check
            .args(["check", &target, "--data-root"])
            .arg(podman.graph_root());
        let output = check.output().expect("plimsoll");
        (
            output.status.code(),
            String::from_utf8(output.stdout).expect("UTF-8"),
        )
    };
    for (bad, why) in [
        (with(1024, 0), "it is no EROFS image"),
        (
            with(1024 + 80, 1),
            "features of EROFS that Plimsoll does not know",
        ),
        (with(1024 + 12, 30), "its blocks have a size"),
        (good[..1024].to_vec(), "it is no EROFS image"),
        // The root directory is said to be further on than the image reaches.
        (with(1024 + 15, 0xff), "Structure needs cleaning"),
    ] {
        std::fs::write(&blob, bad).expect("image");
        for sources in [podman.live(), podman.disk()] {
            let (found, _) = inspect(sources, &["one"]).expect("inspect");
            assert_eq!(found[0].engine, None, "{why}");
            let told = &found[0].gaps[0].why;
            assert!(
                told.contains("composefs.blob: ") && told.contains(why),
                "{told}"
            );
        }
        let (code, told) = check("one");
        assert!(code == Some(2) && told.contains(why), "{code:?}, {told}");
        assert_eq!(check("other").0, Some(0));
    }
    std::fs::write(&blob, &good).expect("image");
    assert_eq!(check("one").0, Some(0));
    // Where the files are, or another one in their place.
    let data = layer.join("diff");
    std::fs::rename(&data, layer.join("aside")).expect("rename");
    let (found, _) = inspect(podman.disk(), &["one"]).expect("inspect");
    assert_eq!(found[0].engine, None);
    assert!(
        found[0].gaps[0].why.contains("it is missing"),
        "{:?}",
        found[0].gaps
    );
}
