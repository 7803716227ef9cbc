//! What is looked at: one image with one set of changes, in each runtime that is asked about it.

use std::path::{Path, PathBuf};
use std::process::Command;

use plimsoll_e2e::command::{run, shell};
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::loopfs::Kind as FileSystem;
use plimsoll_e2e::podman::Podman;

use crate::archive::{Archive, reference};
use crate::changes::{Truth, apply};

/// The runtimes of one storage driver, each with a store of its own.
#[derive(Debug)]
pub(crate) struct Runtimes {
    /// Docker, and the containerd under it.
    pub(crate) docker: Dockerd,
    /// Podman.
    pub(crate) podman: Podman,
}

/// Mebibytes of a file system for everything; it takes space only as it fills up.
const ROOM: u64 = 48 << 10;

/// Each file that is copied up is synced: ten thousand of them, in four containers, would take a good
/// part of an hour on a real disk. No tool is measured writing to ext4. Btrfs keeps its barriers, for
/// there some tools begin with a commit.
pub(crate) const NO_BARRIER: &str = ",nobarrier";

/// The name space that images lie in for `ctr`.
const NAMESPACE: &str = "bench";

impl Runtimes {
    /// Starts them.
    pub(crate) fn start(driver: Driver) -> Self {
        let (file_system, options) = match driver {
            Driver::Btrfs => (FileSystem::Btrfs, ""),
            _ => (FileSystem::Ext4, NO_BARRIER),
        };
        Self {
            docker: Dockerd::sized(driver, ROOM, options, "{}"),
            podman: Podman::with(file_system, ROOM, options),
        }
    }

    fn snapshotter(&self) -> &'static str {
        match self.docker.driver() {
            Driver::Btrfs => "btrfs",
            _ => "overlayfs",
        }
    }

    /// Loads an image into Docker.
    pub(crate) fn load(&self, archive: &Archive) {
        let path = archive.path.display().to_string();
        self.docker.docker(&["load", "--quiet", "--input", &path]);
    }

    /// Loads an image into Podman and containerd; returns the name that Podman gives it.
    pub(crate) fn load_elsewhere(&self, archive: &Archive) -> String {
        let path = archive.path.display().to_string();
        let output = self.ctr(&[
            "images",
            "import",
            "--snapshotter",
            self.snapshotter(),
            &path,
        ]);
        finish(output);
        let loaded = self.podman.podman(&["load", "--quiet", "--input", &path]);
        let name = loaded.rsplit(' ').next().unwrap_or_default();
        assert!(
            name.contains(&reference(archive.spec)),
            "podman load: {loaded}"
        );
        name.to_owned()
    }

    /// Returns the `ctr` command with these arguments.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.docker.containerd_socket())
            .args(["--namespace", NAMESPACE])
            .args(arguments);
        command
    }
}

fn finish(mut command: Command) -> String {
    let output = command
        .env("PATH", plimsoll_e2e::command::PATH)
        .output()
        .expect("a program");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A Docker container with its changes done.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its name.
    pub(crate) name: String,
    /// Its id.
    pub(crate) id: String,
    /// Its root, as long as it runs.
    pub(crate) root: PathBuf,
    /// Its upper directory or its subvolume.
    pub(crate) layer: PathBuf,
    /// The image's side: on Btrfs the subvolume that it is a snapshot of.
    pub(crate) init: PathBuf,
    /// With Btrfs: the subvolume's id, and the transaction in which it was made.
    pub(crate) subvolume: Option<(u64, u64)>,
}

impl Container {
    /// Runs one and does the changes in it.
    pub(crate) fn run(docker: &Dockerd, name: &str, archive: &Archive, truth: &Truth) -> Self {
        let id = docker.run(name, &[], &reference(archive.spec), &[]);
        let container = Self::of(docker, name, id);
        apply(truth, &container.root);
        container
    }

    /// Takes one that is there.
    pub(crate) fn of(docker: &Dockerd, name: &str, id: String) -> Self {
        let layer = docker.layer(&id, "");
        let subvolume = (docker.driver() == Driver::Btrfs).then(|| subvolume(&layer));
        Self {
            name: name.to_owned(),
            root: docker.rootfs(&id),
            init: docker.layer(&id, "-init"),
            id,
            layer,
            subvolume,
        }
    }
}

/// Returns a subvolume's id, and the transaction in which it was made.
fn subvolume(path: &Path) -> (u64, u64) {
    let shown = run("btrfs", &["subvolume", "show", &path.display().to_string()]);
    let number = |name: &str| {
        let mut lines = shown.lines().map(str::trim);
        lines
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or_else(|| panic!("{name} in {shown}"))
    };
    (number("Subvolume ID:"), number("Gen at creation:"))
}

/// The same image and changes in Podman and in containerd.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    /// The container's name in Podman.
    pub(crate) podman: String,
    /// The snapshot's key in containerd.
    pub(crate) snapshot: String,
}

impl Elsewhere {
    /// Makes both and does the changes in them.
    pub(crate) fn make(
        runtimes: &Runtimes,
        name: &str,
        image: &str,
        archive: &Archive,
        truth: &Truth,
    ) -> Self {
        runtimes.podman.run(name, image, &[]);
        let root = runtimes.podman.podman(&["mount", name]);
        apply(truth, Path::new(&root));
        runtimes.podman.podman(&["unmount", name]);

        let snapshots = ["snapshots", "--snapshotter", runtimes.snapshotter()];
        let ctr = |arguments: &[&str]| finish(runtimes.ctr(&[&snapshots, arguments].concat()));
        ctr(&["prepare", name, &archive.chain_id]);
        let at = runtimes.docker.scratch().join(format!("snapshot-{name}"));
        std::fs::create_dir(&at).expect("mount point");
        let place = at.display().to_string();
        shell(&ctr(&["mounts", &place, name]));
        apply(truth, &at);
        run("umount", &[&place]);
        Self {
            podman: name.to_owned(),
            snapshot: name.to_owned(),
        }
    }

    /// Returns the command that tells the snapshot's changes.
    pub(crate) fn ctr_diff(&self, runtimes: &Runtimes) -> Command {
        runtimes.ctr(&[
            "snapshots",
            "--snapshotter",
            runtimes.snapshotter(),
            "diff",
            "--media-type",
            "application/vnd.oci.image.layer.v1.tar",
            &self.snapshot,
        ])
    }
}
