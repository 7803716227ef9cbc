//! Containers that no runtime knows, by their processes: named by a number, or found in the process table.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use plimsoll_core::model::{EngineKind, Measurement, RuntimeKind, State};
use plimsoll_e2e::brute::{self, Differences};
use plimsoll_e2e::command::{Background, run, shell};
use plimsoll_e2e::loopfs::{Kind, LoopFs};
use plimsoll_e2e::rooted::Rooted;
use plimsoll_e2e::{program, require};
use plimsoll_host::inspect::{Options, Request, Sources, Target, inspect};
use plimsoll_syscall::trace;

/// Makes two layers and an upper one in a directory, and returns a script that mounts them at `merged`.
fn layers(dir: &Path) -> String {
    shell(&format!(
        "mkdir -p '{0}' && cd '{0}' && mkdir base top upper work merged
         cp \"$(command -v busybox)\" base/busybox
         echo secret > base/shadow; echo library > top/lib",
        dir.display()
    ));
    mounting(dir)
}

fn mounting(dir: &Path) -> String {
    format!(
        "mount -i -t overlay overlay -o lowerdir={0}/top:{0}/base,upperdir={0}/upper,workdir={0}/work {0}/merged",
        dir.display()
    )
}

/// Changes files as a process in the container would; one keeps its size and its time.
fn tamper(pid: u32) -> Differences {
    let root = format!("/proc/{pid}/root");
    shell(&format!(
        "cd {root}; touch -r shadow /tmp/plimsoll-time.{pid}; printf X | dd of=shadow bs=1 conv=notrunc status=none
         touch -r /tmp/plimsoll-time.{pid} shadow; rm /tmp/plimsoll-time.{pid} lib; echo new > new"
    ));
    [
        ("/shadow", ('C', vec!["content"])),
        ("/lib", ('D', vec![])),
        ("/new", ('A', vec![])),
    ]
    .map(|(path, what)| (path.to_owned(), what))
    .into()
}

fn look(target: Target) -> Result<Measurement, String> {
    let request = Request {
        sources: Sources::default(),
        targets: vec![target],
        paths: Vec::new(),
        options: Options::default(),
    };
    let mut found = None;
    inspect(&request, &mut |measurement| found = Some(measurement))
        .map_err(|error| error.to_string())?;
    Ok(found.unwrap())
}

#[track_caller]
fn tells(target: Target, engine: EngineKind, expected: &Differences) -> Measurement {
    let found = look(target).unwrap();
    assert_eq!(found.gaps, []);
    assert_eq!(found.engine, Some(engine));
    assert_eq!(brute::of_changes(&found.changes), *expected);
    found
}

#[track_caller]
fn refuses(target: Target, why: &str) {
    let told = look(target).map_or_else(
        |error| error,
        |found| {
            assert_eq!(found.engine, None);
            found.gaps[0].why.clone()
        },
    );
    assert!(told.contains(why) && !told.contains('\n'), "{told}");
}

/// Returns what the program tells of a container when it is asked for all.
fn told_of(name: &str) -> Option<serde_json::Value> {
    let output = program::command()
        .args(["check", "--format", "json"])
        .output()
        .unwrap();
    if output.stdout.is_empty() {
        // There is no runtime here, nor any container that none tells.
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        return None;
    }
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let containers = document["containers"].as_array().unwrap();
    let called: Vec<_> = containers
        .iter()
        .filter(|one| one["name"] == name)
        .collect();
    assert!(called.len() < 2, "{called:?}");
    called.first().map(|one| (*one).clone())
}

#[test]
fn an_overlay_that_only_the_process_sees() {
    require!("busybox", "setpriv", "unshare", "mkfs.ext4");
    let fs = LoopFs::new(Kind::Ext4, 256);
    let dir = fs.path().join("layers");
    let container = Rooted::start(&layers(&dir), &dir.join("merged"));
    let pid = container.pid();
    assert!(
        !dir.join("merged/busybox").exists(),
        "mounted for the process alone"
    );
    tells(
        Target::Process(pid),
        EngineKind::Overlay,
        &Differences::new(),
    );
    let changes = tamper(pid);
    let found = tells(Target::Process(pid), EngineKind::Overlay, &changes);
    assert_eq!(found.container.runtime, RuntimeKind::Overlay);
    assert_eq!(found.container.state, State::Running);
    assert_eq!(found.container.pid, Some(pid));

    // With no target it is found in the process table, once, however many processes and namespaces see it.
    let nsenter = |more: &[&str]| {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &pid.to_string(), "--mount", "--root", "--"])
            .args(more);
        Background::start(&mut command)
    };
    let _others = [
        nsenter(&["/busybox", "sleep", "1000"]),
        nsenter(&["/busybox", "unshare", "-m", "/busybox", "sleep", "1000"]),
    ];
    let told = told_of(&format!("pid:{pid}")).expect("found");
    assert_eq!(told["runtime"], "overlay");
    assert_eq!(told["state"], "running");
    assert_eq!(told["verdict"], "violated");
    assert_eq!(told["changes"].as_array().unwrap().len(), changes.len());

    // Its layers are somewhere else by now.
    fs::rename(dir.join("base"), dir.join("away")).unwrap();
    refuses(Target::Process(pid), "base: No such file or directory");
    let told = told_of(&format!("pid:{pid}")).expect("found");
    assert_eq!(told["verdict"], "unknown");
    run(
        "cp",
        &[
            "-a",
            &dir.join("away").display().to_string(),
            &dir.join("base").display().to_string(),
        ],
    );
    refuses(Target::Process(pid), "is not what is mounted");
}

#[test]
fn layers_that_only_who_mounted_them_sees() {
    require!("busybox", "setpriv", "unshare");
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("hidden");
    fs::create_dir(&inner).unwrap();
    // As of a runtime in a container: everything lies on a file system of its own mount namespace.
    let script = format!(
        "mount -t tmpfs none '{0}'; cd '{0}'; mkdir base top upper work merged
         cp \"$(command -v busybox)\" base/busybox; echo secret > base/shadow; echo library > top/lib
         {1}",
        inner.display(),
        mounting(&inner)
    );
    let container = Rooted::start(&script, &inner.join("merged"));
    assert!(!inner.join("base").exists());
    tells(
        Target::Process(container.pid()),
        EngineKind::Overlay,
        &Differences::new(),
    );
    let changes = tamper(container.pid());
    tells(
        Target::Process(container.pid()),
        EngineKind::Overlay,
        &changes,
    );
    // Here lies something of the same names.
    layers(&dir.path().join("other"));
    shell(&format!(
        "cp -a '{}'/. '{}'",
        dir.path().join("other").display(),
        inner.display()
    ));
    tells(
        Target::Process(container.pid()),
        EngineKind::Overlay,
        &changes,
    );
}

/// A file system that a process in the container answers for, or does not: nobody is to wait for it.
#[test]
fn layers_beneath_a_file_system_that_never_answers() {
    require!("busybox", "setpriv", "unshare");
    if !Path::new("/dev/fuse").exists() {
        assert!(!plimsoll_e2e::in_ci(), "there is no /dev/fuse");
        eprintln!("SKIPPED: there is no /dev/fuse");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("hidden");
    fs::create_dir(&inner).unwrap();
    let script = format!(
        "mount -t tmpfs none '{0}'; cd '{0}'; mkdir base top upper work merged
         cp \"$(command -v busybox)\" base/busybox; echo library > top/lib
         {1}
         exec 7<>/dev/fuse
         mount -i -t fuse -o fd=7,rootmode=40000,user_id=0,group_id=0 none '{0}/base'",
        inner.display(),
        mounting(&inner)
    );
    let container = Rooted::start(&script, &inner.join("merged"));
    refuses(
        Target::Process(container.pid()),
        "do not answer within 5 seconds",
    );
}

#[test]
fn a_frozen_process_is_paused() {
    require!("busybox", "setpriv", "unshare", "mkfs.ext4");
    let groups = ["/sys/fs/cgroup/freezer", "/sys/fs/cgroup"].map(Path::new);
    let Some(place) = groups.iter().find(|dir| dir.join("cgroup.procs").exists()) else {
        assert!(!plimsoll_e2e::in_ci(), "no control groups are mounted");
        eprintln!("SKIPPED: no control groups are mounted");
        return;
    };
    let fs = LoopFs::new(Kind::Ext4, 256);
    let dir = fs.path().join("layers");
    let container = Rooted::start(&layers(&dir), &dir.join("merged"));
    let id = "0f".repeat(32);
    let group = Group(place.join(format!("plimsoll-{}-{id}", std::process::id())));
    fs::create_dir(&group.0).unwrap();
    fs::write(group.0.join("cgroup.procs"), container.pid().to_string()).unwrap();
    let (file, freeze) = match group.0.join("freezer.state").exists() {
        true => ("freezer.state", "FROZEN"),
        false => ("cgroup.freeze", "1"),
    };
    let found = look(Target::Process(container.pid())).unwrap();
    assert_eq!(found.container.state, State::Running);
    assert_eq!(found.container.id.as_str(), id);
    fs::write(group.0.join(file), freeze).unwrap();
    while look(Target::Process(container.pid()))
        .unwrap()
        .container
        .state
        != State::Paused
    {}
    tells(
        Target::Process(container.pid()),
        EngineKind::Overlay,
        &Differences::new(),
    );
    fs::write(
        group.0.join(file),
        if freeze == "1" { "0" } else { "THAWED" },
    )
    .unwrap();
    fs::write(place.join("cgroup.procs"), container.pid().to_string()).unwrap();
}

/// A control group, thawed and removed on drop.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        fs::write(self.0.join("freezer.state"), "THAWED").ok();
        fs::write(self.0.join("cgroup.freeze"), "0").ok();
        let parent = self.0.parent().unwrap().join("cgroup.procs");
        for pid in fs::read_to_string(self.0.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
        {
            fs::write(&parent, pid).ok();
        }
        fs::remove_dir(&self.0).ok();
    }
}

#[test]
fn a_subvolume_and_what_it_is_a_snapshot_of() {
    require!("busybox", "setpriv", "unshare", "mkfs.btrfs", "btrfs");
    let fs = LoopFs::new(Kind::Btrfs, 512);
    let base = fs.path().join("images");
    let path = base.join("container");
    shell(&format!(
        "mkdir '{0}' && cd '{0}' && btrfs -q subvolume create image
         cp \"$(command -v busybox)\" image/busybox; echo secret > image/shadow; echo library > image/lib
         sync; btrfs -q subvolume snapshot image container",
        base.display()
    ));
    // Mounted as the root of a process, and as Docker does it: a bind mount of the subvolume's directory.
    let at = tempfile::tempdir().unwrap();
    let script = format!(
        "mount --bind '{}' '{}'",
        path.display(),
        at.path().display()
    );
    let container = Rooted::start(&script, at.path());
    let by_process = || Target::Process(container.pid());
    let by_path = || Target::Subvolume(path.clone());
    for target in [by_process(), by_path()] {
        tells(target, EngineKind::Btrfs, &Differences::new());
    }
    let changes = tamper(container.pid());
    for target in [by_process(), by_path()] {
        let found = tells(target, EngineKind::Btrfs, &changes);
        let image = found.container.image.reference.unwrap();
        assert_eq!(
            image.as_bytes(),
            base.join("image").display().to_string().as_bytes()
        );
    }
    // By another mount of it alone.
    let mounted = tempfile::tempdir().unwrap();
    let device = run(
        "findmnt",
        &["-no", "SOURCE", &fs.path().display().to_string()],
    );
    let point = mounted.path().display().to_string();
    run(
        "mount",
        &["-o", "subvol=images/container", device.trim(), &point],
    );
    let by_mount = look(Target::Subvolume(mounted.path().to_owned()));
    run("umount", &[&point]);
    assert_eq!(brute::of_changes(&by_mount.unwrap().changes), changes);
    // The digest engine opens what it is told by these paths.
    let digest = program::command()
        .args([
            "diff",
            "--engine",
            "digest",
            "--format",
            "docker",
            &format!("pid:{}", container.pid()),
        ])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&digest.stdout),
        "D /lib\nA /new\nC /shadow\n"
    );

    refuses(Target::Subvolume(base.join("image")), "is no snapshot");
    refuses(Target::Subvolume(base.clone()), "no Btrfs subvolume");
    run(
        "btrfs",
        &[
            "-q",
            "subvolume",
            "delete",
            "-c",
            &base.join("image").display().to_string(),
        ],
    );
    for target in [by_process(), by_path()] {
        let found = look(target).unwrap();
        assert_eq!(found.engine, None);
        assert!(found.gaps[0].why.contains("is gone"), "{:?}", found.gaps);
    }
}

#[test]
fn processes_without_a_root_of_their_own() {
    require!("busybox", "setpriv", "unshare", "mkfs.ext4");
    refuses(Target::Process(std::process::id()), "the host's own root");
    refuses(Target::Process(u32::MAX), "there is no process");
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display();
    shell(&format!(
        "mkdir '{here}/root' '{here}/point'; cp \"$(command -v busybox)\" '{here}/root/busybox'"
    ));
    // A directory, and a mount of it.
    let beneath = Rooted::start("true", &dir.path().join("root"));
    refuses(Target::Process(beneath.pid()), "a directory within a mount");
    let bind = Rooted::start(
        &format!("mount --bind '{here}/root' '{here}/point'"),
        &dir.path().join("point"),
    );
    refuses(
        Target::Process(bind.pid()),
        "keeps nothing to compare it by",
    );
    for pid in [beneath.pid(), bind.pid()] {
        assert_eq!(told_of(&format!("pid:{pid}")), None);
    }
    // The program of a machine does not look at the processes of another.
    let mut offline = program::command();
    offline.args([
        "check",
        "--root",
        &here.to_string(),
        &format!("pid:{}", bind.pid()),
    ]);
    let told = offline.output().unwrap();
    assert_eq!(told.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&told.stderr).contains("the disk of another one"),
        "{told:?}"
    );
}

/// A process table of its own with so many processes, so many of them in mount namespaces of their own, and so
/// many with overlays as their roots; killed on drop.
struct ProcessTable {
    child: std::process::Child,
    first: u32,
}

impl ProcessTable {
    fn of(dir: &Path, processes: usize, namespaces: usize, containers: usize) -> Self {
        // No runtime is to be found there.
        let mut script = "mount -t tmpfs none /var/lib; mount -t tmpfs none /run\n".to_owned();
        script += &"sleep 1000 &\n".repeat(processes);
        script += &"unshare --mount sleep 1000 &\n".repeat(namespaces);
        for n in 0..containers {
            let layers = dir.join(n.to_string());
            script += &format!(
                "unshare --mount bash -c \"{}; exec chroot '{}' /busybox sleep 1000\" &\n",
                mounting(&layers),
                layers.join("merged").display()
            );
        }
        let ready = dir.join("ready");
        script += &format!(
            "until [ $(cat /proc/[0-9]*/comm 2>/dev/null | grep -cE '^(sleep|busybox)$') -ge {} ]; do busybox usleep 10000; done
             touch '{}'; wait",
            processes + namespaces + containers,
            ready.display()
        );
        let child = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "--",
                "unshare",
                "--pid",
                "--fork",
                "--kill-child",
            ])
            .args(["--mount", "--mount-proc", "bash", "-c", &script])
            .env("PATH", plimsoll_e2e::command::PATH)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        while !ready.exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        fs::remove_file(ready).unwrap();
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let first = fs::read_to_string(children).unwrap();
        Self {
            first: first.trim().parse().unwrap(),
            child,
        }
    }

    /// Lists its containers; returns how many there are, and how many system calls that took.
    fn list(&self) -> (usize, u64) {
        let command = || {
            let mut command = Command::new("nsenter");
            command
                .args(["-t", &self.first.to_string(), "--pid", "--mount", "--"])
                .arg(program::path())
                .args(["list", "--format", "json"])
                .env_clear()
                .env("PLIMSOLL_CONFIG", "/dev/null");
            command
        };
        let output = command().output().unwrap();
        let told: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
        let count = told.map_or(0, |told| told["containers"].as_array().unwrap().len());
        let mut quiet = command();
        quiet.stdout(Stdio::null()).stderr(Stdio::null());
        (count, trace::count_calls(&mut quiet, &|| true).unwrap().1)
    }
}

impl Drop for ProcessTable {
    fn drop(&mut self) {
        // All of the namespace goes with its first process.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        while Path::new(&format!("/proc/{}/exe", self.first))
            .read_link()
            .is_ok()
        {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[test]
fn what_it_costs_to_find_them() {
    require!("busybox", "setpriv", "unshare", "nsenter", "mkfs.ext4");
    let fs = LoopFs::new(Kind::Ext4, 256);
    for n in 0..20 {
        layers(&fs.path().join(n.to_string()));
    }
    let list = |processes, namespaces, containers| {
        let table = ProcessTable::of(&fs.path(), processes, namespaces, containers);
        let (found, calls) = table.list();
        assert_eq!(found, containers);
        calls
    };
    // Of containers there is one already: with none there is nothing to list.
    let base = list(10, 0, 1);
    let more = |calls: u64| (calls.saturating_sub(base) + 10) / 20;
    let process = more(list(30, 0, 1));
    let namespace = more(list(10, 20, 1));
    // Its layers are reached and held against the mount, too.
    let container = list(10, 0, 20).saturating_sub(base) / 19;
    let told = format!(
        "{process} calls for a process, {namespace} for one in a mount namespace of its own, {container} for a container"
    );
    eprintln!("{told}");
    // Is it a daemon of Docker's? In which namespace is it? And for a namespace: on which root?
    assert!(process <= 2 && namespace <= 3 && container <= 120, "{told}");
}
