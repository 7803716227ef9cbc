//! Podman of a user who is not root, with a home, an account and ids that nobody else sees: they are
//! laid over `/etc` in a mount namespace of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use plimsoll_host::inspect::Sources;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::command::{PATH, run};

/// The user.
pub const UID: u32 = 42_421;

/// The first of the ids that the user may give to containers.
pub const SUBORDINATE: u32 = 1_000_000;

/// Longest wait for the user's processes to go away.
const PATIENCE: Duration = Duration::from_secs(30);

/// The user's Podman, with overlays that the kernel mounts, or a program. On drop its containers are killed, also when
/// the test panics.
#[derive(Debug)]
pub struct Rootless {
    dir: TempDir,
}

impl Rootless {
    /// Makes the account and an empty store.
    ///
    /// # Panics
    /// When a file cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-rootless-")
            .tempdir()
            .expect("temporary directory");
        let user = Self { dir };
        let account = |home: &str| format!("ann:x:{UID}:{UID}::{home}:/bin/sh\n");
        let ids = format!("ann:{SUBORDINATE}:65536\n");
        let containers = "[containers]\n\
             default_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
             log_driver = \"none\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\n\
             events_logger = \"none\"\nruntime = \"runc\"\n";
        let passwd = format!(
            "root:x:0:0:root:/root:/bin/sh\n{}",
            account(&user.show("home/ann"))
        );
        let conf = "home/ann/.config/containers";
        for (file, text) in [
            // What is laid over /etc.
            ("over/passwd", passwd.as_str()),
            ("over/group", &format!("root:x:0:\nann:x:{UID}:\n")),
            ("over/subuid", &ids),
            ("over/subgid", &ids),
            // As the disk of another machine the directory has its own.
            ("etc/passwd", &account("/home/ann")),
            ("etc/subuid", &ids),
            ("etc/subgid", &ids),
            (&format!("{conf}/containers.conf"), containers),
            (
                &format!("{conf}/storage.conf"),
                "[storage]\ndriver = \"overlay\"\n",
            ),
        ] {
            let path = user.dir.path().join(file);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            std::fs::write(path, text).expect("file");
        }
        std::fs::create_dir(user.dir.path().join("run")).expect("directory");
        let of_ann = format!("{UID}:{UID}");
        run(
            "chown",
            &["-R", &of_ann, &user.show("home/ann"), &user.show("run")],
        );
        run("chmod", &["755", &user.show("")]);
        run("chmod", &["700", &user.show("run")]);
        user
    }

    fn show(&self, relative: &str) -> String {
        self.dir.path().join(relative).display().to_string()
    }

    /// Has the containers mounted by this program from now on.
    ///
    /// # Panics
    /// When the configuration cannot be written.
    pub fn mount_by(&self, program: &Path) {
        let conf = self
            .dir
            .path()
            .join("home/ann/.config/containers/storage.conf");
        let text = std::fs::read_to_string(&conf).expect("configuration");
        let program = program.display();
        let more = format!("[storage.options.overlay]\nmount_program = \"{program}\"\n");
        std::fs::write(conf, text + &more).expect("configuration");
    }

    /// Returns a directory that the user can read.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs the podman command as the user and returns its standard output.
    ///
    /// # Panics
    /// When it fails.
    pub fn podman(&self, arguments: &[&str]) -> String {
        let output = self.try_podman(arguments);
        crate::command::told("podman", arguments, &output)
            .trim_end()
            .to_owned()
    }

    /// Runs the podman command as the user.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn try_podman(&self, arguments: &[&str]) -> Output {
        let id = format!("{UID}");
        let lower = format!("lowerdir={}:/etc", self.show("over"));
        // The machine may let nobody but root use FUSE.
        let script = "mount -t overlay -o \"$1\" overlay /etc; shift
            if [ -e /dev/fuse ]; then mount -t tmpfs -o mode=755 tmpfs /mnt; mknod /mnt/fuse c 10 229
            chmod 666 /mnt/fuse; mount --bind /mnt/fuse /dev/fuse; umount -l /mnt; fi; exec \"$@\"";
        Command::new("unshare")
            .args(["--mount", "/bin/sh", "-ec", script, "sh", &lower])
            .args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"])
            .arg("podman")
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", self.show("home/ann"))
            .env("USER", "ann")
            .env("XDG_RUNTIME_DIR", self.show("run"))
            .current_dir(self.dir.path())
            .stdin(std::process::Stdio::null())
            .output()
            .expect("unshare")
    }

    /// Makes an image of one layer from a directory.
    ///
    /// # Panics
    /// When it fails.
    pub fn import(&self, name: &str, rootfs: &Path) {
        let tar = self.show("rootfs.tar");
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
        std::fs::create_dir_all(self.show("context")).expect("build context");
        std::fs::write(self.show("context/Dockerfile"), dockerfile).expect("Dockerfile");
        let context = self.show("context");
        self.podman(&[
            "build",
            "--network=none",
            "--layers",
            "--tag",
            name,
            &context,
        ]);
    }

    /// Returns the graph root.
    #[must_use]
    pub fn graph_root(&self) -> PathBuf {
        self.show("home/ann/.local/share/containers/storage").into()
    }

    /// Returns where Plimsoll finds the containers of the store as they are.
    #[must_use]
    pub fn live(&self) -> Sources {
        Sources {
            data_root: Some(self.graph_root()),
            ..Sources::default()
        }
    }

    /// Returns the directory as the mounted disk of another machine, on which the user has to be found.
    #[must_use]
    pub fn disk(&self) -> Sources {
        Sources {
            root: Some(self.dir.path().to_owned()),
            ..Sources::default()
        }
    }

    /// Returns whether a process of the user's containers still runs.
    fn is_busy(&self) -> bool {
        let dir = self.dir.path().as_os_str().as_encoded_bytes();
        let holds = |line: &[u8]| line.windows(dir.len()).any(|window| window == dir);
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
            .any(|line| holds(&line))
    }
}

impl Default for Rootless {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        let kill = || self.podman(&["kill", "--all", "--signal", "KILL"]);
        drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(kill)));
        let start = Instant::now();
        while self.is_busy() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        // The process that holds the user's namespaces, and with them all that is mounted there.
        let pause = std::fs::read_to_string(self.show("run/libpod/tmp/pause.pid"));
        let pause = pause.ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(pause) = pause.and_then(Pid::from_raw) {
            let gone = kill_process(pause, Signal::KILL).is_err();
            assert!(!gone || std::thread::panicking(), "the user's namespaces");
        }
    }
}
