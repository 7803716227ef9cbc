//! A real Docker daemon for one test: its own file system, containerd, sockets and directories.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use plimsoll_host::inspect::Sources;
use tempfile::TempDir;

use crate::command::run;
use crate::loopfs::{Kind, LoopFs};
use crate::shims::Shims;

/// Longest wait for a daemon to come up or go away.
const PATIENCE: Duration = Duration::from_secs(30);

/// A storage driver, on the file system that it is tested on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// `overlay2` on ext4.
    Overlay2,
    /// `overlay2` on XFS.
    Overlay2OnXfs,
    /// `btrfs`.
    Btrfs,
    /// `vfs` on ext4.
    Vfs,
    /// The containerd image store with the snapshotter `overlayfs`, on ext4: [`next`].
    Overlayfs,
    /// The same with the snapshotter `btrfs`.
    BtrfsSnapshots,
}

impl Driver {
    /// Returns the name that dockerd knows it by.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlay2 | Self::Overlay2OnXfs => "overlay2",
            Self::Btrfs | Self::BtrfsSnapshots => "btrfs",
            Self::Vfs => "vfs",
            Self::Overlayfs => "overlayfs",
        }
    }

    /// Whether containerd keeps the layers.
    fn is_of_containerd(self) -> bool {
        matches!(self, Self::Overlayfs | Self::BtrfsSnapshots)
    }

    fn file_system(self) -> Kind {
        match self {
            Self::Overlay2 | Self::Vfs | Self::Overlayfs => Kind::Ext4,
            Self::Overlay2OnXfs => Kind::Xfs,
            Self::Btrfs | Self::BtrfsSnapshots => Kind::Btrfs,
        }
    }
}

/// A running dockerd. On drop every process of it ends and everything that it mounted is unmounted,
/// also when the test panics. When the test itself is killed the daemons go with it; only mounts and
/// containers can be left then.
#[derive(Debug)]
pub struct Dockerd {
    driver: Driver,
    containerd: Option<Child>,
    dockerd: Option<Child>,
    dir: TempDir,
    fs: LoopFs,
}

impl Dockerd {
    /// Starts a daemon with this storage driver.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(driver: Driver) -> Self {
        Self::with(driver, "", "{}")
    }

    /// The same with more mount options for its file system (`,strictatime`) and with settings in its
    /// `daemon.json`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn with(driver: Driver, mount_options: &str, settings: &str) -> Self {
        Self::sized(driver, 3072, mount_options, settings)
    }

    /// The same on a file system of so many mebibytes, which takes space only as it fills up.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn sized(driver: Driver, mebibytes: u64, mount_options: &str, settings: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-dockerd-")
            .tempdir()
            .expect("temporary directory");
        let mut daemon = Self {
            driver,
            containerd: None,
            dockerd: None,
            dir,
            fs: LoopFs::with(driver.file_system(), mebibytes, &[], mount_options),
        };
        daemon.write_configuration(settings);
        daemon.start_containerd();
        daemon.start_dockerd();
        daemon
    }

    fn write_configuration(&self, settings: &str) {
        let base = self.dir.path().display();
        let containerd = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{base}/containerd\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = \"{base}/containerd.sock\"\n",
            self.containerd_root().display(),
        );
        let mut settings: serde_json::Value = serde_json::from_str(settings).expect("settings");
        if self.driver.is_of_containerd() {
            settings["features"] = serde_json::json!({"containerd-snapshotter": true});
        } else {
            // Else it is written to /etc/docker; newer ones have no such key.
            settings["deprecated-key-path"] = format!("{base}/key.json").into();
        }
        for (name, text) in [
            ("containerd.toml", containerd),
            ("daemon.json", settings.to_string()),
        ] {
            std::fs::write(self.dir.path().join(name), text).expect("configuration");
        }
    }

    /// Returns where containerd keeps what stays: with its image store where a Docker daemon lets one
    /// keep it that it has started itself.
    #[must_use]
    pub fn containerd_root(&self) -> PathBuf {
        match self.driver.is_of_containerd() {
            true => self.data_root().join("containerd/daemon"),
            false => self.fs.path().join("containerd"),
        }
    }

    fn start_containerd(&mut self) {
        let child = self.spawn(
            "containerd",
            &["--config".into(), self.file("containerd.toml")],
        );
        self.containerd = Some(child);
        let socket = self.dir.path().join("containerd.sock");
        self.wait_for("containerd", || socket.exists());
    }

    fn start_dockerd(&mut self) {
        let arguments = [
            format!("--config-file={}", self.file("daemon.json")),
            format!("--data-root={}", self.data_root().display()),
            format!("--exec-root={}", self.file("exec")),
            format!("--pidfile={}", self.file("docker.pid")),
            format!("--host=unix://{}", self.socket().display()),
            format!("--containerd={}", self.file("containerd.sock")),
            format!("--storage-driver={}", self.driver.as_str()),
            "--bridge=none".into(),
            "--iptables=false".into(),
            "--ip6tables=false".into(),
            "--ip-forward=false".into(),
        ];
        self.dockerd = Some(self.spawn("dockerd", &arguments));
        self.wait_for("dockerd", || self.try_docker(&["version"]).status.success());
    }

    /// Starts a daemon that ends with the thread that started it, should the test be killed.
    fn spawn(&self, program: &str, arguments: &[String]) -> Child {
        let log = std::fs::File::create(self.file(&format!("{program}.log"))).expect("log");
        let mut path = crate::next::path_with_criu();
        if self.driver.is_of_containerd() {
            path = format!("{}:{path}", crate::next::docker().display());
        }
        Command::new("setpriv")
            .env("PATH", path)
            .args(["--pdeathsig", "KILL", "--", program])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{program}: {e}"))
    }

    fn wait_for(&self, program: &str, ready: impl Fn() -> bool) {
        let start = Instant::now();
        while !ready() {
            assert!(
                start.elapsed() < PATIENCE,
                "{program} does not come up: {}",
                std::fs::read_to_string(self.file(&format!("{program}.log"))).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Returns the storage driver.
    #[must_use]
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// Returns the socket of the Engine API.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// Returns the socket of its containerd, which has snapshotters of its own.
    #[must_use]
    pub fn containerd_socket(&self) -> PathBuf {
        self.dir.path().join("containerd.sock")
    }

    /// Returns the data root.
    #[must_use]
    pub fn data_root(&self) -> PathBuf {
        self.fs.path().join("docker")
    }

    /// Returns the sources that go by the disk alone.
    #[must_use]
    pub fn disk(&self) -> Sources {
        Sources {
            data_root: Some(self.data_root()),
            ..Sources::default()
        }
    }

    /// Returns the sources that ask the daemon.
    #[must_use]
    pub fn live(&self) -> Sources {
        Sources {
            docker_host: Some(self.socket()),
            ..Sources::default()
        }
    }

    /// Returns a directory of the host that is removed with the daemon, for what containers mount.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        let path = self.dir.path().join("scratch");
        std::fs::create_dir_all(&path).expect("scratch directory");
        path
    }

    /// Runs the docker command and returns its standard output without the last line end.
    ///
    /// # Panics
    /// When it fails.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = self.try_docker(arguments);
        crate::command::told("docker", arguments, &output)
            .trim_end()
            .to_owned()
    }

    /// Runs the docker command.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn try_docker(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("docker")
    }

    /// Returns the docker command with these arguments, to be run as the caller likes.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .args(arguments)
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_CONFIG", self.dir.path().join("client"))
            // Without the daemon's own BuildKit there is nothing to install beside it.
            .env("DOCKER_BUILDKIT", "0");
        command
    }

    /// Makes an image of one layer from a directory.
    ///
    /// # Panics
    /// When it fails.
    pub fn import(&self, name: &str, rootfs: &Path) {
        let tar = self.file("rootfs.tar");
        let rootfs = rootfs.display().to_string();
        run("tar", &["-C", &rootfs, "--xattrs", "-cf", &tar, "."]);
        self.docker(&["import", &tar, name]);
        std::fs::remove_file(tar).expect("tar file");
    }

    /// Makes an image by a Dockerfile.
    ///
    /// # Panics
    /// When it fails.
    pub fn build(&self, name: &str, dockerfile: &str) {
        let context = tempfile::tempdir_in(self.dir.path()).expect("build context");
        std::fs::write(context.path().join("Dockerfile"), dockerfile).expect("Dockerfile");
        let context = context.path().display().to_string();
        self.docker(&["build", "--network=none", "--tag", name, &context]);
    }

    /// Creates a container without a network; `options` come before the image's name. Returns its id.
    ///
    /// # Panics
    /// When it fails.
    pub fn create(&self, name: &str, options: &[&str], image: &str, command: &[&str]) -> String {
        self.make("create", &[], name, options, image, command)
    }

    /// Creates a container and starts it.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, name: &str, options: &[&str], image: &str, command: &[&str]) -> String {
        self.make("run", &["--detach"], name, options, image, command)
    }

    fn make(
        &self,
        verb: &str,
        first: &[&str],
        name: &str,
        options: &[&str],
        image: &str,
        command: &[&str],
    ) -> String {
        let mut arguments = vec![verb];
        arguments.extend(first);
        arguments.extend(["--network=none", "--name", name]);
        arguments.extend(options);
        arguments.push(image);
        arguments.extend(command);
        self.docker(&arguments)
    }

    /// Runs a script in a running container.
    ///
    /// # Panics
    /// When it fails.
    pub fn exec(&self, name: &str, script: &str) -> String {
        self.docker(&["exec", name, "sh", "-euc", script])
    }

    /// Returns a container's id.
    ///
    /// # Panics
    /// When there is no such container.
    #[must_use]
    pub fn id(&self, name: &str) -> String {
        self.docker(&["inspect", "--type=container", "-f", "{{.Id}}", name])
    }

    /// Returns the directory of a container's writable layer, or with `-init` of the layer beneath.
    ///
    /// # Panics
    /// When the layer database does not tell.
    #[must_use]
    pub fn layer(&self, id: &str, suffix: &str) -> PathBuf {
        let driver = self.driver.as_str();
        let record = format!("image/{driver}/layerdb/mounts/{id}/mount-id");
        let name = std::fs::read_to_string(self.data_root().join(record)).expect("mount-id");
        self.layer_dir(&format!("{name}{suffix}"))
    }

    /// Returns the directory of the layer of this name.
    #[must_use]
    pub fn layer_dir(&self, name: &str) -> PathBuf {
        let place = match self.driver {
            Driver::Overlay2 | Driver::Overlay2OnXfs => format!("overlay2/{name}/diff"),
            Driver::Btrfs => format!("btrfs/subvolumes/{name}"),
            Driver::Vfs => format!("vfs/dir/{name}"),
            Driver::Overlayfs | Driver::BtrfsSnapshots => panic!("containerd keeps its layers"),
        };
        self.data_root().join(place)
    }

    /// Returns the root of a container as the host sees it, without what is mounted over it: with
    /// `overlay2` the merged directory, which is there while the container runs.
    ///
    /// # Panics
    /// When the layer database does not tell.
    #[must_use]
    pub fn rootfs(&self, id: &str) -> PathBuf {
        let layer = match self.driver.is_of_containerd() {
            true => PathBuf::new(),
            false => self.layer(id, ""),
        };
        match self.driver {
            Driver::Overlay2 | Driver::Overlay2OnXfs => layer.with_file_name("merged"),
            Driver::Btrfs | Driver::Vfs => layer,
            // Mounted by the daemon, which has no directory of layers.
            Driver::Overlayfs | Driver::BtrfsSnapshots => {
                let mounts = self.data_root().join("rootfs").join(self.driver.as_str());
                mounts.join(id)
            }
        }
    }

    /// Does something in the root of a container that was never started. With `overlay2` nothing is
    /// mounted then: it is mounted as the driver does it for `docker cp`, and unmounted again.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn in_created<T>(&self, id: &str, act: impl FnOnce(&Path) -> T) -> T {
        if !matches!(self.driver, Driver::Overlay2 | Driver::Overlay2OnXfs) {
            return act(&self.rootfs(id));
        }
        let layer = self.layer(id, "");
        let layer = layer.parent().expect("the layer's directory");
        let lower = std::fs::read_to_string(layer.join("lower")).expect("lower");
        let links = layer.parent().expect("the driver's directory");
        let lowers: Vec<String> = lower
            .split(':')
            .map(|link| links.join(link).display().to_string())
            .collect();
        let options = format!(
            "index=off,lowerdir={},upperdir={1}/diff,workdir={1}/work",
            lowers.join(":"),
            layer.display()
        );
        let at = self.scratch().join(id);
        std::fs::create_dir(&at).expect("mount point");
        let place = at.display().to_string();
        run(
            "mount",
            &["-t", "overlay", "overlay", "-o", &options, &place],
        );
        let result = act(&at);
        run("umount", &[&place]);
        result
    }

    /// Sends the daemon a signal: stopped, it answers no more until it is continued.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let daemon = self.dockerd.as_ref().expect("dockerd runs");
        let pid = i32::try_from(daemon.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("pid"), signal).expect("signal");
    }

    /// Creates so many containers of an image, which are named after `prefix` and a number, by the Engine
    /// API: a docker command for each takes many times longer.
    ///
    /// # Panics
    /// When one is not created.
    pub fn create_many(&self, prefix: &str, count: usize, image: &str) {
        use std::io::{Read as _, Write as _};
        let body = format!(
            r#"{{"Image":"{image}","Cmd":["sleep"],"HostConfig":{{"NetworkMode":"none"}}}}"#
        );
        let create = |number: usize| {
            let mut stream =
                std::os::unix::net::UnixStream::connect(self.socket()).expect("socket");
            write!(
                stream,
                "POST /containers/create?name={prefix}{number} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .expect("question");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("answer");
            assert!(answer.starts_with("HTTP/1.0 201"), "{answer}");
        };
        std::thread::scope(|scope| {
            for first in 0..4 {
                scope.spawn(move || (first..count).step_by(4).for_each(create));
            }
        });
    }

    /// Kills the daemon as a power cut would; its containers stay as they are.
    ///
    /// # Panics
    /// When it does not go away.
    pub fn kill(&mut self) {
        if let Some(mut dockerd) = self.dockerd.take() {
            dockerd.kill().expect("kill dockerd");
            dockerd.wait().expect("dockerd ends");
        }
    }

    /// Starts the daemon again after [`Dockerd::kill`].
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self) {
        self.start_dockerd();
    }

    /// Removes the control groups that killed shims leave of containers.
    fn remove_groups(&self) {
        let controllers = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
        let places: Vec<PathBuf> = controllers
            .flatten()
            .map(|entry| entry.path())
            .chain(["/sys/fs/cgroup".into()])
            .map(|place| place.join("docker"))
            .filter(|place| place.is_dir())
            .collect();
        let containers = std::fs::read_dir(self.data_root().join("containers"));
        for container in containers.into_iter().flatten().flatten() {
            for place in &places {
                // Not every controller has one of it.
                drop(std::fs::remove_dir(place.join(container.file_name())));
            }
        }
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let shims = Shims::of(
            &self.dir.path().join("containerd"),
            &self.dir.path().join("containerd.sock"),
        );
        // Without its daemon nobody starts a container again.
        for mut daemon in [self.dockerd.take(), self.containerd.take()]
            .into_iter()
            .flatten()
        {
            drop(daemon.kill());
            drop(daemon.wait());
        }
        shims.end();
        self.remove_groups();
        crate::mounts::unmount_beneath(&[self.dir.path(), &self.fs.path()]);
    }
}
