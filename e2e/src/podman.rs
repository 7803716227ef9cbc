//! Podman with a store, a run directory and a configuration of its own. There is no daemon: each
//! container has a monitor, which ends with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use std::time::{Duration, Instant};

use plimsoll_core::model::{Gap, Measurement, RuntimeKind};
use plimsoll_host::inspect::{Options, Sources};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::command::run;
use crate::look::inspect_of;
use crate::loopfs::{Kind, LoopFs};
use crate::mounts;
use crate::registry::Registry;

/// The program that mounts overlays without the kernel's overlayfs.
pub const FUSE_OVERLAYFS: &str = "/usr/bin/fuse-overlayfs";

/// Longest wait for the monitors to go away.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a program in a directory that runs fuse-overlayfs where the kernel lets it make no device, as it
/// does not let users before Linux 5.8.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn without_devices(dir: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join("fuse-overlayfs-without-devices");
    std::fs::write(&path, include_str!("without_devices.py")).expect("program");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("mode");
    path
}

/// A store of Podman, rootful, on a file system of its own. On drop its containers are killed and
/// everything that it mounted is unmounted, also when the test panics.
#[derive(Debug)]
pub struct Podman {
    dir: TempDir,
    fs: LoopFs,
    /// Whether it is the newer one.
    next: bool,
}

impl Podman {
    /// Makes an empty store.
    ///
    /// # Panics
    /// When a file cannot be made.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Kind::Ext4, 3072, "")
    }

    /// Makes an empty store on a file system of so many mebibytes, with these mount options more
    /// (`,noatime`): with the btrfs driver on Btrfs, else with the overlay driver.
    ///
    /// # Panics
    /// When a file cannot be made.
    #[must_use]
    pub fn with(kind: Kind, mebibytes: u64, mount_options: &str) -> Self {
        let driver = match kind {
            Kind::Btrfs => "btrfs",
            Kind::Ext4 | Kind::Xfs => "overlay",
        };
        Self::with_driver(driver, kind, mebibytes, mount_options)
    }

    /// Makes an empty store with the driver that copies whole trees.
    ///
    /// # Panics
    /// When a file cannot be made.
    #[must_use]
    pub fn vfs() -> Self {
        Self::with_driver("vfs", Kind::Ext4, 1024, "")
    }

    /// Makes an empty store whose containers fuse-overlayfs mounts.
    ///
    /// # Panics
    /// When a file cannot be made.
    #[must_use]
    pub fn fuse() -> Self {
        let podman = Self::new();
        podman.mount_by(FUSE_OVERLAYFS);
        podman
    }

    /// The same, and the program may make no devices: its marks are files.
    ///
    /// # Panics
    /// When a file cannot be made.
    #[must_use]
    pub fn fuse_without_devices() -> Self {
        let podman = Self::new();
        let program = without_devices(podman.dir.path());
        podman.mount_by(&program.display().to_string());
        podman
    }

    fn with_driver(driver: &str, kind: Kind, mebibytes: u64, mount_options: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-podman-")
            .tempdir()
            .expect("temporary directory");
        let fs = LoopFs::with(kind, mebibytes, &[], mount_options);
        let storage = format!(
            "[storage]\ndriver = \"{driver}\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            fs.path().join("storage").display(),
            dir.path().join("run").display(),
        );
        // Locks in files: those in shared memory are one for the whole machine. The limits that it
        // asks for by itself may be more than it has here.
        let containers = "[containers]\n\
             default_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
             log_driver = \"none\"\n\
             [engine]\nlock_type = \"file\"\ncgroup_manager = \"cgroupfs\"\n\
             events_logger = \"none\"\nruntime = \"runc\"\n";
        for (name, text) in [
            ("storage.conf", storage.as_str()),
            ("containers.conf", containers),
        ] {
            std::fs::write(dir.path().join(name), text).expect("configuration");
        }
        // As the disk of another machine the file system tells by itself where the store is.
        let conf = fs.path().join("etc/containers");
        std::fs::create_dir_all(&conf).expect("directory");
        std::fs::write(
            conf.join("storage.conf"),
            "[storage]\ngraphroot = \"/storage\"\n",
        )
        .expect("configuration");
        Self {
            dir,
            fs,
            next: false,
        }
    }

    /// Makes an empty store of a newer Podman ([`crate::next`]), which keeps as composefs what it takes
    /// from a registry.
    ///
    /// # Panics
    /// When a file cannot be made.
    #[must_use]
    pub fn composefs() -> Self {
        let mut podman = Self::with(Kind::Ext4, 2048, "");
        podman.next = true;
        podman.configure(
            "[storage.options]\n\
             pull_options = {enable_partial_images = \"true\", insecure_allow_unpredictable_image_contents = \"true\"}\n\
             [storage.options.overlay]\nuse_composefs = \"true\"\n",
        );
        let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        std::fs::write(podman.policy(), policy).expect("policy");
        podman
    }

    fn policy(&self) -> PathBuf {
        self.dir.path().join("policy.json")
    }

    /// Gives an image to a registry, removes all and takes it from there, so that its layers are kept as composefs.
    /// Returns its name then.
    ///
    /// # Panics
    /// When it fails.
    pub fn compose(&self, image: &str, registry: &Registry) -> String {
        let name = registry.image(image);
        let policy = self.policy().display().to_string();
        let plain = [
            "--quiet",
            "--tls-verify=false",
            "--signature-policy",
            &policy,
        ];
        let push = ["push", "--compression-format=zstd:chunked"];
        self.podman(&[&push[..], &plain, &[image, &name]].concat());
        // A layer that another image has already would be taken from there.
        self.podman(&["rmi", "--all", "--force"]);
        self.podman(&[&["pull"][..], &plain, &[&name]].concat());
        name
    }

    /// Returns the graph root.
    #[must_use]
    pub fn graph_root(&self) -> PathBuf {
        self.fs.path().join("storage")
    }

    /// Returns where Plimsoll finds the containers of this store as they are.
    #[must_use]
    pub fn live(&self) -> Sources {
        Sources {
            data_root: Some(self.graph_root()),
            ..Sources::default()
        }
    }

    /// Returns the file system of the store as the mounted disk of another machine.
    #[must_use]
    pub fn disk(&self) -> Sources {
        Sources {
            root: Some(self.fs.path()),
            ..Sources::default()
        }
    }

    /// Has the containers mounted by this program from now on.
    ///
    /// # Panics
    /// When the configuration cannot be written.
    pub fn mount_by(&self, program: &str) {
        self.configure(&format!(
            "[storage.options.overlay]\nmount_program = \"{program}\"\n"
        ));
    }

    fn configure(&self, more: &str) {
        let conf = self.dir.path().join("storage.conf");
        let text = std::fs::read_to_string(&conf).expect("configuration");
        std::fs::write(conf, text + more).expect("configuration");
    }

    /// Moves the store aside, and makes an empty one that its images are taken from.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn images_elsewhere(&self) {
        let images = self.fs.path().join("images");
        // The driver holds its directory as a mount of its own.
        mounts::unmount_beneath(&[&self.graph_root()]);
        std::fs::rename(self.graph_root(), &images).expect("rename");
        // What Podman keeps of where its store is.
        std::fs::remove_dir_all(images.join("libpod")).expect("remove");
        let conf =
            |images: &str| format!("[storage.options]\nadditionalimagestores = [\"{images}\"]\n");
        for (file, images) in [
            (
                self.dir.path().join("storage.conf"),
                images.to_str().expect("UTF-8"),
            ),
            (
                self.fs.path().join("etc/containers/storage.conf"),
                "/images",
            ),
        ] {
            let text = std::fs::read_to_string(&file).expect("configuration");
            std::fs::write(file, text + &conf(images)).expect("configuration");
        }
    }

    /// Waits for what Podman does by itself after a container has ended: its monitor has it clean up.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn settle(&self) {
        let root = self.graph_root().display().to_string();
        let busy = || {
            let processes = std::fs::read_dir("/proc").expect("/proc");
            processes.flatten().any(|process| {
                let read = |file: &str| std::fs::read(process.path().join(file));
                let is_ours = |line: Vec<u8>| String::from_utf8_lossy(&line).contains(&root);
                read("comm").is_ok_and(|name| name == b"podman\n")
                    && read("cmdline").is_ok_and(is_ours)
            })
        };
        let start = Instant::now();
        while busy() {
            assert!(start.elapsed() < PATIENCE, "podman goes on cleaning up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a script in a container.
    ///
    /// # Panics
    /// When it fails.
    pub fn exec(&self, name: &str, script: &str) {
        self.podman(&["exec", name, "/bin/sh", "-ec", script]);
    }

    /// Runs the podman command and returns its standard output without the last line end.
    ///
    /// # Panics
    /// When it fails.
    pub fn podman(&self, arguments: &[&str]) -> String {
        let output = self.try_podman(arguments);
        crate::command::told("podman", arguments, &output)
            .trim_end()
            .to_owned()
    }

    /// Runs the podman command.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn try_podman(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("podman")
    }

    /// Returns the podman command with these arguments, to be run as the caller likes.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let file = |name: &str| self.dir.path().join(name);
        let mut command = match self.next {
            true => crate::next::command(&["podman"]),
            false => Command::new("podman"),
        };
        command
            .arg("--tmpdir")
            .arg(file("tmp"))
            .args(arguments)
            .env("PATH", crate::next::path_with_criu())
            .env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
            .env("CONTAINERS_CONF", file("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", file("storage.conf"))
            .stdin(Stdio::null());
        command
    }

    /// Makes an image of one layer from a directory.
    ///
    /// # Panics
    /// When it fails.
    pub fn import(&self, name: &str, rootfs: &Path) {
        let tar = self.dir.path().join("rootfs.tar").display().to_string();
        let rootfs = rootfs.display().to_string();
        run("tar", &["-C", &rootfs, "--xattrs", "-cf", &tar, "."]);
        self.podman(&["import", "--quiet", &tar, name]);
        std::fs::remove_file(tar).expect("tar file");
    }

    /// Makes an image by a Dockerfile, a layer for each of its lines.
    ///
    /// # Panics
    /// When it fails.
    pub fn build(&self, name: &str, dockerfile: &str) {
        let context = tempfile::tempdir_in(self.dir.path()).expect("build context");
        std::fs::write(context.path().join("Dockerfile"), dockerfile).expect("Dockerfile");
        let context = context.path().display().to_string();
        self.podman(&[
            "build",
            "--network=none",
            "--layers",
            "--tag",
            name,
            &context,
        ]);
    }

    /// Creates a container without a network and starts it.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, name: &str, image: &str, command: &[&str]) {
        let first = ["run", "--detach", "--network=none", "--name", name, image];
        self.podman(&[&first, command].concat());
    }

    /// Returns a container that runs.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn running(&self, name: &str) -> Running {
        const FORMAT: &str =
            "{{.State.Pid}}\n{{.GraphDriver.Data.MergedDir}}\n{{.GraphDriver.Data.LowerDir}}";
        let told = self.podman(&["container", "inspect", "--format", FORMAT, name]);
        let mut lines = told.lines();
        let pid = lines.next().and_then(|pid| pid.parse().ok());
        let mut dir = || PathBuf::from(lines.next().unwrap_or_default());
        let running = Running {
            pid: pid.and_then(Pid::from_raw).expect("its process"),
            merged: dir(),
            lower: dir(),
        };
        assert!(running.merged.is_dir() && running.lower.is_dir(), "{told}");
        running
    }

    /// Returns whether a process of this store still runs: a monitor, or what it does at the end.
    fn is_busy(&self) -> bool {
        let dir = self.dir.path().as_os_str().as_encoded_bytes();
        let holds = |line: &[u8]| line.windows(dir.len()).any(|window| window == dir);
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
            .any(|line| holds(&line))
    }
}

/// A running container.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    /// Its root as the host sees it, without what is mounted over it.
    pub merged: PathBuf,
    /// Its image, when that has one layer.
    pub lower: PathBuf,
}

impl Running {
    /// Kills it. Its monitor then takes down what belongs to it, meanwhile.
    ///
    /// # Panics
    /// When it has ended by itself.
    pub fn kill(&self) {
        kill_process(self.pid, Signal::KILL).expect("kill");
    }
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Not removed: a test made files immutable in some of them. Killed is enough.
        drop(self.try_podman(&["kill", "--all", "--signal", "KILL"]));
        let start = Instant::now();
        while self.is_busy() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        mounts::unmount_beneath(&[self.dir.path(), &self.fs.path()]);
    }
}

/// Looks at containers of Podman, all when no name is given, as the command line does.
///
/// # Errors
/// The sentence, when the run could not be done.
pub fn inspect(sources: Sources, names: &[&str]) -> Result<(Vec<Measurement>, Vec<Gap>), String> {
    inspect_of(RuntimeKind::Podman, sources, names, Options::default())
}

/// Looks at one container, of which everything must be seen.
///
/// # Panics
/// When it cannot be found or something could not be seen.
#[must_use]
pub fn inspect_one(sources: Sources, name: &str) -> Measurement {
    let (mut found, gaps) = inspect(sources, &[name]).expect("inspect");
    assert_eq!(gaps, [], "{name}");
    let measurement = found.pop().expect("one container");
    assert_eq!(measurement.gaps, [], "{name}");
    measurement
}
