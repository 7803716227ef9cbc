//! Memory is bounded, whatever a container makes: the program itself, with a limit set by the kernel.

use std::path::Path;
use std::process::Command;

use plimsoll_core::model::ChangeKind;
use plimsoll_e2e::btrfs::Image;
use plimsoll_e2e::loopfs::{Kind, LoopFs};
use plimsoll_e2e::overlay::Overlay;
use plimsoll_e2e::{program, require};
use plimsoll_host::inspect::Options;

/// What SPEC.md promises of any container, in MiB, with the default of `--max-changes`.
const BOUND: u64 = 192;

/// Runs a check that may not take more memory than `mebibytes`, and returns its report.
///
/// `RLIMIT_DATA` counts the heap and every other private mapping that can be written (`setrlimit(2)`).
fn check_within(mebibytes: u64, target: &str) -> serde_json::Value {
    let output = Command::new("prlimit")
        .arg(format!("--data={}", mebibytes << 20))
        .arg("--")
        .arg(program::path())
        .args(["check", "--format", "json", target])
        .env("PLIMSOLL_CONFIG", "/dev/null")
        .output()
        .expect("prlimit");
    assert!(
        matches!(output.status.code(), Some(0..=2)),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let mut report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    report["containers"][0].take()
}

fn changes(container: &serde_json::Value) -> usize {
    container["changes"].as_array().expect("changes").len()
}

fn overlay_target(overlay: &Overlay) -> String {
    format!("overlay:{}", overlay.container().display())
}

/// Makes `count` names of one file, in directories of 10,000.
fn links(file: &Path, into: &Path, count: usize) {
    for n in 0..count {
        let dir = into.join(format!("d{}", n / 10_000));
        if n % 10_000 == 0 {
            std::fs::create_dir_all(&dir).expect("directory");
        }
        std::fs::hard_link(file, dir.join(format!("l{n}"))).expect("link");
    }
}

#[test]
fn the_limit_is_felt() {
    require!("prlimit", "mkfs.ext4");
    let fs = LoopFs::new(Kind::Ext4, 64);
    let lower = fs.path().join("lower");
    std::fs::create_dir(&lower).expect("lower");
    let overlay = Overlay::mount(&fs.path(), &[lower], &[], "");
    assert_eq!(changes(&check_within(BOUND, &overlay_target(&overlay))), 0);
    let starved = std::panic::catch_unwind(|| check_within(0, &overlay_target(&overlay)));
    assert!(starved.is_err(), "a program without memory cannot run");
}

#[test]
fn names_of_the_greatest_length() {
    require!("prlimit", "mkfs.ext4");
    let fs = LoopFs::with(Kind::Ext4, 4096, &["-N", "400000"], "");
    let lower = fs.path().join("lower");
    std::fs::create_dir(&lower).expect("lower");
    let overlay = Overlay::mount(&fs.path(), &[lower], &[], "");
    // Paths of 1,300 bytes, 150,000 of them: more than are kept.
    let long = "n".repeat(255);
    let mut dir = overlay.container();
    for _ in 0..4 {
        dir = dir.join(&long);
    }
    std::fs::create_dir_all(&dir).expect("directories");
    for n in 0..150_000 {
        std::fs::write(dir.join(format!("{n:0>255}")), b"").expect("file");
    }
    let container = check_within(BOUND, &overlay_target(&overlay));
    assert!(changes(&container) > 40_000);
    assert_eq!(container["verdict"], "violated");
    let why = container["gaps"][0]["why"].as_str().expect("gap");
    assert!(why.contains("more changes were counted"), "{why}");
}

#[test]
fn targets_of_the_greatest_length() {
    require!("prlimit", "mkfs.xfs");
    let fs = LoopFs::new(Kind::Xfs, 2048);
    let lower = fs.path().join("lower");
    std::fs::create_dir(&lower).expect("lower");
    let overlay = Overlay::mount(&fs.path(), &[lower], &[], "");
    for n in 0..70_000 {
        let link = overlay.container().join(n.to_string());
        std::os::unix::fs::symlink(format!("{n:0>1020}"), link).expect("link");
    }
    let container = check_within(BOUND, &overlay_target(&overlay));
    assert!((50_000..70_000).contains(&changes(&container)));
    let why = container["gaps"][0]["why"].as_str().expect("gap");
    assert!(why.contains("more changes were counted"), "{why}");
}

/// Attributes of 64 KiB on both sides of every file.
#[test]
fn attributes_of_the_greatest_size() {
    require!("prlimit", "mkfs.xfs");
    let fs = LoopFs::new(Kind::Xfs, 2048);
    let lower = fs.path().join("lower");
    std::fs::create_dir(&lower).expect("lower");
    let value = vec![b'v'; 65_000];
    let set = |path: &Path, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(path, "user.big", value, flags).expect("attribute");
    };
    for n in 0..2000 {
        let file = lower.join(format!("f{n}"));
        std::fs::write(&file, b"").expect("file");
        set(&file, &value);
    }
    let overlay = Overlay::mount(&fs.path(), &[lower], &[], "");
    for n in 0..2000 {
        let mut value = value.clone();
        value[n] = b'w';
        set(&overlay.container().join(format!("f{n}")), &value);
    }
    let container = check_within(BOUND, &overlay_target(&overlay));
    assert_eq!(changes(&container), 2000);
    assert_eq!(container["changes"][0]["aspects"][0], "xattr");
}

#[test]
fn a_hundred_thousand_hard_links_on_overlay() {
    require!("prlimit", "mkfs.xfs");
    let fs = LoopFs::new(Kind::Xfs, 2048);
    let lower = fs.path().join("lower");
    std::fs::create_dir(&lower).expect("lower");
    std::fs::write(lower.join("one"), b"one").expect("file");
    links(&lower.join("one"), &lower.join("many"), 100_000);
    // Without an index a write breaks the link, with one it changes every name.
    let plain = Overlay::mount(
        &fs.path().join("plain"),
        std::slice::from_ref(&lower),
        &[],
        "",
    );
    std::fs::write(plain.container().join("one"), b"two").expect("write");
    assert_eq!(changes(&check_within(BOUND, &overlay_target(&plain))), 1);
    let indexed = Overlay::mount(&fs.path().join("indexed"), &[lower], &[], ",index=on");
    std::fs::write(indexed.container().join("many/d3/l30001"), b"two").expect("write");
    let container = check_within(BOUND, &overlay_target(&indexed));
    assert_eq!(changes(&container), Options::default().max_changes);
    let why = container["gaps"][0]["why"].as_str().expect("gap");
    assert!(why.starts_with("1 more changes"), "{why}");
    // Made in the container, of a file of the image.
    let made = Overlay::mount(
        &fs.path().join("made"),
        &[fs.path().join("lower/many/d0")],
        &[],
        "",
    );
    links(
        &made.container().join("l7"),
        &made.container().join("new"),
        99_000,
    );
    let container = check_within(BOUND, &overlay_target(&made));
    assert_eq!(changes(&container), 99_000 + 1 + 10);
}

/// Btrfs allows 65,535 names of one file.
#[test]
fn as_many_hard_links_as_btrfs_has() {
    require!("prlimit", "mkfs.btrfs", "btrfs");
    let fs = LoopFs::new(Kind::Btrfs, 4096);
    let image = Image::empty(&fs.path());
    std::fs::write(image.path().join("one"), b"one").expect("file");
    links(
        &image.path().join("one"),
        &image.path().join("many"),
        65_000,
    );
    image.commit();
    let container = image.container("c");
    std::fs::write(container.join("many/d3/l30001"), b"two").expect("write");
    let target =
        |container: &Path| format!("tree:{}:{}", image.path().display(), container.display());
    let report = check_within(BOUND, &target(&container));
    assert_eq!(report["engine"], "btrfs");
    assert_eq!(changes(&report), 65_001);
    assert_eq!(report["changes"][0]["kind"], "changed");
    let measurement = image.check(&container, Vec::new(), Options::default());
    assert!(
        measurement
            .changes
            .iter()
            .all(|c| c.kind == ChangeKind::Changed)
    );
}
