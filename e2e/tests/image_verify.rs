//! The layers of images in real stores: each digest reproduced, and every edit of a layer found and
//! named.

use std::path::{Path, PathBuf};

use plimsoll_core::Verdict;
use plimsoll_core::model::LayerMeasurement;
use plimsoll_e2e::command::shell;
use plimsoll_e2e::dockerd::Driver;
use plimsoll_e2e::image_layers::{
    NAME, OWN_FILES, OWN_FILES_TOLD, WHOLE_TREES, WHOLE_TREES_TOLD, assert_reproduced, lines, told,
};
use plimsoll_e2e::image_store::Store;
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::podman::Podman;
use plimsoll_e2e::{program, require, require_docker_image, require_podman_image};

fn untouched(store: &Store) {
    assert_reproduced(&store.verify());
}

/// One edit of each kind, each in a place of its own, and all of them told by name.
fn own_files(store: &Store, script: &str, expected: &str) {
    untouched(store);
    store.edit(script);
    let layers = store.verify();
    assert_eq!(told(&layers), lines(expected));
    for (n, layer) in (1..).zip(&layers) {
        assert_eq!(layer.verdict(), Verdict::Violated, "{n}");
        assert_eq!(layer.gaps, [], "{n}");
        // The digest alone would have said that nothing happened.
        let agrees = layer.rebuilt.as_ref() == Some(layer.diff_id.digest());
        assert_eq!(agrees, n > 1, "{n}");
    }
}

#[test]
fn docker_overlay2() {
    require_docker_image!();
    own_files(
        &Store::of_docker(Driver::Overlay2),
        OWN_FILES,
        OWN_FILES_TOLD,
    );
}

#[test]
fn podman_overlay() {
    require_podman_image!();
    let store = Store::of_podman(Podman::new(), "overlay");
    own_files(&store, OWN_FILES, OWN_FILES_TOLD);
}

/// Layers that are unpacked for fuse-overlayfs have the stream's own marks: files. It knows no redirects.
#[test]
fn podman_fuse_overlayfs() {
    require!("fuse-overlayfs");
    require_podman_image!();
    let script = OWN_FILES
        .replace("rm $L2/old;", "rm $L2/.wh.old;")
        .replace("rm $L3/app/f3", "rm $L3/app/.wh.f3")
        .replace(
            "setfattr -x trusted.overlay.opaque $L4/again",
            "rm $L6/app/.wh.f4; chmod 700 $L4/again; : > $L6/app/.wh.f21; : > $L5/usr/.wh..wh..opq",
        )
        .replace(
            "setfattr -n trusted.overlay.redirect -v /bin $L1/var/empty",
            "",
        );
    let told = OWN_FILES_TOLD
        .replace("1 C /var/empty xattr\n", "")
        .replace(
            "4 C /again xattr",
            "4 C /again mode\n6 D /app/f4\n6 A /app/.wh.f21\n5 A /usr/.wh..wh..opq\n5 C /usr xattr",
        );
    own_files(&Store::of_podman(Podman::fuse(), "overlay"), &script, &told);
}

/// What lies in whole trees: an edit is told of the layer in whose tree it was made.
fn whole_trees(store: &Store, has_attributes: bool) {
    untouched(store);
    store.edit(WHOLE_TREES);
    let layers = store.verify();
    let mut found = told(&layers);
    // A copy has no attributes of users: Docker leaves them behind.
    let xattr = found.remove("4 C /app/f22 xattr");
    assert_eq!(xattr, has_attributes);
    assert_eq!(found, lines(WHOLE_TREES_TOLD));
    for layer in &layers {
        assert_eq!(layer.verdict(), Verdict::Violated);
        assert_eq!(layer.gaps, []);
    }
}

#[test]
fn docker_btrfs() {
    require_docker_image!();
    whole_trees(&Store::of_docker(Driver::Btrfs), true);
}

#[test]
fn podman_btrfs() {
    require_podman_image!();
    let podman = Podman::with(Kind::Btrfs, 2048, "");
    whole_trees(&Store::of_podman(podman, "btrfs"), true);
}

#[test]
fn podman_vfs() {
    require_podman_image!();
    whole_trees(&Store::of_podman(Podman::vfs(), "vfs"), false);
}

#[test]
fn docker_vfs() {
    require_docker_image!();
    whole_trees(&Store::of_docker(Driver::Vfs), false);
}

/// What the records of the runtime cannot be used for is never called intact.
#[test]
fn records_that_lie() {
    require_docker_image!();
    let store = Store::of_docker(Driver::Overlay2);
    let layerdb = store
        .docker()
        .data_root()
        .join("image/overlay2/layerdb/sha256");
    let find = |file: &str, contains: &str| -> PathBuf {
        let script = format!(
            "cd {}; for d in *; do if grep -qsF '{contains}' $d/cache-id; then echo $d/{file}; fi; done",
            layerdb.display()
        );
        layerdb.join(shell(&script).trim())
    };
    let name_of = |layer: &Path| -> String {
        let dir = layer.parent().expect("directory").file_name();
        dir.expect("name").to_string_lossy().into_owned()
    };
    let records = |n: usize| find("tar-split.json.gz", &name_of(&store.layers[n]));
    // Another layer's records, torn ones, none, and ones whose checksums were made to fit.
    std::fs::copy(records(3), records(1)).expect("copy");
    let torn = std::fs::read(records(2)).expect("records");
    std::fs::write(records(2), &torn[..torn.len() / 2]).expect("records");
    std::fs::remove_file(records(4)).expect("records");
    let forged = records(5);
    shell(&format!(
        "zcat {0} | sed 's/\"payload\":\"[^\"]*\",\"position\":0}}/\"payload\":\"AAAA\",\"position\":0}}/' | gzip > {0}.new; mv {0}.new {0}",
        forged.display()
    ));
    let layers = store.verify();
    let verdicts: Vec<Verdict> = layers.iter().map(LayerMeasurement::verdict).collect();
    assert_eq!(verdicts[0], Verdict::Intact);
    assert_eq!(verdicts[1], Verdict::Violated);
    assert_eq!(verdicts[2], Verdict::Unknown);
    assert_eq!(verdicts[3], Verdict::Intact);
    assert_eq!(verdicts[4], Verdict::Unknown);
    assert_ne!(verdicts[5], Verdict::Intact);
}

/// What people see.
#[test]
fn the_command() {
    require_docker_image!();
    let store = Store::of_docker(Driver::Overlay2);
    let run = |arguments: &[&str]| {
        let output = program::command()
            .args(["image", "verify", "--data-root"])
            .arg(store.docker().data_root())
            .args(arguments)
            .output()
            .expect("plimsoll");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let (code, told) = run(&[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("6 intact"), "{told}");
    let (code, told) = run(&["localhost/acme/web"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("no image \"localhost/acme/web\""), "{told}");
    store.edit("bit $L5/usr/bin/run");
    let (code, told) = run(&[NAME]);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("layer 5 of localhost/acme/web:1 (sha256:"),
        "{told}"
    );
    assert!(told.contains("C  /usr/bin/run  content"), "{told}");
    let (code, told) = run(&[NAME, "--format", "json"]);
    assert_eq!(code, Some(1));
    let document: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(document["summary"]["violated"], 1);
    assert_eq!(document["layers"][4]["changes"][0]["path"], "/usr/bin/run");
    // The images beneath do not have that layer.
    let (code, told) = run(&["base"]);
    assert_eq!(code, Some(0), "{told}");
}
