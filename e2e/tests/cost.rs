//! The cost of a check follows the changes, not the image: told by the system calls that it makes, which
//! no other work on the machine can blur.

use std::fs;
use std::path::{Path, PathBuf};

use plimsoll_e2e::command::shell;
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::loopfs::{Kind, LoopFs};
use plimsoll_e2e::overlay::Overlay;
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_e2e::{program, require};
use plimsoll_syscall::{child, trace};

/// Files of one directory of an image.
const IN_ONE: usize = 50;

/// Fills a directory with files: the same ones first, whatever their number.
fn fill(dir: &Path, files: usize) {
    for n in 0..files {
        let dir = dir.join(format!("d{:04}", n / IN_ONE));
        if n % IN_ONE == 0 {
            fs::create_dir_all(&dir).unwrap();
        }
        fs::write(dir.join(format!("f{n:05}")), format!("{n:05}").repeat(1200)).unwrap();
    }
}

/// Changes the first files: one byte of each, as long as before.
fn change(dir: &Path, changes: usize) {
    use std::os::unix::fs::FileExt as _;
    for n in 0..changes {
        let path = dir.join(format!("d{:04}/f{n:05}", n / IN_ONE));
        let file = fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(b"X", 10).unwrap();
    }
}

/// What a check of this target costs.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    calls: u64,
    memory: u64,
}

/// Checks a target, of which so many paths must be told, and returns what that cost.
fn cost(target: &str, changes: usize) -> Cost {
    let command = || {
        let mut command = program::command();
        // One thread: how often another one waits is chance.
        command.args(["check", target, "--jobs", "1", "--format", "json"]);
        command
    };
    let told = command().output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let container = &told["containers"][0];
    assert_eq!(container["gaps"], serde_json::json!([]), "{target}");
    assert_eq!(container["changes"].as_array().unwrap().len(), changes);
    let quiet = || {
        let mut command = command();
        command.stdout(std::process::Stdio::null());
        command
    };
    // What an earlier run left to be written is not of this one.
    rustix::fs::sync();
    let (status, calls) = trace::count_calls(&mut quiet(), &|| true).unwrap();
    assert_eq!(status.code(), Some(i32::from(changes > 0)));
    let usage = child::reap(child::separate(&mut quiet()).spawn().unwrap()).unwrap();
    Cost {
        calls,
        memory: usage.peak_memory,
    }
}

/// Holds the costs of a container against each other; `make` makes one of so many files in its image, of
/// which so many differ, and returns its target.
fn follows_the_changes(make: impl Fn(usize, usize) -> String) {
    let untouched = [400, 4000].map(|files| cost(&make(files, 0), 0));
    let one = [400, 4000].map(|files| cost(&make(files, 1), 1));
    let changes = [20, 200, 2000].map(|changes| cost(&make(4000, changes), changes));
    for [small, large] in [untouched, one] {
        // Directories of more entries are read in more portions, trees have another level: a few calls.
        assert!(
            large.calls * 10 <= small.calls * 11,
            "{} calls for the image, {} for one ten times as large",
            small.calls,
            large.calls
        );
        assert!(
            large.memory <= small.memory + (1 << 20),
            "{small:?} {large:?}"
        );
    }
    for pair in changes.windows(2) {
        let [fewer, more] = pair else { unreachable!() };
        assert!(
            more.calls <= fewer.calls * 11,
            "{} calls for the changes, {} for ten times as many",
            fewer.calls,
            more.calls
        );
    }
}

#[test]
fn overlay() {
    require!("mkfs.ext4");
    let fs = LoopFs::new(Kind::Ext4, 512);
    let overlays = std::cell::RefCell::new(Vec::new());
    follows_the_changes(|files, changes| {
        let base = fs.path().join(format!("{files}-{changes}"));
        let image = base.join("lower");
        fs::create_dir_all(&image).unwrap();
        fill(&image, files);
        let overlay = Overlay::mount(&base, &[image], &[], "");
        change(&overlay.container(), changes);
        let target = format!("overlay:{}", overlay.container().display());
        overlays.borrow_mut().push(overlay);
        target
    });
}

#[test]
fn btrfs() {
    require!("mkfs.btrfs", "btrfs");
    let fs = LoopFs::new(Kind::Btrfs, 1024);
    let names: std::cell::RefCell<Vec<PathBuf>> = std::cell::RefCell::default();
    follows_the_changes(|files, changes| {
        let [image, container] =
            ["image", "container"].map(|name| fs.path().join(format!("{files}-{changes}-{name}")));
        let (i, c) = (image.display(), container.display());
        shell(&format!("btrfs subvolume create {i}"));
        fill(&image, files);
        shell(&format!("sync; btrfs subvolume snapshot {i} {c}"));
        change(&container, changes);
        names.borrow_mut().push(container.clone());
        format!("tree:{i}:{c}")
    });
}

/// How many calls one more container of an image of so many layers costs.
fn one_more(driver: Driver) -> u64 {
    let daemon = Dockerd::start(driver);
    daemon.import("base", small_rootfs().path());
    let layers: String = (0..8).map(|n| format!("RUN echo {n} > /{n}\n")).collect();
    daemon.build("image", &format!("FROM base\n{layers}"));
    let calls = || {
        let mut command = program::command();
        let root = daemon.data_root();
        command.args(["check", "--jobs", "1", "--format", "ndjson", "--runtime"]);
        command.args(["docker", "--data-root"]).arg(root);
        command.stdout(std::process::Stdio::null());
        rustix::fs::sync();
        let (status, calls) = trace::count_calls(&mut command, &|| true).unwrap();
        assert_eq!(status.code(), Some(0));
        calls
    };
    daemon.create_many("few", 4, "image");
    let few = calls();
    daemon.create_many("more", 16, "image");
    (calls() - few) / 16
}

/// What depends on the image alone is found once, however many containers are on it.
#[test]
fn one_more_container_of_an_image() {
    require!("dockerd", "containerd", "docker", "mkfs.ext4", "mkfs.btrfs");
    // Of these, its records and its own layer take some 35, and its init layer the others: five for each
    // directory there and two for each file, of which it has more than elsewhere, since this image has hardly
    // any of them. A look at each layer of the image for each name there would take as many again.
    // On Btrfs some follow the order in which containers and what is in them were made, which is chance.
    for (driver, most) in [(Driver::Overlay2, 96), (Driver::Btrfs, 46)] {
        let calls = one_more(driver);
        assert!(calls <= most, "{calls} calls with {}", driver.as_str());
    }
}

/// What is looked at of a container because it runs costs about as much as its layers do, and no more.
#[test]
fn one_that_runs() {
    require!("dockerd", "containerd", "docker", "mkfs.ext4", "mkfs.btrfs");
    for driver in [Driver::Overlay2, Driver::Btrfs] {
        let daemon = Dockerd::start(driver);
        daemon.import("image", small_rootfs().path());
        daemon.run("web", &[], "image", &["sleep", "1000"]);
        let calls = || {
            let mut command = program::command();
            command.args(["check", "web", "--format", "json", "--data-root"]);
            command.arg(daemon.data_root());
            command.stdout(std::process::Stdio::null());
            rustix::fs::sync();
            let (status, calls) = trace::count_calls(&mut command, &|| true).unwrap();
            assert_eq!(status.code(), Some(0));
            calls
        };
        let running = calls();
        daemon.docker(&["kill", "web"]);
        let stopped = calls();
        // Some 30 are about its process and its groups, 40 about its mounts.
        assert!(
            running <= stopped + 84,
            "{driver:?}: {running} calls running, {stopped} stopped"
        );
    }
}
