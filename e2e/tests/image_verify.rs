//! The layers of images in real stores: each digest reproduced, and every edit of a layer found and
//! named.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use plimsoll_core::Verdict;
use plimsoll_core::model::{Aspect, DiffId, LayerMeasurement};
use plimsoll_core::trust::chain_ids;
use plimsoll_e2e::command::shell;
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::podman::Podman;
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_e2e::{program, require};
use plimsoll_host::image;
use plimsoll_host::inspect::Sources;

const NAME: &str = "localhost/acme/web:1";

/// What the layers above the base do. They hold whiteouts, of files and of directories, hard links, and a
/// directory that was taken away and made again.
const DOCKERFILE: &str = r"FROM base
RUN rm -r /old && echo new > /app/f1 && chmod 600 /app/f2
RUN rm /app/f3 && mkdir -p /new/dir && echo x > /new/dir/x && ln /new/dir/x /new/dir/y
RUN rm -r /again && mkdir /again && echo again > /again/file
RUN echo '#!/bin/sh' > /usr/bin/run && chmod 755 /usr/bin/run
RUN mv /app/f4 /app/g4 && touch -t 200001010000 /app/f5
";

/// Who keeps the image.
enum Runtime {
    Docker(Dockerd),
    Podman(Podman),
}

/// A store with an image of six layers.
struct Store {
    runtime: Runtime,
    /// Where the layers lie, the base first.
    layers: Vec<PathBuf>,
}

/// Makes the rootfs of the base.
fn rootfs() -> tempfile::TempDir {
    let rootfs = small_rootfs();
    shell(&format!(
        r#"cd "{}"; mkdir -p app old/deep again
        for n in $(seq 60); do echo "$n" > app/f$n; done
        echo old > old/deep/file; echo before > again/before
        name=$(printf 'x%.0s' $(seq 200)); mkdir $name; echo long > $name/$name; ln -s $name/$name $name/link
        touch $'app/not\xfftext'; mkfifo app/fifo; mknod app/null c 1 3
        truncate -s 3M app/sparse; echo end >> app/sparse
        cp bin/busybox app/capable; chmod 4755 app/capable; chown 7:8 app/f7
        setcap cap_net_raw+ep app/capable; setfattr -n user.note -v 'a value' app/f8"#,
        rootfs.path().display()
    ));
    rootfs
}

impl Store {
    fn of_docker(driver: Driver) -> Self {
        let daemon = Dockerd::start(driver);
        daemon.import("base", rootfs().path());
        daemon.build(NAME, DOCKERFILE);
        let ids = daemon.docker(&[
            "inspect",
            "--format",
            "{{range .RootFS.Layers}}{{println .}}{{end}}",
            NAME,
        ]);
        let ids: Vec<DiffId> = ids
            .split_whitespace()
            .map(|id| id.parse().expect("a diffID"))
            .collect();
        assert_eq!(ids.len(), 6);
        let layerdb = daemon
            .data_root()
            .join(format!("image/{}/layerdb/sha256", driver.as_str()));
        let layers = chain_ids(&ids)
            .iter()
            .map(|id| {
                let record = layerdb.join(id.digest().hex()).join("cache-id");
                daemon.layer_dir(std::fs::read_to_string(record).expect("cache-id").trim())
            })
            .collect();
        Self {
            runtime: Runtime::Docker(daemon),
            layers,
        }
    }

    fn of_podman(podman: Podman, driver: &str) -> Self {
        podman.import("base", rootfs().path());
        podman.build(NAME, DOCKERFILE);
        let records = podman
            .graph_root()
            .join(format!("{driver}-layers/layers.json"));
        let records = std::fs::read(records).expect("layers.json");
        let records: serde_json::Value = serde_json::from_slice(&records).expect("JSON");
        let records = records.as_array().expect("an array");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let images = podman
            .graph_root()
            .join(format!("{driver}-images/images.json"));
        let images = std::fs::read(images).expect("images.json");
        let images: serde_json::Value = serde_json::from_slice(&images).expect("JSON");
        let is_it = |image: &&serde_json::Value| image["names"].to_string().contains("acme/web:1");
        let mut images = images.as_array().expect("an array").iter();
        let mut next = text(&images.find(is_it).expect("the image")["layer"]);
        let mut layers = Vec::new();
        while !next.is_empty() {
            layers.push(podman.graph_root().join(match driver {
                "overlay" => format!("overlay/{next}/diff"),
                "btrfs" => format!("btrfs/subvolumes/{next}"),
                _ => format!("vfs/dir/{next}"),
            }));
            let record = records.iter().find(|record| record["id"] == *next);
            next = text(&record.expect("a layer")["parent"]);
        }
        layers.reverse();
        assert_eq!(layers.len(), 6);
        Self {
            runtime: Runtime::Podman(podman),
            layers,
        }
    }

    fn docker(&self) -> &Dockerd {
        match &self.runtime {
            Runtime::Docker(daemon) => daemon,
            Runtime::Podman(_) => panic!("not Docker's"),
        }
    }

    fn sources(&self) -> Sources {
        match &self.runtime {
            Runtime::Docker(daemon) => daemon.disk(),
            Runtime::Podman(podman) => podman.live(),
        }
    }

    /// Verifies the image, and returns what its layers came to.
    fn verify(&self) -> Vec<LayerMeasurement> {
        let (images, gaps) = image::images(&self.sources(), &[NAME.to_owned()]).expect("images");
        assert_eq!(gaps, []);
        let verified = image::verify(images, NonZero::new(2).expect("two"), &|_| {});
        let (image, layers) = verified.images.first().expect("one image");
        assert_eq!(image.gaps, []);
        assert_eq!(*layers, (0..6).collect::<Vec<_>>());
        verified.layers
    }

    /// Runs a script in which `$L1` and on are the directories of the layers, the base first.
    fn edit(&self, script: &str) {
        let names: String = (1..)
            .zip(&self.layers)
            .map(|(n, path)| format!("L{n}='{}'\n", path.display()))
            .collect();
        shell(&format!(
            "{names}
            # keep FILE COMMAND...: the time of a file stays what it was.
            keep() {{ file=$1; shift; touch -r \"$file\" /tmp/plimsoll-time.$$; \"$@\"; touch -r /tmp/plimsoll-time.$$ \"$file\"; rm /tmp/plimsoll-time.$$; }}
            bit() {{ keep \"$1\" python3 -c 'import sys; f = open(sys.argv[1], \"r+b\"); b = f.read(1); f.seek(0); f.write(bytes([b[0] ^ 1]))' \"$1\"; }}
            {script}"
        ));
    }
}

/// Returns what was found, a string each: layer, letter, path, aspects. That directories have other times
/// since something in them was changed is left out.
fn told(layers: &[LayerMeasurement]) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for (n, layer) in (1..).zip(layers) {
        for change in &layer.changes {
            assert_eq!(change.origin, Some(layer.diff_id));
            let is_directory = change
                .after
                .as_ref()
                .is_some_and(|after| after.file_type.has_entries());
            let aspects: Vec<&str> = change.aspects.iter().map(Aspect::as_str).collect();
            if is_directory && aspects == ["times"] {
                continue;
            }
            let line = format!(
                "{n} {} {} {}",
                change.kind.letter(),
                change.path,
                aspects.join(",")
            );
            told.insert(line.trim_end().to_owned());
        }
    }
    told
}

fn lines(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

fn untouched(store: &Store) {
    for (n, layer) in (1..).zip(store.verify()) {
        assert_eq!(layer.rebuilt.as_ref(), Some(layer.diff_id.digest()), "{n}");
        assert_eq!((layer.changes, layer.gaps), (vec![], vec![]), "{n}");
        assert!(layer.bytes > 0);
    }
}

macro_rules! require_docker {
    () => {
        require!(
            "dockerd",
            "containerd",
            "docker",
            "busybox",
            "setpriv",
            "setcap",
            "setfattr",
            "python3",
            "mkfs.btrfs"
        )
    };
}

macro_rules! require_podman {
    () => {
        require!(
            "podman",
            "runc",
            "busybox",
            "setcap",
            "setfattr",
            "python3",
            "mkfs.btrfs"
        )
    };
}

/// How the layers of a store are marked.
struct Marks {
    /// What stands before the name of what a layer takes away.
    prefix: &'static str,
    /// How something that was taken away is let show through again, and how it is told.
    unveil: &'static str,
    unveiled: &'static str,
    /// A mark more, and how it is told.
    plant: &'static str,
    planted: &'static str,
}

/// As the kernel has them.
const DEVICES: Marks = Marks {
    prefix: "",
    unveil: "setfattr -x trusted.overlay.opaque $L4/again",
    unveiled: "4 C /again xattr",
    plant: "",
    planted: "",
};

/// As they are unpacked for fuse-overlayfs: what the stream has.
const FILES: Marks = Marks {
    prefix: ".wh.",
    unveil: "rm $L6/app/.wh.f4; chmod 700 $L4/again",
    unveiled: "4 C /again mode\n6 D /app/f4",
    plant: ": > $L6/app/.wh.f21; : > $L5/usr/.wh..wh..opq",
    planted: "6 A /app/.wh.f21\n5 A /usr/.wh..wh..opq",
};

/// One edit of each kind, each in a place of its own, and all of them told by name.
fn own_files(store: &Store, marks: &Marks) {
    untouched(store);
    store.edit(&format!(
        r"bit $L1/app/f10
        chmod 644 $L1/app/capable; setfattr -x security.capability $L1/app/capable
        chown 1 $L1/app/f12
        keep $L1/app/f8 setfattr -n user.note -v 'b value' $L1/app/f8
        keep $L1/app/f13 setfattr -n user.more -v 1 $L1/app/f13
        touch -d 2001-01-01 $L1/app/f14
        rm $L1/app/f15
        ln -sfn other $L1/usr/bin/link
        rm $L1/app/f16; mkdir $L1/app/f16
        echo planted > $L1/app/planted
        rm $L1/app/null; mknod $L1/app/null c 1 5
        bit $L1/app/f3
        rm $L2/{0}old; echo x > $L2/app/under
        cp $L3/new/dir/x $L3/new/dir/z; mv $L3/new/dir/z $L3/new/dir/y
        rm $L3/app/{0}f3
        {1}
        setfattr -n trusted.overlay.opaque -v y $L5/usr/bin
        mknod $L6/app/f20 c 0 0
        {2}",
        marks.prefix, marks.unveil, marks.plant
    ));
    let layers = store.verify();
    assert_eq!(
        told(&layers),
        lines(&format!(
            "1 C /app/capable mode,xattr
            1 C /app/f10 content
            1 C /app/f12 owner
            1 C /app/f13 xattr
            1 C /app/f14 times
            1 C /app/f3 content
            1 C /app/f8 xattr
            1 C /app/null device,times
            1 C /usr/bin/link target,times
            1 D /app/f15
            1 T /app/f16
            1 A /app/planted
            2 D /old
            2 A /app/under
            3 C /new/dir/y links
            3 D /app/f3
            {}
            5 C /usr/bin xattr
            6 A /app/f20
            {}",
            marks.unveiled, marks.planted
        ))
    );
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
    require_docker!();
    own_files(&Store::of_docker(Driver::Overlay2), &DEVICES);
}

#[test]
fn podman_overlay() {
    require_podman!();
    own_files(&Store::of_podman(Podman::new(), "overlay"), &DEVICES);
}

#[test]
fn podman_fuse_overlayfs() {
    require!("fuse-overlayfs");
    require_podman!();
    own_files(&Store::of_podman(Podman::fuse(), "overlay"), &FILES);
}

/// What lies in whole trees: an edit is told of the layer in whose tree it was made.
fn whole_trees(store: &Store, has_attributes: bool) {
    untouched(store);
    store.edit(
        r"bit $L1/app/f21
        chmod 600 $L2/app/f1
        mkdir $L2/old; echo back > $L2/old/back
        echo planted > $L3/app/planted
        bit $L4/app/f20
        keep $L4/app/f22 setfattr -n user.more -v 1 $L4/app/f22
        echo before > $L4/again/before
        rm $L5/app/f31
        bit $L5/usr/bin/run
        chmod 777 $L6/app/f30
        rm $L6/new/dir/y",
    );
    let layers = store.verify();
    let mut found = told(&layers);
    // A copy has no attributes of users: Docker leaves them behind.
    let xattr = found.remove("4 C /app/f22 xattr");
    assert_eq!(xattr, has_attributes);
    assert_eq!(
        found,
        lines(
            "1 C /app/f21 content
            2 C /app/f1 mode
            2 A /old
            2 A /old/back
            3 A /app/planted
            4 A /again/before
            4 C /app/f20 content
            5 C /usr/bin/run content
            5 D /app/f31
            6 C /app/f30 mode
            6 D /new/dir/y"
        )
    );
    for layer in &layers {
        assert_eq!(layer.verdict(), Verdict::Violated);
        assert_eq!(layer.gaps, []);
    }
}

#[test]
fn docker_btrfs() {
    require_docker!();
    whole_trees(&Store::of_docker(Driver::Btrfs), true);
}

#[test]
fn podman_btrfs() {
    require_podman!();
    let podman = Podman::with(Kind::Btrfs, 2048, "");
    whole_trees(&Store::of_podman(podman, "btrfs"), true);
}

#[test]
fn podman_vfs() {
    require_podman!();
    whole_trees(&Store::of_podman(Podman::vfs(), "vfs"), false);
}

#[test]
fn docker_vfs() {
    require_docker!();
    whole_trees(&Store::of_docker(Driver::Vfs), false);
}

/// What the records of the runtime cannot be used for is never called intact.
#[test]
fn records_that_lie() {
    require_docker!();
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
    require_docker!();
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
