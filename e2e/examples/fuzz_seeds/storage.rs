//! Records of a real Podman.

use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::podman::Podman;
use plimsoll_e2e::rootfs::small_rootfs;

use super::Seeds;

/// Takes seeds of everything that is decoded of containers/storage.
pub(super) fn take(seeds: &mut Seeds) {
    for kind in [Kind::Ext4, Kind::Btrfs] {
        let podman = Podman::with(kind, 1024, "");
        podman.import("image", small_rootfs().path());
        let sleep = ["image", "/bin/busybox", "sleep", "600"];
        let maps = ["--uidmap=0:100000:65536", "--gidmap=0:200000:65536"];
        let more = [
            "--user=1234",
            "--volume=/vol/data",
            "--tmpfs=/t/u",
            "--workdir=/bin",
        ];
        for (name, options) in [
            ("mapped", &maps[..]),
            ("mounts", &more),
            ("short", &["--rm"]),
        ] {
            let first = ["run", "--detach", "--network=none", "--name", name];
            podman.podman(&[&first[..], options, &sleep].concat());
        }
        let root = podman.graph_root();
        let driver = match kind {
            Kind::Btrfs => "btrfs",
            Kind::Ext4 | Kind::Xfs => "overlay",
        };
        let read = |what: &str| {
            let file = root.join(format!("{driver}-{what}s/{what}s.json"));
            std::fs::read(file).unwrap()
        };
        let records = ["container", "layer", "image"].map(read);
        seeds.add("storage_records", records.join(&0));
        for name in ["mapped", "mounts"] {
            let id = podman.podman(&["inspect", "--format={{.ID}}", name]);
            let spec = root.join(format!("{driver}-containers/{id}/userdata/config.json"));
            let spec = std::fs::read(spec).unwrap();
            seeds.add("storage_records", [&b"\0\0\0"[..], &spec].concat());
        }
    }
    // CRI-O is not here: its records by its sources.
    seeds.add(
        "storage_records",
        r#"[{"id":"aa","layer":"l","metadata":"{\"pod-name\":\"k8s_web_prod_u-1_0\",\"pod-id\":\"aa\",\"metadata-name\":\"web\",\"namespace\":\"prod\",\"uid\":\"u-1\",\"pod\":true}"},{"id":"bb","layer":"m","metadata":"{\"pod-name\":\"k8s_web_prod_u-1_0\",\"pod-id\":\"aa\",\"metadata-name\":\"app\"}"}]"#,
    );
    for text in [
        &b"[storage]\ndriver = \"overlay\"\ngraphroot = \"/srv/graph\"\nrunroot = \"/run/graph\"\n[storage.options]\nadditionalimagestores = [\"/usr/lib/images\"]\n\0ann:x:1000:1000::/home/ann:/bin/sh\n\x00398"[..],
        b"[storage]\nrootless_storage_path = \"$HOME/.graph/${UID}/$USER\"\nimagestore = \"\"\0root:x:0:0::/root:/bin/sh\n+nis\n\0\n",
    ] {
        seeds.add("storage_conf", text);
    }
}
