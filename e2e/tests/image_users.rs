//! Layers that were written for a user namespace: stores of users who are not root, and copies with other
//! owners.

use std::num::NonZero;
use std::path::Path;

use plimsoll_core::Verdict;
use plimsoll_e2e::image_layers::{
    DOCKERFILE, NAME, OWN_FILES, OWN_FILES_TOLD, assert_reproduced, edit, lines, rootfs,
    storage_layers, told, verify,
};
use plimsoll_e2e::podman::Podman;
use plimsoll_e2e::require;
use plimsoll_e2e::rootless::Rootless;
use plimsoll_host::image;

/// Returns the name of the copy with other owners that the records of a store have.
fn copied(graph_root: &Path, driver: &str) -> String {
    let images = graph_root.join(format!("{driver}-images/images.json"));
    let images = std::fs::read_to_string(images).expect("images.json");
    let images: serde_json::Value = serde_json::from_str(&images).expect("JSON");
    let mut images = images.as_array().expect("array").iter();
    let copy = images.find_map(|image| image["mapped-layers"][0].as_str().map(str::to_owned));
    copy.expect("a copy")
}

#[test]
fn a_store_of_a_user() {
    require!(
        "podman",
        "runc",
        "conmon",
        "busybox",
        "newuidmap",
        "setpriv",
        "unshare",
        "setcap",
        "setfattr",
        "python3"
    );
    let user = Rootless::new();
    let base = rootfs();
    user.import("base", base.path());
    user.build(NAME, DOCKERFILE);
    let layers = storage_layers(&user.graph_root(), "overlay", "acme/web:1");
    assert_reproduced(&verify(&user.disk(), NAME));
    // With other ids than the user's the image's top layer is copied, with other owners.
    user.podman(&[
        "create",
        "--userns=keep-id",
        "--network=none",
        NAME,
        "/bin/sh",
    ]);
    let root = user.graph_root();
    let copy = root.join("overlay").join(copied(&root, "overlay"));
    assert_reproduced(&verify(&user.disk(), NAME));
    // As a process of this machine sees it, which has no such user.
    let (found, _) = image::images(&user.live(), &[NAME.to_owned()]).expect("images");
    let verified = image::verify(found, NonZero::<usize>::MIN, &|_| {});
    let (image, _) = &verified.images[0];
    assert!(image.gaps[0].why.contains("owners"), "{:?}", image.gaps);
    assert_eq!(image.verdict(&verified.layers), Verdict::Unknown);
    // A user's overlays have their marks elsewhere, and there is no device.
    let script = OWN_FILES
        .replace("trusted.overlay", "user.overlay")
        .replace("rm $L1/app/null; mknod $L1/app/null c 1 5", "");
    edit(&layers, &script);
    let mut expected = lines(OWN_FILES_TOLD);
    expected.remove("1 C /app/null device,times");
    // What root made is nobody's to the user.
    expected.remove("1 C /usr/bin/link target,times");
    expected.insert("1 C /usr/bin/link owner,target,times".into());
    // In the copy the directory hides nothing.
    expected.insert("6 A /usr/bin/tool".into());
    assert_eq!(told(&verify(&user.disk(), NAME)), expected);
    edit(
        &[copy],
        "cd $(dirname $(find $L1 -path '*/app/f40')); bit f40; chown 0 f41; echo planted > more",
    );
    expected.insert("6 C /app/f40 content".into());
    expected.insert("6 C /app/f41 owner".into());
    expected.insert("6 A /app/more".into());
    assert_eq!(told(&verify(&user.disk(), NAME)), expected);
}

#[test]
fn copies_with_other_owners() {
    require!("podman", "runc", "busybox", "setcap", "setfattr", "python3");
    let podman = Podman::vfs();
    podman.import("base", rootfs().path());
    podman.build(NAME, DOCKERFILE);
    podman.podman(&[
        "create",
        "--uidmap=0:100000:65536",
        "--gidmap=0:100000:65536",
        "--network=none",
        NAME,
        "/bin/sh",
    ]);
    assert_reproduced(&verify(&podman.live(), NAME));
    let root = podman.graph_root();
    let copy = root.join("vfs/dir").join(copied(&root, "vfs"));
    edit(
        &[copy],
        "bit $L1/app/f40; chown 0 $L1/app/f41; echo planted > $L1/app/more; rm $L1/app/f42",
    );
    assert_eq!(
        told(&verify(&podman.live(), NAME)),
        lines(
            "6 C /app/f40 content
            6 C /app/f41 owner
            6 A /app/more
            6 D /app/f42"
        )
    );
}
