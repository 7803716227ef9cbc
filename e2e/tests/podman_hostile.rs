//! Stores of Podman that are damaged, that change meanwhile, or that no engine can read: a clear error or
//! a gap, never a container that is called intact.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use plimsoll_core::model::{EngineKind, RuntimeKind};
use plimsoll_e2e::brute::Differences;
use plimsoll_e2e::look::{inspect_of, is_whole_or_gap, not_of_runtime};
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::matrix::{self, Access};
use plimsoll_e2e::podman::{Podman, inspect, inspect_one};
use plimsoll_e2e::require;
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_host::inspect::{Options, Sources};
use serde_json::{Value, json};

const SLEEP: [&str; 3] = ["/bin/busybox", "sleep", "1000"];

/// Containers that are removed while all are checked: each answer is whole, or has a gap.
fn removed_meanwhile(kind: Kind) {
    require!(
        "podman",
        "runc",
        "conmon",
        "busybox",
        "mkfs.ext4",
        "mkfs.btrfs"
    );
    const COUNT: usize = 6;
    let podman = Podman::with(kind, 2048, "");
    podman.import("image", small_rootfs().path());
    let edit = "for d in $(seq 30); do mkdir -p /home/$d; for f in $(seq 30); do echo > /home/$d/$f; done; done; rm /etc/shadow";
    for n in 0..COUNT {
        let name = format!("c{n}");
        podman.run(&name, "image", &SLEEP);
        podman.exec(&name, edit);
    }
    let expected = not_of_runtime(&inspect_one(podman.live(), "c0"));
    assert_eq!(expected.len(), 30 * 30 + 30 + 1);
    let removed = AtomicBool::new(false);
    let (mut rounds, mut partial) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..COUNT {
                podman.podman(&["rm", "--force", "--time=0", &format!("c{n}")]);
            }
            removed.store(true, Ordering::Release);
        });
        while !removed.load(Ordering::Acquire) {
            rounds += 1;
            let Ok((found, _)) = inspect(podman.live(), &[]) else {
                continue;
            };
            for measurement in found {
                partial += usize::from(!is_whole_or_gap(&measurement, &expected));
            }
        }
    });
    let (left, gaps) = inspect(podman.live(), &[]).expect("inspect");
    assert_eq!((left.len(), gaps), (0, vec![]));
    assert!(rounds > 3, "the check is too slow to meet a removal");
    eprintln!("{kind:?}: {rounds} rounds, {partial} containers met on their way out");
}

#[test]
fn removed_meanwhile_overlay() {
    removed_meanwhile(Kind::Ext4);
}

#[test]
fn removed_meanwhile_btrfs() {
    removed_meanwhile(Kind::Btrfs);
}

/// A store with one container in it, of which the records can be spoiled and mended.
struct Spoiled {
    podman: Podman,
    container: String,
    layer: String,
    base: String,
    image: String,
}

impl Spoiled {
    fn new() -> Self {
        let podman = Podman::new();
        podman.import("image", small_rootfs().path());
        podman.podman(&["create", "--name=one", "--network=none", "image", "/bin/sh"]);
        let text = |file: &str| -> Value {
            let path = podman.graph_root().join(file);
            serde_json::from_slice(&std::fs::read(path).expect("record")).expect("JSON")
        };
        let id = |value: &Value| value.as_str().expect("id").to_owned();
        let containers = text("overlay-containers/containers.json");
        let layers = text("overlay-layers/layers.json");
        Self {
            container: id(&containers[0]["id"]),
            layer: id(&containers[0]["layer"]),
            image: id(&containers[0]["image"]),
            base: id(&layers[0]["id"]),
            podman,
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.podman.graph_root().join(file)
    }

    /// Changes a record, and returns what is told of the container then: gaps, and whether it was
    /// compared.
    fn with(&self, file: &str, change: impl FnOnce(&mut Value)) -> String {
        let path = self.path(file);
        let bytes = std::fs::read(&path).expect("record");
        let mut value = serde_json::from_slice(&bytes).expect("JSON");
        change(&mut value);
        self.with_bytes(file, value.to_string().as_bytes())
    }

    fn with_bytes(&self, file: &str, bytes: &[u8]) -> String {
        let path = self.path(file);
        let before = std::fs::read(&path).expect("record");
        std::fs::write(&path, bytes).expect("record");
        let told = self.told();
        std::fs::write(&path, before).expect("record");
        told
    }

    /// Puts something else where a file or a directory is.
    fn with_other(&self, file: &str, put: impl FnOnce(&Path)) -> String {
        let (path, aside) = (self.path(file), self.path("aside"));
        std::fs::rename(&path, &aside).expect("rename");
        put(&path);
        let told = self.told();
        if path.symlink_metadata().is_ok() {
            std::fs::remove_file(&path).expect("remove");
        }
        std::fs::rename(&aside, &path).expect("rename");
        told
    }

    /// Everything that keeps the container from being called intact; nothing when it would be.
    fn told(&self) -> String {
        let told = inspect(self.podman.live(), &[]);
        let offline = inspect(self.podman.disk(), &[]);
        let text = |told: &Result<(Vec<_>, Vec<_>), String>| match told {
            Err(error) => error.clone(),
            Ok((found, gaps)) => {
                let found: &Vec<plimsoll_core::model::Measurement> = found;
                let own = found.iter().flat_map(|m| &m.gaps);
                let gaps: &Vec<plimsoll_core::model::Gap> = gaps;
                let all = own
                    .chain(gaps)
                    .map(|gap| format!("{}: {}", gap.what, gap.why));
                all.collect::<Vec<_>>().join("; ")
            }
        };
        let (told, offline) = (text(&told), text(&offline));
        assert_eq!(told.is_empty(), offline.is_empty(), "{told} | {offline}");
        told
    }
}

#[test]
fn records_that_cannot_be() {
    require!("podman", "busybox", "mkfs.ext4");
    let store = Spoiled::new();
    let Spoiled {
        container,
        layer,
        base,
        image,
        ..
    } = &store;
    let layers = "overlay-layers/layers.json";
    let containers = "overlay-containers/containers.json";
    let images = "overlay-images/images.json";
    assert_eq!(store.told(), "");
    let cases: [(String, &str); 16] = [
        (
            store.with(layers, |v| v[0]["parent"] = json!(layer)),
            "a parent of its own",
        ),
        (
            store.with(layers, |v| v[1]["parent"] = json!("../../../etc")),
            "not the id of a layer",
        ),
        (
            store.with(containers, |v| v[0]["layer"] = json!("a/b")),
            "not the id of a layer",
        ),
        (
            store.with(containers, |v| v[0]["layer"] = json!("")),
            "names no layer",
        ),
        (
            store.with(containers, |v| v[0]["id"] = json!("../x")),
            "in the place of an id",
        ),
        (
            store.with(containers, |v| {
                let twin = v[0].clone();
                v.as_array_mut().expect("array").push(twin);
            }),
            "two records",
        ),
        (
            store.with(layers, |v| _ = v.as_array_mut().expect("array").remove(0)),
            "has no record",
        ),
        (
            store.with(layers, |v| v[1]["flags"] = json!({"incomplete": true})),
            "being made or removed",
        ),
        (
            store.with(layers, |v| {
                v[0]["diff-digest"] = json!(format!("sha256:{}", "0".repeat(64)));
            }),
            "the configuration of the image says",
        ),
        (
            store.with(images, |v| v[0]["layer"] = json!("0".repeat(64))),
            "its image ends with",
        ),
        (
            store.with(images, |v| *v = json!([])),
            "there is no record of image",
        ),
        (
            store.with(layers, |v| v[1]["parent"] = json!("")),
            "its image ends with",
        ),
        (store.with_bytes(containers, b"[{"), "not a record"),
        (store.with_bytes(layers, b"{}"), "an array of records"),
        (
            store.with_bytes(&format!("overlay/{layer}/lower"), b"l/NONE"),
            "short link NONE",
        ),
        (
            store.with_bytes(&format!("overlay/{layer}/lower"), b""),
            "not the path of a lower layer",
        ),
    ];
    for (told, why) in &cases {
        assert!(told.contains(why), "{why}: {told}");
    }

    // A directory of a layer that is not there, or is a link to somewhere else.
    let diff = |layer: &str| format!("overlay/{layer}/diff");
    let elsewhere = tempfile::tempdir().expect("directory");
    for layer in [layer, base] {
        let told = store.with_other(&diff(layer), |_| {});
        assert!(told.contains("it is missing"), "{told}");
        let told = store.with_other(&diff(layer), |path| {
            symlink(elsewhere.path(), path).expect("link");
        });
        assert!(told.contains("a link or a file stands there"), "{told}");
        let told = store.with_other(&format!("overlay/{layer}"), |path| {
            symlink(elsewhere.path(), path).expect("link");
        });
        assert!(told.contains("a link stands in its path"), "{told}");
    }
    // The configuration that the image's id proves.
    let dir = store.path(&format!("overlay-images/{image}"));
    let key = std::fs::read_dir(dir).expect("directory").flatten();
    let names = key.map(|entry| entry.file_name().into_string().expect("UTF-8"));
    let names: Vec<_> = names.filter(|name| name.starts_with('=')).collect();
    let altered = names.iter().any(|name| {
        let told = store.with_bytes(&format!("overlay-images/{image}/{name}"), b"{}");
        told.contains("the configuration was altered")
    });
    assert!(altered, "{names:?}");
    assert_eq!(store.told(), "", "{container}");
}

/// The driver that copies whole trees, which has no engine.
#[test]
fn vfs() {
    require!("podman", "runc", "conmon", "busybox", "mkfs.ext4");
    let podman = Podman::vfs();
    podman.import("image", small_rootfs().path());
    podman.run("one", "image", &SLEEP);
    podman.exec(
        "one",
        "rm /etc/shadow; chmod 600 /etc/passwd; echo new > /home/file",
    );
    let (found, _) = inspect(podman.live(), &["one"]).expect("inspect");
    assert_eq!(found[0].engine, None);
    let why = &found[0].gaps[0].why;
    assert!(
        why.contains("\"vfs\"") && why.contains("--engine digest"),
        "{why}"
    );
    let expected: Differences = [
        ("/etc/passwd", ('C', vec!["mode"])),
        ("/etc/shadow", ('D', vec![])),
        ("/home/file", ('A', vec![])),
    ]
    .map(|(path, what)| (path.to_owned(), what))
    .into();
    for (sources, access) in [
        (podman.live(), Access::Live),
        (podman.disk(), Access::Offline),
    ] {
        let options = Options {
            engine: Some(EngineKind::Digest),
            ..Options::default()
        };
        let (found, gaps) =
            inspect_of(RuntimeKind::Podman, sources, &["one"], options).expect("inspect");
        assert_eq!((gaps, &found[0].gaps), (vec![], &vec![]));
        assert_eq!(not_of_runtime(&found[0]), expected);
        matrix::told("podman-vfs", "running", access);
    }
}

/// An image in another store than its container.
#[test]
fn an_image_of_another_store() {
    require!("podman", "runc", "conmon", "busybox", "mkfs.ext4");
    let podman = Podman::new();
    podman.import("image", small_rootfs().path());
    podman.images_elsewhere();
    podman.run("one", "image", &SLEEP);
    podman.exec("one", "rm /etc/shadow");
    let expected: Differences = [("/etc/shadow".to_owned(), ('D', vec![]))].into();
    let one = inspect_one(podman.disk(), "one");
    assert_eq!(not_of_runtime(&one), expected);
    assert!(one.container.image.id.is_some());
    // Where the other store is not known, the image is missing: that is no answer.
    let (found, _) = inspect(podman.live(), &["one"]).expect("inspect");
    let told = format!("{:?}", found[0].gaps);
    assert!(told.contains("has no record"), "{told}");
    assert_eq!(found[0].engine, None);
}

/// A disk whose links lead to this machine, and one that holds no store.
#[test]
fn a_disk_that_lies() {
    require!("podman", "busybox", "mkfs.ext4");
    let podman = Podman::new();
    podman.import("image", small_rootfs().path());
    podman.podman(&["create", "--name=one", "--network=none", "image", "/bin/sh"]);
    let disk = tempfile::tempdir().expect("directory");
    let look = || {
        let sources = Sources {
            root: Some(disk.path().to_owned()),
            ..Sources::default()
        };
        inspect(sources, &["one"]).unwrap_err()
    };
    let told = look();
    assert!(told.contains("no store of Podman or CRI-O"), "{told}");
    std::fs::create_dir_all(disk.path().join("var/lib/containers")).expect("directory");
    let store = disk.path().join("var/lib/containers/storage");
    symlink(podman.graph_root(), &store).expect("link");
    let told = look();
    assert!(told.contains("a link stands in its path"), "{told}");
    std::fs::remove_file(&store).expect("remove");
    // The home of a user.
    let passwd = "ann:x:1000:1000::/home/ann:/bin/sh\n";
    std::fs::create_dir(disk.path().join("etc")).expect("directory");
    std::fs::write(disk.path().join("etc/passwd"), passwd).expect("file");
    let share = disk.path().join("home/ann/.local/share/containers");
    std::fs::create_dir_all(&share).expect("directory");
    symlink(podman.graph_root(), share.join("storage")).expect("link");
    let told = look();
    assert!(told.contains("a link stands in its path"), "{told}");
}
