//! `--reference`: an image is the one that somebody outside the host says, or the container is violated.

use std::ffi::OsString;
use std::path::Path;

use plimsoll_e2e::dockerd::Driver;
use plimsoll_e2e::image_store::{NAME, Runtime, Store};
use plimsoll_e2e::podman::Podman;
use plimsoll_e2e::{program, require, require_docker_image, require_podman_image};

/// Runs a command of `plimsoll` on the store; returns its exit code and what it said.
fn run(store: &Store, arguments: &[&str], references: &[&Path]) -> (Option<i32>, String) {
    let root = match &store.runtime {
        Runtime::Docker(daemon) => daemon.data_root(),
        Runtime::Podman(podman) => podman.graph_root(),
    };
    let mut command = program::command();
    command.args(arguments).arg("--data-root").arg(root);
    for reference in references {
        command.arg("--reference").arg(reference);
    }
    let output = command.output().expect("plimsoll");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code(), text)
}

#[test]
fn docker_by_its_configuration() {
    require_docker_image!();
    let store = Store::of_docker(Driver::Overlay2);
    let daemon = store.docker();
    daemon.create("web", &[], NAME, &["/bin/busybox", "true"]);
    let id = daemon.docker(&["inspect", "--format", "{{.Id}}", NAME]);
    let scratch = tempfile::tempdir().expect("a directory");
    let values = scratch.path().join("values.yaml");
    std::fs::write(
        &values,
        format!("images:\n  {NAME}:\n    config: {}\n", id.trim()),
    )
    .expect("write");
    let check = ["check", "web"];
    let (code, told) = run(&store, &check, &[&values]);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = run(&store, &["image", "verify", NAME], &[&values]);
    assert_eq!(code, Some(0), "{told}");

    // The host says that another image is it, and starts a container of that.
    daemon.build(
        "evil",
        &format!("FROM {NAME}\nRUN echo evil > /usr/bin/run"),
    );
    daemon.docker(&["tag", "evil", NAME]);
    daemon.create("lie", &[], NAME, &["/bin/busybox", "true"]);
    let (code, told) = run(&store, &["check", "lie"], &[]);
    assert_eq!(code, Some(0), "it is what its image says: {told}");
    let (code, told) = run(&store, &["check", "lie"], &[&values]);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains(&format!(
            "image {NAME}: the digest of its configuration is sha256:"
        )),
        "{told}"
    );
    assert!(
        told.contains(&format!("and must be {}", id.trim())),
        "{told}"
    );
    let (code, told) = run(&store, &["image", "verify", NAME], &[&values]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("and must be"), "{told}");
    let (code, told) = run(&store, &["check", "lie", "--format", "json"], &[&values]);
    assert_eq!(code, Some(1), "{told}");
    let document: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let identity = &document["containers"][0]["baseline"]["identity"];
    assert_eq!(identity["agrees"], false);

    // What the values say nothing of is not known to be good.
    daemon.docker(&["tag", "evil", "other"]);
    daemon.create("other", &[], "other", &["/bin/busybox", "true"]);
    let (code, told) = run(&store, &["check", "other"], &[&values]);
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("the reference values say nothing of image other"),
        "{told}"
    );
}

#[test]
fn podman_by_a_layout_and_by_skopeo() {
    require_podman_image!();
    require!("skopeo");
    let store = Store::of_podman(Podman::new(), "overlay");
    let Runtime::Podman(podman) = &store.runtime else {
        panic!("not Podman's")
    };
    podman.podman(&["create", "--name", "web", NAME, "/bin/busybox", "true"]);
    let scratch = tempfile::tempdir().expect("a directory");
    let layout = scratch.path().join("layout");
    podman.podman(&["push", NAME, &format!("oci:{}:1", layout.display())]);
    let (code, told) = run(&store, &["check", "web"], &[&layout]);
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("has no whole name: give it one, with --reference NAME="),
        "{told}"
    );
    let mut named = OsString::from(format!("{NAME}="));
    named.push(&layout);
    let named = Path::new(&named);
    let (code, told) = run(&store, &["check", "web"], &[named]);
    assert_eq!(code, Some(0), "{told}");
    podman.build(
        "localhost/evil",
        &format!("FROM {NAME}\nRUN echo evil > /usr/bin/run"),
    );
    podman.podman(&["tag", "localhost/evil", NAME]);
    podman.podman(&["create", "--name", "lie", NAME, "/bin/busybox", "true"]);
    let (code, told) = run(&store, &["check", "lie"], &[named]);
    assert_eq!(code, Some(1), "{told}");

    // What skopeo says of the layout: the digest of the manifest there, which is not that of the store's
    // own manifest, for the layers were compressed on the way.
    let inspected = scratch.path().join("inspected.json");
    let output = std::process::Command::new("skopeo")
        .args(["inspect", &format!("oci:{}:1", layout.display())])
        .output()
        .expect("skopeo");
    assert!(output.status.success());
    std::fs::write(&inspected, output.stdout).expect("write");
    let mut named = OsString::from(format!("{NAME}="));
    named.push(&inspected);
    let (code, told) = run(&store, &["check", "web"], &[Path::new(&named)]);
    assert_ne!(code, Some(0), "{told}");
    assert!(told.contains("manifest"), "{told}");
    // A blob of the layout that was altered is no reference.
    let blobs = layout.join("blobs/sha256");
    for entry in std::fs::read_dir(blobs).expect("blobs") {
        let path = entry.expect("a blob").path();
        let mut bytes = std::fs::read(&path).expect("read");
        bytes.push(b' ');
        std::fs::write(&path, bytes).expect("write");
    }
    let named = format!("{NAME}={}", layout.display());
    let (code, told) = run(&store, &["check", "web"], &[Path::new(&named)]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("was altered"), "{told}");
}
