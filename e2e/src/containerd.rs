//! A real containerd for one test: its own file system, socket, state directory and namespaces.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plimsoll_core::model::{Gap, Measurement, RuntimeKind};
use plimsoll_host::inspect::{Options, Request, Sources, Target};
use tempfile::TempDir;

use crate::loopfs::{Kind, LoopFs};
use crate::oci::Archive;
use crate::shims::Shims;

/// Longest wait for a daemon to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where its root is on its file system: where it would be on a machine's own disk.
const ROOT: &str = "var/lib/containerd";

/// Where images have the program that containers wait by.
const BUSYBOX: &str = "/bin/busybox";

/// The CRI plugin takes long to start, and the other one writes to /opt.
const WITHOUT_CRI: &str =
    "disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]";

/// A running containerd. On drop every process of it ends and everything that it mounted is unmounted,
/// also when the test panics.
#[derive(Debug)]
pub struct Containerd {
    daemon: Option<Child>,
    /// Where programs are looked for.
    path: String,
    /// What its namespaces begin with: state of runc and control groups are shared by all containerds of
    /// a machine.
    prefix: String,
    dir: TempDir,
    fs: LoopFs,
}

impl Containerd {
    /// Starts a daemon with its root on a file system of this kind.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(kind: Kind) -> Self {
        Self::with(kind, "", &|_| WITHOUT_CRI.to_owned())
    }

    /// Starts a newer daemon than the machine's own: see [`crate::next`].
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_next(kind: Kind) -> Self {
        Self::of(next_path(), kind, "", &|_| WITHOUT_CRI.to_owned())
    }

    /// Starts a daemon on a file system that moves an access time with every read.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_strictly(kind: Kind) -> Self {
        Self::with(kind, ",strictatime", &|_| WITHOUT_CRI.to_owned())
    }

    /// Starts a daemon with the CRI plugin, for pods whose sandboxes are made from this image.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_with_cri(kind: Kind, sandbox_image: &str) -> Self {
        Self::with(kind, "", &|dir| with_cri(sandbox_image, dir))
    }

    /// The same of a newer daemon than the machine's own: see [`crate::next`].
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_next_with_cri(kind: Kind, sandbox_image: &str) -> Self {
        Self::of(next_path(), kind, "", &|dir| with_cri(sandbox_image, dir))
    }

    /// The same with mount options, and settings for its own directory.
    fn with(kind: Kind, mount_options: &str, settings: &dyn Fn(&Path) -> String) -> Self {
        Self::of(crate::next::path_with_criu(), kind, mount_options, settings)
    }

    fn of(
        path: String,
        kind: Kind,
        mount_options: &str,
        settings: &dyn Fn(&Path) -> String,
    ) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-containerd-")
            .tempdir()
            .expect("temporary directory");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut containerd = Self {
            daemon: None,
            path,
            prefix: format!("plimsoll-{}-{count}", std::process::id()),
            dir,
            fs: LoopFs::with(kind, 3072, &[], mount_options),
        };
        let configuration = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\n\
             {}\n[grpc]\naddress = \"{}\"\n",
            containerd.root().display(),
            containerd.file("state").display(),
            settings(containerd.dir.path()),
            containerd.socket().display(),
        );
        std::fs::write(containerd.file("config.toml"), configuration).expect("configuration");
        containerd.start_again();
        containerd
    }

    /// Starts the daemon again after [`Containerd::kill`].
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self) {
        let log = std::fs::File::create(self.file("log")).expect("log");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "containerd", "--config"])
            .arg(self.file("config.toml"))
            .env("PATH", &self.path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("containerd");
        self.daemon = Some(child);
        let start = Instant::now();
        while !self.try_ctr(&["version"]).status.success() {
            assert!(
                start.elapsed() < PATIENCE,
                "containerd does not come up: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Kills the daemon as a power cut would; its containers stay as they are.
    ///
    /// # Panics
    /// When it does not go away.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().expect("kill containerd");
            daemon.wait().expect("containerd ends");
        }
    }

    /// Returns the path of something in its own directory: `config.toml`, `state`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.file("containerd.sock")
    }

    /// Returns what it said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// Returns its root.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.fs.path().join(ROOT)
    }

    /// Returns the sources that go by its root.
    #[must_use]
    pub fn here(&self) -> Sources {
        Sources {
            data_root: Some(self.root()),
            ..Sources::default()
        }
    }

    /// Returns the sources that take its file system for the disk of another machine.
    #[must_use]
    pub fn disk(&self) -> Sources {
        Sources {
            root: Some(self.fs.path()),
            ..Sources::default()
        }
    }

    /// Returns the full name of a namespace.
    #[must_use]
    pub fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Runs the ctr command and returns its standard output without the last line end.
    ///
    /// # Panics
    /// When it fails.
    pub fn ctr(&self, namespace: &str, arguments: &[&str]) -> String {
        // That of Kubernetes cannot be called otherwise.
        let namespace = match namespace {
            "k8s.io" => namespace.to_owned(),
            own => self.namespace(own),
        };
        let output = self.try_ctr(&[&["--namespace", &namespace], arguments].concat());
        crate::command::told("ctr", arguments, &output)
            .trim_end()
            .to_owned()
    }

    /// Runs the ctr command.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn try_ctr(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("ctr");
        command
            .env("PATH", &self.path)
            .arg("--address")
            .arg(self.socket())
            .args(arguments);
        command.stdin(Stdio::null()).output().expect("ctr")
    }

    /// Takes an image in and unpacks it.
    ///
    /// # Panics
    /// When it fails.
    pub fn import(&self, namespace: &str, snapshotter: &str, image: &Archive) {
        let path = image.path.display().to_string();
        let mut arguments = vec!["images", "import", "--snapshotter", snapshotter];
        if self.path == next_path() {
            // Newer daemons do it themselves, with the snapshotter that they are configured with alone.
            arguments.push("--local");
        }
        arguments.push(&path);
        self.ctr(namespace, &arguments);
    }

    /// Creates a container that waits; `options` come before the image's name.
    ///
    /// # Panics
    /// When it fails.
    pub fn create(
        &self,
        namespace: &str,
        snapshotter: &str,
        options: &[&str],
        image: &str,
        id: &str,
    ) {
        let first = ["containers", "create", "--snapshotter", snapshotter];
        let last = [image, id, BUSYBOX, "sleep", "100000"];
        self.ctr(namespace, &[&first, options, &last].concat());
    }

    /// Starts a container that was created.
    ///
    /// # Panics
    /// When it fails.
    pub fn start_task(&self, namespace: &str, id: &str) {
        self.ctr(namespace, &["tasks", "start", "--null-io", "--detach", id]);
    }

    /// Runs a script in a running container.
    ///
    /// # Panics
    /// When it fails.
    pub fn exec(&self, namespace: &str, id: &str, script: &str) -> String {
        let fifos = self.file("fifos").display().to_string();
        let first = ["tasks", "exec", "--exec-id", "exec", "--fifo-dir", &fifos];
        let last = [id, BUSYBOX, "sh", "-euc", script];
        self.ctr(namespace, &[&first[..], &last].concat())
    }

    /// Kills a container's processes and waits until it has none; its task stays.
    ///
    /// # Panics
    /// When it fails.
    pub fn stop_task(&self, namespace: &str, id: &str) {
        self.ctr(namespace, &["tasks", "kill", "--signal", "KILL", id]);
        let start = Instant::now();
        while !self.ctr(namespace, &["tasks", "list"]).contains("STOPPED") {
            assert!(start.elapsed() < PATIENCE, "{id} does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the root of a running container as the host sees it, without what is mounted over it.
    #[must_use]
    pub fn rootfs(&self, namespace: &str, id: &str) -> PathBuf {
        self.task(namespace, id).join("rootfs")
    }

    /// Returns the number of a container's first process.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn pid(&self, namespace: &str, id: &str) -> i32 {
        let text = std::fs::read_to_string(self.task(namespace, id).join("init.pid"));
        text.expect("init.pid").trim().parse().expect("pid")
    }

    fn task(&self, namespace: &str, id: &str) -> PathBuf {
        let tasks = self.file("state/io.containerd.runtime.v2.task");
        tasks.join(self.namespace(namespace)).join(id)
    }

    /// Removes what killed shims leave in directories that all containerds share.
    fn remove_shared(&self) {
        let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
        let ours = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&format!("{}-", self.prefix)))
        };
        for namespace in entries(Path::new("/run/containerd/runc")) {
            if ours(&namespace.path()) {
                drop(std::fs::remove_dir_all(namespace.path()));
            }
        }
        let hierarchies = entries(Path::new("/sys/fs/cgroup")).map(|entry| entry.path());
        for hierarchy in hierarchies.chain(["/sys/fs/cgroup".into()]) {
            for namespace in entries(&hierarchy).map(|entry| entry.path()) {
                if ours(&namespace) {
                    for group in entries(&namespace).map(|entry| entry.path()) {
                        if group.is_dir() {
                            remove_group(&group);
                        }
                    }
                    remove_group(&namespace);
                }
            }
        }
    }
}

/// Where the newer containerd is looked for before the machine's own.
fn next_path() -> String {
    let bin = crate::next::docker();
    format!("{}:{}", bin.display(), crate::next::path_with_criu())
}

/// The settings of the CRI plugin, for sandboxes from this image.
fn with_cri(sandbox_image: &str, dir: &Path) -> String {
    const CRI: &str = "plugins.\"io.containerd.grpc.v1.cri\"";
    format!(
        "disabled_plugins = [\"io.containerd.internal.v1.opt\"]\n\
         [{CRI}]\nsandbox_image = \"{sandbox_image}\"\n\
         # Less than its own is more than it may give everywhere.\n\
         restrict_oom_score_adj = true\n\
         [{CRI}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
         [{CRI}.containerd.runtimes.runc.options]\nRoot = \"{}\"\n",
        dir.join("runc").display()
    )
}

/// Removes a control group, which is busy until somebody has waited for the last process in it.
fn remove_group(group: &Path) {
    let start = Instant::now();
    while std::fs::remove_dir(group).is_err() && group.exists() && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let shims = Shims::of(&self.file("state"), &self.socket());
        if let Some(mut daemon) = self.daemon.take() {
            drop(daemon.kill());
            drop(daemon.wait());
        }
        shims.end();
        self.remove_shared();
        crate::mounts::unmount_beneath(&[self.dir.path(), &self.fs.path()]);
    }
}

/// Looks at containers of containerd by name, at all of them without a name; returns what was measured and
/// the gaps of the run.
///
/// # Errors
/// The sentence, when the run could not be done.
pub fn inspect(
    sources: Sources,
    names: &[&str],
    options: Options,
) -> Result<(Vec<Measurement>, Vec<Gap>), String> {
    let named = |name: &&str| Target::Named {
        runtime: Some(RuntimeKind::Containerd),
        name: (*name).to_owned(),
    };
    let request = Request {
        sources: Sources {
            runtime: Some(RuntimeKind::Containerd),
            ..sources
        },
        targets: names.iter().map(named).collect(),
        paths: Vec::new(),
        options,
    };
    let mut found = Vec::new();
    let gaps = plimsoll_host::inspect::inspect(&request, &mut |m| found.push(m))
        .map_err(|error| error.to_string())?;
    Ok((found, gaps))
}

/// Looks at one container, of which everything must be seen.
///
/// # Panics
/// When it is not found or there is a gap.
#[must_use]
pub fn inspect_one(sources: Sources, name: &str, options: Options) -> Measurement {
    let (mut found, gaps) = inspect(sources, &[name], options).expect("inspect");
    assert_eq!(gaps, [], "{name}");
    let measurement = found.pop().expect("one container");
    assert_eq!(measurement.gaps, [], "{name}");
    measurement
}
