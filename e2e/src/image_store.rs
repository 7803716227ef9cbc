//! Real stores with an image of six layers, and edits of these.

use std::num::NonZero;
use std::path::PathBuf;

use plimsoll_core::model::{DiffId, LayerMeasurement};
use plimsoll_core::trust::chain_ids;
use plimsoll_host::image;
use plimsoll_host::inspect::Sources;

use crate::command::shell;
use crate::dockerd::{Dockerd, Driver};
use crate::podman::Podman;
use crate::rootfs::small_rootfs;

/// What the image is called.
pub const NAME: &str = "localhost/acme/web:1";

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
#[derive(Debug)]
pub enum Runtime {
    /// Docker.
    Docker(Dockerd),
    /// Podman.
    Podman(Podman),
}

/// A store with an image of six layers.
#[derive(Debug)]
pub struct Store {
    /// Who keeps it.
    pub runtime: Runtime,
    /// Where the layers lie, the base first.
    pub layers: Vec<PathBuf>,
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
    /// Returns one of Docker's.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn of_docker(driver: Driver) -> Self {
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

    /// Returns one of Podman's, which has this storage driver.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn of_podman(podman: Podman, driver: &str) -> Self {
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

    /// Returns the daemon.
    ///
    /// # Panics
    /// When it is not Docker's.
    #[must_use]
    pub fn docker(&self) -> &Dockerd {
        match &self.runtime {
            Runtime::Docker(daemon) => daemon,
            Runtime::Podman(_) => panic!("not Docker's"),
        }
    }

    /// Returns where its images are looked for.
    #[must_use]
    pub fn sources(&self) -> Sources {
        match &self.runtime {
            Runtime::Docker(daemon) => daemon.disk(),
            Runtime::Podman(podman) => podman.live(),
        }
    }

    /// Verifies the image, and returns what its layers came to.
    ///
    /// # Panics
    /// When it is not found, or not whole.
    #[must_use]
    pub fn verify(&self) -> Vec<LayerMeasurement> {
        let (images, gaps) = image::images(&self.sources(), &[NAME.to_owned()]).expect("images");
        assert_eq!(gaps, []);
        let verified = image::verify(images, NonZero::new(2).expect("two"), &|_| {});
        let (image, layers) = verified.images.first().expect("one image");
        assert_eq!(image.gaps, []);
        assert_eq!(*layers, (0..6).collect::<Vec<_>>());
        verified.layers
    }

    /// Runs a script in which `$L1` and on are the directories of the layers, the base first.
    ///
    /// # Panics
    /// When it fails.
    pub fn edit(&self, script: &str) {
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

/// Leaves the test, loudly, where an image of Docker's cannot be made; in CI that is a failure.
#[macro_export]
macro_rules! require_docker_image {
    () => {
        $crate::require!(
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

/// The same of Podman's.
#[macro_export]
macro_rules! require_podman_image {
    () => {
        $crate::require!(
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
