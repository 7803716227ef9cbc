//! Databases and configurations of a real containerd.

use plimsoll_e2e::containerd::Containerd;
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::oci::Image;
use plimsoll_e2e::rootfs::small_rootfs;

use super::Seeds;

const IMAGE: &str = "example.org/image:1";

/// Takes seeds of everything that is decoded of containerd.
pub(super) fn take(seeds: &mut Seeds) {
    let mut daemon = Containerd::start(Kind::Ext4);
    let image = Image::new().layer(small_rootfs().path()).archive(IMAGE);
    daemon.import("a", "overlayfs", &image);
    let labels = ["--label", "nerdctl/name=web", "--label", "a=\u{fc}"];
    daemon.create("a", "overlayfs", &labels, IMAGE, "one");
    daemon.start_task("a", "one");
    let spec = daemon.file("state/io.containerd.runtime.v2.task");
    let spec = spec.join(daemon.namespace("a")).join("one/config.json");
    seeds.add("containerd_spec", std::fs::read(spec).unwrap());
    for text in [
        r#"{"Version":"v1","Metadata":{"ID":"s","Config":{"metadata":{"name":"p","uid":"u","namespace":"n"}}}}"#,
        r#"{"Version":"v1","Metadata":{"SandboxID":"s","ImageRef":"sha256:00","Config":{"metadata":{"name":"c"}}}}"#,
    ] {
        seeds.add("containerd_spec", text);
    }
    seeds.add(
        "containerd_text",
        std::fs::read(daemon.file("config.toml")).unwrap(),
    );
    let default = std::process::Command::new("containerd")
        .args(["config", "default"])
        .output();
    seeds.add("containerd_text", default.unwrap().stdout);
    seeds.add("containerd_text", [0xac, 0x02]);
    seeds.add("containerd_text", "k8s.io");
    daemon.kill();
    for file in [
        "io.containerd.metadata.v1.bolt/meta.db",
        "io.containerd.snapshotter.v1.overlayfs/metadata.db",
    ] {
        let mut database = std::fs::read(daemon.root().join(file)).unwrap();
        // What comes after the pages that are in use is empty.
        let used = database.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        database.truncate(used.next_multiple_of(4096));
        seeds.add("bolt", database);
    }
}
