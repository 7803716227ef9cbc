//! Real stores with an image of six layers, and edits of these.

use std::path::PathBuf;

use plimsoll_core::model::{DiffId, LayerMeasurement};
use plimsoll_core::trust::chain_ids;
use plimsoll_host::inspect::Sources;

use crate::dockerd::{Dockerd, Driver};
pub use crate::image_layers::NAME;
use crate::image_layers::{DOCKERFILE, edit, rootfs, storage_layers, verify};
use crate::podman::Podman;

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
        let layers = storage_layers(&podman.graph_root(), driver, "acme/web:1");
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
        verify(&self.sources(), NAME)
    }

    /// Runs a script in which `$L1` and on are the directories of the layers, the base first.
    ///
    /// # Panics
    /// When it fails.
    pub fn edit(&self, script: &str) {
        edit(&self.layers, script);
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
