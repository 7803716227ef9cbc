//! Containers that fuse-overlayfs mounts: marks that are files, marks that a process in the container makes
//! up, what the program keeps back, and mounts that no store knows.

use std::path::{Path, PathBuf};
use std::process::Command;

use plimsoll_core::model::{EngineKind, Measurement, RootPath, RuntimeKind, State};
use plimsoll_e2e::brute::{self, Differences};
use plimsoll_e2e::command::{Background, shell};
use plimsoll_e2e::look::{inspect_of, not_of_runtime};
use plimsoll_e2e::mounts;
use plimsoll_e2e::podman::{FUSE_OVERLAYFS, Podman, inspect, inspect_one};
use plimsoll_e2e::require;
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_host::inspect::{self as host, Options, Request, Sources, Target};

const SLEEP: [&str; 3] = ["/bin/busybox", "sleep", "1000"];

macro_rules! require_fuse {
    () => {
        require!(
            "podman",
            "runc",
            "conmon",
            "busybox",
            "fuse-overlayfs",
            "python3",
            "mkfs.ext4"
        );
    };
}

/// An image of two layers, of which the upper one deletes from the lower one.
fn image(podman: &Podman) {
    podman.import("base", small_rootfs().path());
    let second = [
        "run",
        "--name=second",
        "--network=none",
        "base",
        "/bin/sh",
        "-ec",
    ];
    let script =
        "rm /usr/bin/link; rm -r /var/empty; mkdir /var/empty; echo new > /var/empty/second";
    podman.podman(&[&second[..], &[script]].concat());
    podman.podman(&["commit", "--quiet", "second", "image"]);
    podman.podman(&["rm", "second"]);
}

/// Returns the directory of a container's own layer.
fn upper(podman: &Podman, name: &str) -> PathBuf {
    place(podman, name, "UpperDir")
}

/// Returns where a container that runs is mounted.
fn merged(podman: &Podman, name: &str) -> PathBuf {
    place(podman, name, "MergedDir")
}

fn place(podman: &Podman, name: &str, what: &str) -> PathBuf {
    let format = format!("--format={{{{.GraphDriver.Data.{what}}}}}");
    podman
        .podman(&["container", "inspect", &format, name])
        .into()
}

fn differences<const N: usize>(list: [(&str, char, &[&'static str]); N]) -> Differences {
    list.map(|(path, kind, aspects)| (path.to_owned(), (kind, aspects.to_vec())))
        .into()
}

/// Podman writes anew, whenever it begins, whether a program mounts its containers: for a moment nothing says.
#[test]
fn a_flag_that_is_being_written() {
    require_fuse!();
    let podman = Podman::fuse_without_devices();
    image(&podman);
    podman.run("one", "image", &SLEEP);
    podman.exec("one", "rm /usr/lib/lib.so");
    podman.podman(&["stop", "--time=0", "one"]);
    podman.settle();
    let expected = differences([("/usr/lib/lib.so", 'D', &[])]);
    let flag = podman.graph_root().join("overlay/.has-mount-program");
    {
        let script = r#"while :; do : > "$1"; sleep 0.01; printf true > "$1"; sleep 0.01; done"#;
        let mut writer = Command::new("/bin/bash");
        writer.args(["-c", script, "bash"]).arg(&flag);
        let _writer = Background::start(&mut writer);
        for _ in 0..30 {
            let one = inspect_one(podman.disk(), "one");
            assert_eq!(not_of_runtime(&one), expected);
        }
    }
    std::fs::write(&flag, "").expect("write");
    let (found, _) = inspect(podman.disk(), &["one"]).expect("inspect");
    assert_eq!(found[0].engine, None);
    assert!(
        found[0].gaps[0].why.contains("neither true nor false"),
        "{:?}",
        found[0].gaps
    );
}

/// What is deleted is marked by files alone, in the layers of the image as in the container's own.
#[test]
fn marks_that_are_files() {
    require_fuse!();
    let podman = Podman::fuse_without_devices();
    image(&podman);
    podman.run("one", "image", &SLEEP);
    // The program leaves what was deleted before in a directory that is made again.
    podman.exec(
        "one",
        "rm /usr/lib/lib.so; rm -r /home; mkdir /home; echo n > /home/file; rm /var/empty/second
         echo again > /usr/bin/link; rm /usr/bin/link; rm /etc/shadow; echo other > /etc/shadow",
    );
    let expected = differences([
        ("/etc/shadow", 'C', &["content", "mode"]),
        ("/home/file", 'A', &[]),
        ("/usr/lib/lib.so", 'D', &[]),
        ("/var/empty/second", 'D', &[]),
    ]);
    let upper = upper(&podman, "one");
    assert!(upper.join("usr/lib/.wh.lib.so").is_file());
    let by_name = |name: &str| {
        let found = Command::new("find")
            .arg(&upper)
            .args(name.split(' '))
            .output();
        String::from_utf8_lossy(&found.expect("find").stdout).into_owned()
    };
    assert_eq!(by_name("-type c"), "", "devices");
    for state in [State::Running, State::Exited] {
        if state == State::Exited {
            podman.podman(&["stop", "--time=0", "one"]);
        }
        let one = inspect_one(podman.live(), "one");
        assert_eq!(
            (one.container.state, one.engine),
            (state, Some(EngineKind::Overlay))
        );
        assert_eq!(not_of_runtime(&one), expected, "{state:?}");
        assert_eq!(not_of_runtime(&inspect_one(podman.disk(), "one")), expected);
    }
    // As it is mounted anew, and read whole.
    let fresh = podman.podman(&["create", "--network=none", "image", "/bin/sh"]);
    let mount = |name: &str| PathBuf::from(podman.podman(&["mount", name]));
    let compared = brute::compare(&mount(&fresh), &mount("one"));
    let told = brute::of_changes(&inspect_one(podman.live(), "one").changes);
    assert_eq!(told, compared);
    podman.podman(&["unmount", "--all"]);
}

/// Requires that a container is not called unchanged, and returns its gaps.
fn untold(podman: &Podman, name: &str) -> Vec<(String, String)> {
    let (mut found, gaps) = inspect(podman.live(), &[name]).expect("inspect");
    assert_eq!(gaps, [], "{name}");
    let one: Measurement = found.pop().expect("one container");
    one.gaps
        .iter()
        .map(|gap| (gap.what.to_string(), gap.why.clone()))
        .collect()
}

/// Names that look like marks: a process can make them by any call but open(2), and sees them.
#[test]
fn marks_that_a_process_makes_up() {
    require_fuse!();
    let podman = Podman::fuse();
    image(&podman);
    for (name, script, what) in [
        (
            "directory",
            "mkdir /etc/.wh.new; echo payload > /etc/.wh.new/payload",
            "/etc/.wh.new",
        ),
        ("over-file", "mkdir /etc/.wh.passwd", "/etc/.wh.passwd"),
        ("link", "ln -s /usr/bin/tool /etc/.wh.new", "/etc/.wh.new"),
        (
            "full",
            "echo payload > /etc/x; mv /etc/x /etc/.wh.new",
            "/etc/.wh.new",
        ),
        ("empty", ": > /etc/x; mv /etc/x /etc/.wh.new", "/etc/new"),
        (
            "beside",
            "echo payload > /etc/new; : > /etc/x; mv /etc/x /etc/.wh.new",
            "/etc/new",
        ),
        // The image has a mark of its own there.
        (
            "over-mark",
            "echo payload > /usr/bin/link; : > /x; mv /x /usr/bin/.wh.link",
            "/usr/bin/link",
        ),
        ("alone", "mkdir /etc/.wh.", "/etc/.wh."),
        (
            "doubled",
            "mkdir /etc/.wh..wh.foo; echo payload > /etc/.wh..wh.foo/x",
            "/etc/.wh..wh.foo",
        ),
        (
            "opaque",
            "mkdir /etc/.wh..wh..opq; echo payload > /etc/.wh..wh..opq/x",
            "/etc/.wh..wh..opq",
        ),
        ("device", "mknod /etc/.wh.new c 1 3", "/etc/.wh.new"),
        (
            "both",
            ": > /x; mv /x /etc/.wh.passwd; mkdir /etc/.wh..wh.passwd",
            "/etc/passwd",
        ),
    ] {
        podman.run(name, "image", &SLEEP);
        podman.exec(name, script);
        let gaps = untold(&podman, name);
        assert!(gaps.iter().any(|(of, _)| of == what), "{name}: {gaps:?}");
        // What is beside it is told all the same.
        podman.exec(name, "chmod 600 /etc/hosts; echo other > /etc/added");
        let (found, _) = inspect(podman.live(), &[name]).expect("inspect");
        let told = brute::of_changes(&found[0].changes);
        assert_eq!(
            told.get("/etc/added"),
            Some(&('A', vec![])),
            "{name}: {told:?}"
        );
        podman.podman(&["rm", "--force", "--time=0", name]);
    }
}

/// Names of several files of the image: the program shows a change of one of them by others too.
#[test]
fn several_names() {
    require_fuse!();
    let podman = Podman::fuse();
    let rootfs = small_rootfs();
    let root = rootfs.path().display();
    shell(&format!(
        "cd {root}; ln usr/bin/tool usr/bin/twin; ln usr/bin/tool etc/third"
    ));
    podman.import("image", rootfs.path());
    for (name, script) in [
        (
            "written",
            "printf X | dd of=/usr/bin/twin bs=1 conv=notrunc 2>/dev/null",
        ),
        ("moved", "mv /usr/bin/twin /etc/moved"),
        // Without the note of its original it is known by its own path.
        ("forged", "chmod 700 /etc/third"),
    ] {
        podman.run(name, "image", &SLEEP);
        podman.exec(name, script);
        // Asked about one of the other names alone.
        let target = Target::Named {
            runtime: None,
            name: name.to_owned(),
        };
        let request = Request {
            sources: podman.live(),
            targets: vec![target],
            paths: vec![RootPath::parse(b"/usr/bin/tool").expect("path")],
            options: Options::default(),
        };
        let mut found = Vec::new();
        host::inspect(&request, &mut |measurement| found.push(measurement)).expect("inspect");
        assert!(
            !found[0].gaps.is_empty() || !found[0].changes.is_empty(),
            "{name}"
        );
        if name == "forged" {
            let upper = upper(&podman, name);
            shell(&format!(
                "cd {}; for f in usr/bin/* etc/third; do [ ! -f $f ] || setfattr -x user.fuseoverlayfs.origin $f; done",
                upper.display()
            ));
        }
        let gaps = untold(&podman, name);
        assert!(
            gaps.iter().any(|(_, why)| why.contains("several names")),
            "{name}: {gaps:?}"
        );
    }
}

/// What a process wrote to a file that it has open reaches the layer later.
#[test]
fn what_is_kept_back() {
    require_fuse!();
    let podman = Podman::fuse();
    image(&podman);
    let write =
        "exec 3<>/usr/bin/tool; printf XX >&3; ln /usr/bin/tool /etc/other; touch /etc/passwd
        exec /bin/busybox sleep 1000";
    podman.run("one", "image", &["/bin/sh", "-ec", write]);
    let merged = merged(&podman, "one");
    let tool = |dir: &Path| std::fs::read(dir.join("usr/bin/tool")).expect("file");
    let upper = upper(&podman, "one");
    while !upper.join("etc/passwd").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let (seen, stored) = (tool(&merged), tool(&upper));
    let gaps = untold(&podman, "one");
    let is_told = gaps
        .iter()
        .any(|(of, why)| of == "/usr/bin/tool" && why.contains("open for writing"));
    let told = brute::of_changes(&inspect(podman.live(), &["one"]).expect("inspect").0[0].changes);
    // It may have been written back in between.
    let is_change = told.get("/usr/bin/tool") == Some(&('C', vec!["content"]));
    assert!(is_told || is_change, "{gaps:?} {told:?}");
    assert!(
        is_told || seen == stored || tool(&upper) == seen,
        "{gaps:?}"
    );
    // The file beside it, which nobody has open, is known.
    assert!(!gaps.iter().any(|(of, _)| of == "/etc/passwd"), "{gaps:?}");
    podman.podman(&["stop", "--time=0", "one"]);
    let expected = differences([
        ("/etc/other", 'A', &[]),
        ("/usr/bin/tool", 'C', &["content"]),
    ]);
    assert_eq!(not_of_runtime(&inspect_one(podman.live(), "one")), expected);
}

/// Owners and modes in attributes: another form, which is refused.
#[test]
fn owners_in_attributes() {
    require_fuse!();
    let podman = Podman::fuse();
    image(&podman);
    podman.podman(&["create", "--name=one", "--network=none", "image", "/bin/sh"]);
    let upper = upper(&podman, "one");
    shell(&format!(
        "setfattr -n user.containers.override_stat -v 0:0:0755 {}",
        upper.display()
    ));
    for sources in [podman.live(), podman.disk()] {
        let (found, _) = inspect(sources, &["one"]).expect("inspect");
        assert_eq!(found[0].engine, None);
        let why = &found[0].gaps[0].why;
        assert!(why.contains("user.containers.override_stat"), "{why}");
    }
}

fn look(sources: Sources, target: Target) -> Result<Measurement, String> {
    let request = Request {
        sources,
        targets: vec![target],
        paths: Vec::new(),
        options: Options::default(),
    };
    let mut found = Vec::new();
    host::inspect(&request, &mut |measurement| found.push(measurement))
        .map_err(|e| e.to_string())?;
    Ok(found.pop().expect("one container"))
}

/// A container by its mount and by its process; a mount that no store knows.
#[test]
fn by_mount_and_process() {
    require_fuse!();
    let podman = Podman::fuse();
    image(&podman);
    podman.run("one", "image", &SLEEP);
    podman.exec("one", "rm /usr/lib/lib.so");
    let merged = merged(&podman, "one");
    let pid = inspect_one(podman.live(), "one")
        .container
        .pid
        .expect("its process");
    for target in [Target::OverlayMount(merged.clone()), Target::Process(pid)] {
        let found = look(podman.live(), target).expect("inspect");
        assert_eq!(found.container.name.as_deref(), Some("one"));
        assert_eq!(
            not_of_runtime(&found),
            differences([("/usr/lib/lib.so", 'D', &[])])
        );
        assert_eq!(found.gaps, []);
    }
    // Where its store is not looked at it is told that there is something.
    for target in [Target::OverlayMount(merged.clone()), Target::Process(pid)] {
        let told = look(Sources::default(), target).unwrap_err();
        assert!(
            told.contains("fuse-overlayfs") && told.contains("--data-root"),
            "{told}"
        );
    }
    let dir = tempfile::tempdir().expect("directory");
    let at = dir.path().display();
    shell(&format!(
        "cd {at}; mkdir l u w m; echo x > l/f; {FUSE_OVERLAYFS} -o lowerdir=l,upperdir=u,workdir=w m 2>/dev/null"
    ));
    let told = look(
        Sources::default(),
        Target::OverlayMount(dir.path().join("m")),
    );
    mounts::unmount_beneath(&[dir.path()]);
    let told = told.unwrap_err();
    assert!(told.contains("tree:IMAGE:CONTAINER"), "{told}");
}

/// A store that the kernel mounts, in which names look like marks of the program.
#[test]
fn plain_names_for_the_kernel() {
    require_fuse!();
    let podman = Podman::new();
    podman.import("image", small_rootfs().path());
    podman.run("one", "image", &SLEEP);
    podman.exec("one", ": > /etc/.wh.passwd; mkdir /home/.wh..wh..opq");
    let expected = differences([
        ("/etc/.wh.passwd", 'A', &[]),
        ("/home/.wh..wh..opq", 'A', &[]),
    ]);
    for sources in [podman.live(), podman.disk()] {
        assert_eq!(not_of_runtime(&inspect_one(sources, "one")), expected);
    }
}

/// An image whose own files look like marks of every form, in the layers beneath and in the one above: what a
/// container of it shows is what the program makes of them.
#[test]
fn an_image_full_of_marks() {
    require_fuse!();
    let podman = Podman::fuse();
    let rootfs = small_rootfs();
    let root = rootfs.path().display();
    // In one layer a mark hides what stands beside it as well.
    shell(&format!(
        r"cd {root}; mkdir -p d/opaque e/opaque d/.wh.shadow etc/.wh. d/sub; echo d > d/.wh.shadow/x
        for f in shadow link full plain device twin; do echo $f > d/$f; done
        ln -s /etc/passwd d/.wh.link; echo content > d/.wh.full; : > d/.wh.plain; mknod d/.wh.device c 0 0
        : > d/.wh..wh.nothing; echo o > d/opaque/file; : > d/opaque/.wh..wh..opq; mkdir -p e/opaque/.wh..wh..opq
        : > d/.wh.absent; mkdir d/.wh.sub; echo s > d/sub/file; echo opq > d/opaque/.opq; : > d/opaque/.wh..opq"
    ));
    podman.import("image", rootfs.path());
    podman.run("one", "image", &SLEEP);
    let fresh = podman.podman(&["create", "--network=none", "image", "/bin/sh"]);
    let fresh = PathBuf::from(podman.podman(&["mount", &fresh]));
    assert_eq!(inspect_one(podman.live(), "one").gaps, []);
    podman.exec(
        "one",
        "echo x > /d/shadow; echo x > /d/plain; rm /d/twin; echo x > /d/absent; mkdir /d/sub
         echo y > /d/opaque/file; rmdir /e/opaque; echo f > /e/opaque",
    );
    let compared = brute::compare(&fresh, &merged(&podman, "one"));
    for sources in [podman.live(), podman.disk()] {
        let one = inspect_one(sources, "one");
        let told = brute::of_changes(&one.changes);
        assert_eq!(told.get("/d/shadow"), Some(&('A', vec![])));
        let ours = |(path, what): (&String, &(char, Vec<&'static str>))| {
            let is_ours = path.starts_with("/d") || path.starts_with("/e/") || path == "/e";
            is_ours.then(|| (path.clone(), what.clone()))
        };
        let of = |all: &Differences| all.iter().filter_map(ours).collect::<Differences>();
        assert_eq!(of(&told), of(&compared));
    }
    podman.podman(&["unmount", "--all"]);
}

/// Whoever watches every file and directory of the mount sees nothing of a check.
#[test]
fn a_watcher_sees_nothing() {
    require!("inotifywait");
    require_fuse!();
    let podman = Podman::fuse();
    image(&podman);
    podman.run("one", "image", &SLEEP);
    podman.exec("one", "printf X | dd of=/usr/bin/tool bs=1 conv=notrunc 2>/dev/null; rm /etc/shadow; touch /etc/hosts");
    let merged = merged(&podman, "one");
    let log = tempfile::NamedTempFile::new().expect("file");
    let stream = || {
        let mut options = std::fs::File::options();
        options.append(true).open(log.path()).expect("file")
    };
    let mut watcher = Command::new("inotifywait")
        .args(["--monitor", "--recursive", "--format", "%w%f %e"])
        .arg(&merged)
        .stdout(stream())
        .stderr(stream())
        .spawn()
        .expect("inotifywait");
    let told = || std::fs::read_to_string(log.path()).expect("log");
    let wait = |text: &str| {
        let start = std::time::Instant::now();
        while !told().contains(text) {
            assert!(start.elapsed().as_secs() < 60, "{}", told());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    wait("Watches established");
    let quiet = told();
    for engine in [None, Some(EngineKind::Digest)] {
        let options = Options {
            engine,
            ..Options::default()
        };
        let looked = inspect_of(RuntimeKind::Podman, podman.live(), &["one"], options);
        let (found, _) = looked.expect("inspect");
        assert!(not_of_runtime(&found[0]).contains_key("/usr/bin/tool"));
        look(podman.live(), Target::OverlayMount(merged.clone())).expect("inspect");
    }
    let after = told();
    std::fs::write(merged.join("home/seen"), "").expect("file");
    wait("home/seen CREATE");
    watcher.kill().expect("kill");
    watcher.wait().expect("wait");
    assert_eq!(after, quiet);
}
