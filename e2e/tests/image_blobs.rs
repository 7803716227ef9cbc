//! Images whose layers containerd keeps: each digest reproduced from the content store, every edit of what
//! was unpacked found and named, and nothing believed of a blob that is not what its name says.

use std::num::NonZero;
use std::path::{Path, PathBuf};

use plimsoll_core::Verdict;
use plimsoll_core::model::{ImageMeasurement, LayerMeasurement, RuntimeKind};
use plimsoll_e2e::brute;
use plimsoll_e2e::command::{run, shell};
use plimsoll_e2e::containerd::Containerd;
use plimsoll_e2e::disk::Disk;
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::image_layers::{
    DOCKERFILE, NAME, OWN_FILES, OWN_FILES_TOLD, WHOLE_TREES, WHOLE_TREES_TOLD, assert_reproduced,
    edit, lines, rootfs, told, verify,
};
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::oci::{Archive, Form, Image};
use plimsoll_e2e::{next, require};
use plimsoll_host::image::{self, Verified};
use plimsoll_host::inspect::Sources;

/// Where the blobs are, beneath containerd's root.
const BLOBS: &str = "io.containerd.content.v1.content/blobs/sha256";

/// Makes by hand what `DOCKERFILE` makes, in this form or in all of them in turn.
fn six_layers(form: Option<Form>) -> Archive {
    let base = rootfs();
    let dirs = tempfile::tempdir().expect("temporary directory");
    // A directory that is made on the way to a member is like the one that it lies over. That of
    // an image's root counts for nothing.
    shell(&format!(
        r#"chmod 751 "{base}/usr"; chown 3:4 "{base}/usr"; setfattr -n user.of -v usr "{base}/usr"
        cd "{dirs}"; mkdir -p 2/app 3/app 3/new/dir 4/again 5/usr/bin 6/app; chmod 700 2; chown 9 3
        echo new > 2/app/f1; cp -p "{base}/app/f2" 2/app; chmod 600 2/app/f2; touch 2/.wh.old
        touch 3/app/.wh.f3; echo x > 3/new/dir/x; ln 3/new/dir/x 3/new/dir/y
        touch 4/again/.wh..wh..opq; echo again > 4/again/file
        echo '\#!/bin/sh' > 5/usr/bin/run; chmod 755 5/usr/bin/run
        touch 6/app/.wh.f4; cp -p "{base}/app/f4" 6/app/g4; cp -p "{base}/app/f5" 6/app; touch -t 200001010000 6/app/f5"#,
        base = base.path().display(),
        dirs = dirs.path().display(),
    ));
    let dir = |n: u32| dirs.path().join(n.to_string());
    let of = |n: usize| form.unwrap_or([Form::Gzip, Form::Zstd, Form::Tar][n % 3]);
    Image::new()
        .form(of(0))
        .layer(base.path())
        .form(of(1))
        .layer(&dir(2))
        .form(of(2))
        .layer(&dir(3))
        .form(of(3))
        .layer(&dir(4))
        .form(of(4))
        .members(&dir(5), &["usr/bin/run"])
        .form(of(5))
        .layer(&dir(6))
        .other_platform()
        .archive(NAME)
}

/// A containerd with that image.
struct Store {
    daemon: Containerd,
    archive: Archive,
    /// Where the layers lie, the base first.
    layers: Vec<PathBuf>,
}

impl Store {
    fn new(daemon: Containerd, snapshotter: &str, form: Option<Form>) -> Self {
        let archive = six_layers(form);
        daemon.import("a", snapshotter, &archive);
        let snapshots = format!("io.containerd.snapshotter.v1.{snapshotter}/snapshots");
        let own = if snapshotter == "overlayfs" {
            "/fs"
        } else {
            ""
        };
        // They are numbered in the order in which they are made.
        let layers: Vec<PathBuf> = (1..=6)
            .map(|n| daemon.root().join(format!("{snapshots}/{n}{own}")))
            .collect();
        assert!(layers[0].join("app/capable").exists());
        assert!(layers[4].join("usr/bin/run").exists());
        if snapshotter == "btrfs" {
            for layer in &layers {
                let layer = layer.display().to_string();
                run("btrfs", &["property", "set", "-ts", &layer, "ro", "false"]);
            }
        }
        Self {
            daemon,
            archive,
            layers,
        }
    }

    fn verify(&self) -> Vec<LayerMeasurement> {
        verify(&self.daemon.here(), NAME)
    }

    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.daemon.root().join(BLOBS).join(hex)
    }

    /// Returns all images of its containerd.
    fn all(&self) -> Verified {
        all(&self.daemon.here())
    }

    /// Returns the only image.
    fn only(&self) -> (ImageMeasurement, Vec<LayerMeasurement>) {
        let mut all = self.all();
        assert_eq!(all.images.len(), 1, "{:?}", all.images);
        (all.images.remove(0).0, all.layers)
    }
}

fn all(sources: &Sources) -> Verified {
    let (images, gaps) = image::images(sources, &[]).expect("images");
    assert_eq!(gaps, []);
    image::verify(images, NonZero::new(2).expect("two"), &|_| {})
}

macro_rules! require_containerd {
    () => {
        require!(
            "containerd",
            "ctr",
            "busybox",
            "setpriv",
            "setcap",
            "setfattr",
            "python3",
            "zstd",
            "mkfs.btrfs",
            "btrfs"
        )
    };
}

macro_rules! require_next {
    () => {
        require_containerd!();
        if let Some(why) = next::missing() {
            eprintln!("SKIPPED {}: {why}", module_path!());
            return;
        }
    };
}

fn own_files(daemon: Containerd, form: Option<Form>) {
    let store = Store::new(daemon, "overlayfs", form);
    let (image, layers) = store.only();
    assert_reproduced(&layers);
    assert_eq!(image.runtime, RuntimeKind::Containerd);
    assert_eq!(image.gaps, []);
    assert_eq!(image.names, [NAME.into()]);
    let text = |of: Option<String>| of.unwrap_or_default();
    assert_eq!(
        text(image.image.id.map(|id| id.to_string())),
        store.archive.config
    );
    assert_eq!(
        text(image.image.manifest.map(|id| id.to_string())),
        store.archive.manifest
    );
    // The same as the disk of another machine.
    assert_reproduced(&verify(&store.daemon.disk(), NAME));
    // A root that is not as it was made is one more edit.
    edit(&store.layers, OWN_FILES);
    edit(
        &store.layers,
        "chmod 777 $L2; chmod 700 $L5/usr; echo more >> $L1/app/sparse",
    );
    let mut expected = lines(OWN_FILES_TOLD);
    for line in ["2 C / mode", "5 A /usr", "1 C /app/sparse content,times"] {
        expected.insert(line.to_owned());
    }
    // Beneath what is not the layer's nothing more is told.
    expected.remove("5 C /usr/bin xattr");
    for sources in [store.daemon.here(), store.daemon.disk()] {
        let layers = verify(&sources, NAME);
        assert_eq!(told(&layers), expected);
        for layer in &layers {
            assert_eq!(layer.verdict(), Verdict::Violated);
            // What is kept is as it was.
            assert_eq!(layer.rebuilt.as_ref(), Some(layer.diff_id.digest()));
        }
    }
}

#[test]
fn overlayfs() {
    require_containerd!();
    own_files(Containerd::start(Kind::Ext4), None);
}

#[test]
fn overlayfs_of_the_next() {
    require_next!();
    own_files(Containerd::start_next(Kind::Xfs), None);
}

fn whole_trees(daemon: Containerd, snapshotter: &str) {
    let store = Store::new(daemon, snapshotter, None);
    assert_reproduced(&store.verify());
    assert_reproduced(&verify(&store.daemon.disk(), NAME));
    edit(&store.layers, WHOLE_TREES);
    let mut expected = lines(WHOLE_TREES_TOLD);
    expected.insert("4 C /app/f22 xattr".to_owned());
    for sources in [store.daemon.here(), store.daemon.disk()] {
        let layers = verify(&sources, NAME);
        assert_eq!(told(&layers), expected);
        for layer in &layers {
            assert_eq!(layer.verdict(), Verdict::Violated);
        }
    }
}

#[test]
fn btrfs() {
    require_containerd!();
    whole_trees(Containerd::start(Kind::Btrfs), "btrfs");
}

#[test]
fn btrfs_of_the_next() {
    require_next!();
    whole_trees(Containerd::start_next(Kind::Btrfs), "btrfs");
}

#[test]
fn native() {
    require_containerd!();
    whole_trees(Containerd::start(Kind::Ext4), "native");
}

/// Each layer alone, in each form, by what is wrong with the blob of it.
#[test]
fn blobs_that_lie() {
    require_containerd!();
    let store = Store::new(Containerd::start(Kind::Ext4), "overlayfs", None);
    let blobs: Vec<PathBuf> = store
        .archive
        .blobs
        .iter()
        .map(|of| store.blob(of))
        .collect();
    // gzip, zstd and plain: a bit in the middle of each; one that is gone; another layer's; and one that is
    // whole, and another.
    for blob in &blobs[..3] {
        shell(&format!(
            "python3 - '{}' <<'END'\nimport sys\nf = open(sys.argv[1], 'r+b'); b = bytearray(f.read()); b[len(b) // 2] ^= 16; f.seek(0); f.write(b)\nEND",
            blob.display()
        ));
    }
    std::fs::remove_file(&blobs[3]).expect("blob");
    std::fs::copy(&blobs[5], &blobs[4]).expect("copy");
    // What was edited under a blob that tells nothing is not called anything.
    edit(&store.layers, "bit $L1/app/f10; bit $L6/app/g4");
    let (image, layers) = store.only();
    assert_eq!(image.gaps, []);
    for (n, why) in [
        (0, "was altered: its SHA-256 is not its name"),
        (1, "was altered: its SHA-256 is not its name"),
        (2, "was altered: its SHA-256 is not its name"),
        (3, "is not in the content store"),
        (4, "was altered: its SHA-256 is not its name"),
    ] {
        let layer = &layers[n];
        assert_eq!(layer.verdict(), Verdict::Unknown, "{n}");
        assert_eq!((&layer.rebuilt, layer.changes.len()), (&None, 0), "{n}");
        let [gap] = &layer.gaps[..] else {
            panic!("{:?}", layer.gaps);
        };
        assert!(gap.why.contains(why), "{n}: {}", gap.why);
        assert!(
            gap.why.contains(&store.archive.blobs[n]),
            "{n}: {}",
            gap.why
        );
    }
    assert_eq!(layers[5].verdict(), Verdict::Violated);
    assert_eq!(told(&layers), lines("6 C /app/g4 content"));
    // What is missing or altered above the layers is no word on them.
    for (digest, why) in [
        (&store.archive.config, "was altered"),
        (&store.archive.manifest, "was altered"),
        (&store.archive.index, "was altered"),
    ] {
        let path = store.blob(digest);
        let as_it_was = std::fs::read(&path).expect("blob");
        shell(&format!(
            "chmod 644 '{0}'; sed -i 's/^{{/{{ /' '{0}'",
            path.display()
        ));
        let (image, layers) = store.only();
        assert_eq!(layers.len(), 0);
        assert!(image.gaps[0].why.contains(why), "{:?}", image.gaps);
        assert!(image.gaps[0].why.contains(digest), "{:?}", image.gaps);
        assert_eq!(image.verdict(&layers), Verdict::Unknown);
        std::fs::remove_file(&path).expect("blob");
        let (image, _) = store.only();
        let gone = format!("{digest} is not in the content store");
        assert!(image.gaps[0].why.contains(&gone), "{:?}", image.gaps);
        std::fs::write(&path, as_it_was).expect("blob");
    }
    assert_eq!(store.only().0.gaps, []);
}

/// Names, namespaces, snapshotters, and images that nobody unpacked.
#[test]
fn which_images() {
    require_containerd!();
    let store = Store::new(Containerd::start(Kind::Ext4), "overlayfs", Some(Form::Gzip));
    let daemon = &store.daemon;
    daemon.ctr("a", &["images", "tag", NAME, "example.org/second:2"]);
    daemon.import("k8s.io", "native", &store.archive);
    // Of the other one only what is in the archive is there.
    let packed = Image::new()
        .form(Form::Zstd)
        .layer(rootfs().path())
        .archive("example.org/packed:1");
    let path = packed.path.display().to_string();
    daemon.ctr("b", &["images", "import", "--no-unpack", &path]);
    let verified = store.all();
    let told: Vec<(Vec<String>, usize, String)> = verified
        .images
        .iter()
        .map(|(image, layers)| {
            let names = image.names.iter().map(ToString::to_string).collect();
            let gaps: Vec<&str> = image.gaps.iter().map(|gap| gap.why.as_str()).collect();
            (names, layers.len(), gaps.join("; "))
        })
        .collect();
    let names = |names: &[&str]| -> Vec<String> { names.iter().map(|n| (*n).to_owned()).collect() };
    assert_eq!(
        told,
        [
            (names(&[NAME]), 6, String::new()),
            (names(&["example.org/second:2", NAME]), 6, String::new()),
            (
                names(&["example.org/packed:1"]),
                0,
                "it is not unpacked: no snapshotter has files of it that could be verified".into()
            ),
        ]
    );
    assert_eq!(verified.layers.len(), 12);
    // By a name that both have, both are meant.
    let named = |name: &str| {
        let found = image::images(&daemon.here(), &[name.to_owned()]);
        found
            .map(|(images, _)| images.len())
            .map_err(|error| error.to_string())
    };
    assert_eq!(named(NAME), Ok(2));
    assert_eq!(named("example.org/second:2"), Ok(1));
    assert_eq!(named(&store.archive.config), Ok(2));
    assert!(named("example.org/none").is_err());
}

/// Docker with its images in containerd: they are Docker's, by its names.
fn of_docker(driver: Driver) {
    require_next!();
    require!("docker", "runc");
    let daemon = Dockerd::start(driver);
    daemon.import("base", rootfs().path());
    daemon.build(NAME, DOCKERFILE);
    let sources = daemon.disk();
    let layers = verify(&sources, NAME);
    assert_reproduced(&layers);
    let by_itself = Sources {
        data_root: Some(daemon.containerd_root()),
        ..Sources::default()
    };
    for sources in [&sources, &by_itself] {
        let verified = all(sources);
        let mut names: Vec<String> = Vec::new();
        for (image, _) in &verified.images {
            assert_eq!(image.runtime, RuntimeKind::Docker);
            assert_eq!(image.gaps, []);
            assert!(image.image.id.is_some() && image.image.manifest.is_some());
            names.extend(image.names.iter().map(ToString::to_string));
        }
        names.sort();
        assert_eq!(names, ["base:latest", NAME]);
    }
    // Both as another machine's disk, and told once.
    let disk = Disk::with(&[(&daemon.data_root(), "var/lib/docker")]);
    let found = image::images(&disk.sources(), &[NAME.to_owned()]).expect("images");
    assert_eq!((found.0.len(), &found.1[..]), (1, &[][..]));
    let paths: Vec<PathBuf> = layers
        .iter()
        .map(|layer| Path::new(&layer.path.to_string()).to_owned())
        .collect();
    if driver == Driver::BtrfsSnapshots {
        for path in &paths {
            let path = path.display().to_string();
            run("btrfs", &["property", "set", "-ts", &path, "ro", "false"]);
        }
        edit(&paths, WHOLE_TREES);
        let mut expected = lines(WHOLE_TREES_TOLD);
        expected.insert("4 C /app/f22 xattr".to_owned());
        assert_eq!(told(&verify(&sources, NAME)), expected);
    } else {
        // Its stream has no opaque directory there, but names what is gone.
        edit(
            &paths,
            &OWN_FILES.replace("setfattr -x trusted.overlay.opaque $L4/again", ""),
        );
        // What Docker leaves between a layer and the next one is no layer, and containers see it.
        let snapshots = "io.containerd.snapshotter.v1.overlayfs/snapshots";
        let snapshots = daemon
            .containerd_root()
            .join(snapshots)
            .display()
            .to_string();
        shell(&format!(
            "set -- $(ls -dv {snapshots}/*/fs/.dockerenv); cd $(dirname $2); echo planted > etc/hosts; mkdir etc/cron.d"
        ));
        let mut expected = lines(OWN_FILES_TOLD);
        expected.remove("4 C /again xattr");
        expected.insert("3 C /etc/hosts content,times".to_owned());
        expected.insert("3 A /etc/cron.d".to_owned());
        assert_eq!(told(&verify(&sources, NAME)), expected);
    }
}

#[test]
fn docker_overlayfs() {
    of_docker(Driver::Overlayfs);
}

#[test]
fn docker_btrfs_snapshots() {
    of_docker(Driver::BtrfsSnapshots);
}

/// Verifying writes nothing and moves no time, with the daemon dead or alive, where each read would.
#[test]
fn no_trace_is_left() {
    require_containerd!();
    let mut store = Store::new(Containerd::start_strictly(Kind::Ext4), "overlayfs", None);
    store.daemon.kill();
    let root = store.daemon.root().display().to_string();
    shell(&format!("sync -f {root}"));
    let times = || brute::trace(&store.daemon.root());
    let before = times();
    assert!(before == times(), "looking for traces leaves some");
    assert_reproduced(&store.verify());
    assert!(before == times());
}
