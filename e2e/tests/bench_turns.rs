//! `plimsoll bench`: its figures are plausible, its methods agree, and it leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::loopfs::{Kind, LoopFs};
use plimsoll_e2e::overlay::Overlay;
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_e2e::{command, program, require};
use serde_json::Value;

/// Bytes of each file of the image.
const SIZE: usize = 200_000;

/// An overlay with three changes, and a copy of a file in which nothing changed.
struct Container {
    // Unmounted before what it lies on.
    overlay: Overlay,
    fs: LoopFs,
}

impl Container {
    fn new() -> Self {
        let fs = LoopFs::new(Kind::Ext4, 256);
        let lower = fs.path().join("lower");
        fs::create_dir_all(lower.join("etc")).unwrap();
        for name in ["same", "tampered", "gone", "touched"] {
            fs::write(lower.join("etc").join(name), name.repeat(SIZE / name.len())).unwrap();
        }
        let overlay = Overlay::mount(&fs.path(), &[lower], &[], "");
        let etc = overlay.container().join("etc");
        let old = fs::metadata(etc.join("tampered")).unwrap();
        let mut content = fs::read(etc.join("tampered")).unwrap();
        content[SIZE / 2] ^= 1;
        fs::write(etc.join("tampered"), content).unwrap();
        let file = fs::File::options()
            .write(true)
            .open(etc.join("tampered"))
            .unwrap();
        file.set_modified(old.modified().unwrap()).unwrap();
        fs::remove_file(etc.join("gone")).unwrap();
        fs::write(etc.join("new <b>&\"'"), "new").unwrap();
        // Copied up, and nothing written.
        fs::File::options()
            .append(true)
            .open(etc.join("touched"))
            .unwrap();
        Self { overlay, fs }
    }

    fn target(&self) -> String {
        format!("overlay:{}", self.overlay.container().display())
    }

    /// A directory on the file system, for what the program writes.
    fn place(&self, name: &str) -> PathBuf {
        let place = self.fs.path().join(name);
        fs::create_dir_all(&place).unwrap();
        place
    }

    /// Bytes of the container's files that the image has too.
    fn shared_bytes(&self) -> u64 {
        let etc = self.overlay.container().join("etc");
        let files = ["same", "tampered", "touched"].map(|name| etc.join(name));
        files
            .iter()
            .map(|file| fs::metadata(file).unwrap().len())
            .sum()
    }

    fn bench(&self, arguments: &[&str]) -> Command {
        let mut command = program::command();
        command.args(["bench", &self.target()]).args(arguments);
        command
    }
}

#[track_caller]
fn document(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{err}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

/// What holds of each method, whatever the container.
fn plausible(method: &Value, runs: u64) {
    let hashes = method["engine"] == "digest";
    assert_eq!(number(&method["storedBytes"]) > 0, hashes, "{method}");
    assert_eq!(method["storing"].is_object(), hashes, "{method}");
    assert_eq!(number(&method["gaps"]), 0, "{method}");
    assert!(number(&method["systemCalls"]) > 20, "{method}");
    let samples = method["warm"]["samples"].as_array().unwrap();
    assert_eq!(samples.len() as u64, runs);
    for sample in samples {
        let of = |key: &str| number(&sample[key]);
        assert!(of("wallMicros") > of("engineMicros"), "{sample}");
        assert!(of("userMicros") + of("systemMicros") > 0, "{sample}");
        // More than nothing, and not what this test or its parents once needed.
        assert!(
            (1 << 20..100 << 20).contains(&of("peakMemoryBytes")),
            "{sample}"
        );
        assert!(of("readBytes") >= of("contentBytes"), "{sample}");
    }
}

#[test]
fn figures_are_plausible_and_methods_agree() {
    require!("mkfs.ext4", "python3");
    let container = Container::new();
    let page = container.place("out").join("page.html");
    let page_text = page.display().to_string();
    let document =
        document(&mut container.bench(&["--runs", "2", "--format", "json", "--html", &page_text]));
    assert_eq!(document["schemaVersion"], 1);
    let compared = &document["containers"][0];
    assert_eq!(compared["agree"], true, "{compared}");
    assert_eq!(compared["engine"], "overlay");
    let methods = compared["methods"].as_array().unwrap();
    let names: Vec<_> = methods
        .iter()
        .map(|m| m["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "overlay exact",
            "overlay pure",
            "digest md5",
            "digest sha256",
            "digest blake3"
        ]
    );
    for method in methods {
        plausible(method, 2);
        let pure = method["name"] == "overlay pure";
        // By metadata alone the touched file may have changed too.
        assert_eq!(
            number(&method["changes"]),
            if pure { 4 } else { 3 },
            "{method}"
        );
        // Equal sizes leave two files open.
        assert_eq!(
            number(&method["unconfirmed"]),
            if pure { 2 } else { 0 },
            "{method}"
        );
        let content = number(&method["warm"]["contentBytes"]["median"]);
        match method["name"].as_str().unwrap() {
            "overlay pure" => assert_eq!(content, 0),
            // Both sides of two files at most.
            "overlay exact" => assert!((1..=4 * SIZE as u64).contains(&content), "{content}"),
            // Each file that both sides have, once, and no more.
            _ => assert_eq!(content, container.shared_bytes(), "{method}"),
        }
    }
    well_formed(&page);
    repeated(&methods[0], 3);
}

/// Parsed by something else; nothing in it is fetched from anywhere.
fn well_formed(page: &Path) {
    const SCRIPT: &str = "import sys, xml.etree.ElementTree as tree\n\
        root = tree.parse(sys.argv[1]).getroot()\n\
        names = [e.tag for e in root.iter()]\n\
        assert names.count('svg') == 6 and names.count('desc') == 6, names\n\
        assert not set(names) & {'script', 'img', 'link', 'iframe', 'a', 'use', 'image'}, names\n\
        for e in root.iter():\n\
        \x20   assert not set(e.attrib) & {'src', 'href', 'style', 'onload'}, e.attrib\n";
    command::run("python3", &["-c", SCRIPT, &page.display().to_string()]);
    let text = fs::read_to_string(page).unwrap();
    for reference in ["http:", "https:", "url(", "@import"] {
        assert!(!text.contains(reference), "{reference}");
    }
}

/// The command line that the document gives does what it says.
fn repeated(method: &Value, changes: usize) {
    let arguments: Vec<&str> = method["arguments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|argument| argument.as_str().unwrap())
        .collect();
    let output = program::command().args(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        report["containers"][0]["changes"].as_array().unwrap().len(),
        changes
    );
    let line = method["command"].as_str().unwrap();
    assert_eq!(line, format!("plimsoll {}", arguments.join(" ")));
}

#[test]
fn cold_turns_are_told_beside_warm_ones() {
    require!("mkfs.ext4");
    let container = Container::new();
    let document =
        document(&mut container.bench(&["--runs", "1", "--drop-caches", "--format", "json"]));
    for method in document["containers"][0]["methods"].as_array().unwrap() {
        assert_eq!(method["cold"]["samples"].as_array().unwrap().len(), 1);
        assert_eq!(method["warm"]["samples"].as_array().unwrap().len(), 1);
    }
    // It was in no cache.
    let hashing = &document["containers"][0]["methods"][2]["cold"];
    assert!(
        number(&hashing["storageBytes"]["median"]) >= 2 * SIZE as u64,
        "{hashing}"
    );

    let table = container.bench(&["--runs", "1"]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("CACHES WARM") && !table.contains("CACHES COLD"),
        "{table}"
    );
}

#[test]
fn what_cannot_be_had_is_told_before_the_work() {
    require!("mkfs.ext4", "setpriv");
    let container = Container::new();
    let output = container
        .bench(&["--html", "/no/such/directory/page.html"])
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(
        err.starts_with("error: cannot write") && !err.contains("storing"),
        "{err}"
    );

    let place = container.place("public");
    let copy = place.join("plimsoll");
    fs::copy(program::path(), &copy).unwrap();
    for dir in [container.fs.path(), place] {
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(copy)
        .args(["bench", &container.target(), "--drop-caches"])
        .env("PLIMSOLL_CONFIG", "/dev/null")
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(
        err.contains("cannot be dropped") && err.contains("needs root"),
        "{err}"
    );
}

/// Processes that look at this container.
fn processes(target: &str) -> usize {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| {
            String::from_utf8_lossy(line)
                .split('\0')
                .any(|a| a == target)
        })
        .count()
}

#[test]
fn interrupted_it_leaves_nothing_behind() {
    require!("mkfs.ext4");
    let container = Container::new();
    let [temporary, out, kept] = ["tmp", "out", "kept"].map(|name| container.place(name));
    let left = || -> Vec<String> {
        [&temporary, &out, &kept]
            .iter()
            .flat_map(|place| fs::read_dir(place).unwrap())
            .map(|entry| entry.unwrap().file_name().display().to_string())
            .filter(|name| !["md5", "sha256", "blake3"].contains(&name.as_str()))
            .collect()
    };
    // Not INT and HUP: a shell that starts the tests in the background has them ignored, and before the
    // program listens they would be lost.
    for (signal, milliseconds, keep) in [
        (rustix::process::Signal::TERM, 5, false),
        (rustix::process::Signal::TERM, 40, false),
        (rustix::process::Signal::TERM, 40, true),
        (rustix::process::Signal::TERM, 80, true),
        (rustix::process::Signal::TERM, 300, false),
        (rustix::process::Signal::TERM, 700, true),
        (rustix::process::Signal::KILL, 400, false),
    ] {
        let mut command = container.bench(&["--runs", "1000", "--html"]);
        command.arg(out.join("page.html"));
        if keep {
            command.arg("--keep").arg(&kept);
        }
        let child = command
            .env("TMPDIR", &temporary)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        // Dead before it could listen, or interrupted.
        let code = output.status.code();
        assert!(matches!(code, None | Some(2)), "{code:?}: {err}");
        if code.is_some() {
            assert!(err.contains("interrupted, and cleaned up"), "{err}");
            assert_eq!(left(), [""; 0]);
        }
        // What it started ends with it, whatever it dies of.
        let start = Instant::now();
        while processes(&container.target()) > 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "still running");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn all_of_docker(driver: Driver, engine: &str) {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "mkfs.btrfs",
        "mkfs.ext4"
    );
    let daemon = Dockerd::start(driver);
    daemon.import("base", small_rootfs().path());
    daemon.build("image", "FROM base\nRUN echo second > /etc/second");
    for name in ["edited", "untouched"] {
        daemon.run(name, &[], "image", &["sleep", "1000"]);
    }
    daemon.exec(
        "edited",
        "printf X | dd of=/usr/bin/tool bs=1 seek=100 conv=notrunc; rm /etc/second",
    );
    let mut command = program::command();
    command
        .args(["bench", "--runs", "1", "--format", "json", "--docker-host"])
        .arg(daemon.socket());
    let document = document(&mut command);
    let containers = document["containers"].as_array().unwrap();
    let names: Vec<_> = containers
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["edited", "untouched"]);
    for container in containers {
        assert_eq!(container["engine"], engine, "{container}");
        assert_eq!(container["agree"], true, "{container}");
        assert_eq!(container["methods"].as_array().unwrap().len(), 5);
        for method in container["methods"].as_array().unwrap() {
            plausible(method, 1);
        }
    }
    let changes = |container: usize| number(&containers[container]["methods"][0]["changes"]);
    assert_eq!(changes(0), changes(1) + 2);
}

#[test]
fn all_containers_of_docker_with_overlay2() {
    all_of_docker(Driver::Overlay2, "overlay");
}

#[test]
fn all_containers_of_docker_with_btrfs() {
    all_of_docker(Driver::Btrfs, "btrfs");
}
