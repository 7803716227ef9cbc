//! Every operation on Btrfs, on file systems of several kinds: the engine must say exactly what
//! reading both trees says, of changes that nobody committed yet.

use std::path::Path;

use plimsoll_core::model::EngineKind;
use plimsoll_e2e::btrfs::Image;
use plimsoll_e2e::command::{run, shell};
use plimsoll_e2e::conformance::Record;
use plimsoll_e2e::operations;
use plimsoll_e2e::{brute, require};
use plimsoll_host::inspect::Options;
use plimsoll_host::measure::Confirm;

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Judges what is more than an operation in the container, and writes it down.
fn judge(image: &Image, scenario: &str, container: &Path) -> Vec<String> {
    image
        .judgement(scenario, container)
        .record("subvolume", scenario, true)
}

fn operations(column: &str, mkfs: &[&str], mount: &str) {
    require!(
        "mkfs.btrfs",
        "btrfs",
        "setfattr",
        "setfacl",
        "setcap",
        "xfs_io",
        "python3"
    );
    let image = Image::new(mkfs, mount);
    let mut wrong = Vec::new();
    let (mut tried, mut worked) = (0, 0);
    for (n, operation) in operations::all().enumerate() {
        let container = image.container(&format!("op{n}"));
        let performed = operation.perform(&container);
        tried += 1;
        worked += usize::from(performed.worked);
        let judgement = image.judgement(operation.name, &container);
        wrong.extend(operation.doubt(&performed, &judgement.expected));
        wrong.extend(judgement.record(column, operation.name, performed.worked));
        drop(performed);
        // For the room alone; one that holds another subvolume stays.
        shell(&format!(
            "btrfs property set {0} ro false; btrfs -q subvolume delete {0} 2> /dev/null || true",
            container.display()
        ));
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        worked * 10 > tried * 8,
        "only {worked} of {tried} operations worked"
    );
}

#[test]
fn default_file_system() {
    operations("subvolume", &[], "");
}

#[test]
fn compressed_with_zlib() {
    operations("subvolume-zlib", &[], ",compress-force=zlib");
}

#[test]
fn compressed_with_zstd_and_no_inline_files() {
    operations("subvolume-zstd", &[], ",compress-force=zstd,max_inline=0");
}

#[test]
fn sha256_checksums() {
    operations("subvolume-sha256", &["--csum", "sha256"], "");
}

#[test]
fn no_checksums() {
    operations("subvolume-nodatacow", &[], ",nodatacow");
}

#[test]
fn an_image_with_a_nested_subvolume() {
    require!("mkfs.btrfs", "btrfs");
    let image = Image::new(&[], "");
    let inner = image.path().join("inner");
    run("btrfs", &["-q", "subvolume", "create", text(&inner)]);
    std::fs::write(inner.join("f"), b"f").expect("write");
    let container = image.container("c");
    assert_eq!(
        judge(&image, "the image has a nested subvolume", &container),
        Vec::<String>::new()
    );
}

#[test]
fn balance_and_remount() {
    require!("mkfs.btrfs", "btrfs");
    let image = Image::new(&[], "");
    let container = image.container("c");
    shell(&format!(
        "cd {}; echo x >> etc/small; rm bin/other; sync -f .",
        container.display()
    ));
    run(
        "btrfs",
        &[
            "-q",
            "balance",
            "start",
            "--full-balance",
            text(image.root()),
        ],
    );
    assert_eq!(judge(&image, "balance", &container), Vec::<String>::new());
    image.remount();
    assert_eq!(
        judge(&image, "mounted again", &container),
        Vec::<String>::new()
    );
    // Inode numbers at the end of the tree are given again after a remount.
    let in_container = |script: &str| shell(&format!("cd {}; {script}", container.display()));
    let last = in_container("find . ! -type d -printf '%i %p\n' | sort -n | tail -1");
    let (number, path) = last.trim().split_once(' ').expect("number and path");
    in_container(&format!("rm {path}; sync -f ."));
    image.remount();
    in_container("echo reused > reused");
    assert_eq!(in_container("stat -c %i reused").trim(), number);
    assert_eq!(
        judge(&image, "an inode number used again", &container),
        Vec::<String>::new()
    );
}

#[test]
fn the_reference_itself_is_edited() {
    require!("mkfs.btrfs", "btrfs");
    let image = Image::new(&[], "");
    let container = image.container("c");
    std::thread::sleep(std::time::Duration::from_millis(20));
    shell(&format!(
        "cd {}; ls -laR . > /dev/null; cat bin/tool > /dev/null",
        image.path().display()
    ));
    let read = image.check(&container, Vec::new(), Options::default());
    assert_eq!(
        (read.changes.len(), read.gaps.len()),
        (0, 0),
        "{:?}",
        read.gaps
    );
    let tool = image.path().join("bin/tool");
    shell(&format!(
        "t=$(stat -c %y {0}); printf X | dd of={0} bs=1 conv=notrunc status=none; touch -d \"$t\" {0}",
        tool.display()
    ));
    let measurement = image.check(&container, Vec::new(), Options::default());
    assert_eq!(measurement.changes.len(), 1);
    assert_eq!(measurement.gaps.len(), 1, "{:?}", measurement.gaps);
    assert!(
        measurement.gaps[0]
            .why
            .contains("changed after the container was made")
    );
}

#[test]
fn not_a_snapshot_of_the_image() {
    require!("mkfs.btrfs", "btrfs");
    let image = Image::new(&[], "");
    let other = image.root().join("other");
    run("btrfs", &["-q", "subvolume", "create", text(&other)]);
    run(
        "cp",
        &[
            "-a",
            "--reflink=always",
            &format!("{}/.", image.path().display()),
            text(&other),
        ],
    );
    shell(&format!("echo x >> {}/etc/small", other.display()));
    let measurement = image.check(&other, Vec::new(), Options::default());
    assert_eq!(measurement.engine, Some(EngineKind::Digest));
    let expected = brute::compare(&image.path(), &other);
    let exact = brute::of_changes(&measurement.changes) == expected;
    Record::of("digest").engine("not a snapshot of the image", true, &expected, exact);
    assert!(exact, "{expected:?}: {:?}", measurement.changes);
    assert_eq!(expected.len(), 1);
}

#[test]
fn a_check_leaves_no_trace() {
    require!("mkfs.btrfs", "btrfs", "inotifywait");
    let image = Image::new(&[], ",strictatime");
    let container = image.container("c");
    shell(&format!(
        "cd {}; cp -p bin/tool x; cat x > bin/tool; rm x; chmod 600 etc/small; rm bin/other; sync -f .",
        container.display()
    ));
    let log = image.root().join("events");
    let mut inotifywait = std::process::Command::new("inotifywait");
    inotifywait
        .args(["-q", "-m", "-r", "-o"])
        .arg(&log)
        .arg(&container);
    let _watcher = plimsoll_e2e::command::Background::start(&mut inotifywait);
    for _ in 0..100 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(std::fs::File::open(container.join("etc/small")));
        if std::fs::metadata(&log).is_ok_and(|m| m.len() > 0) {
            break;
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    let events = || std::fs::read_to_string(&log).unwrap_or_default();
    // Without the generation: writing out what is pending commits a transaction.
    let subvolumes = || {
        shell(&format!(
            "btrfs subvolume list {} | sed 's/gen [0-9]*//'",
            image.root().display()
        ))
    };
    let before = (
        events(),
        subvolumes(),
        brute::trace(&container),
        brute::trace(&image.path()),
    );
    assert!(!before.0.is_empty(), "the watcher sees what happens");
    // The referee's own reading of directories is an event; what comes after it counts.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let quiet = events();
    for confirm in [Confirm::Auto, Confirm::Always, Confirm::Never] {
        let measurement = image.check(
            &container,
            Vec::new(),
            Options {
                confirm,
                ..Options::default()
            },
        );
        assert_eq!(measurement.gaps, []);
        let exact = measurement
            .changes
            .iter()
            .filter(|change| change.confirmed)
            .count();
        assert_eq!(exact, 2, "{:?}", measurement.changes);
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(events(), quiet);
    assert_eq!(subvolumes(), before.1);
    assert_eq!(brute::trace(&container), before.2);
    assert_eq!(brute::trace(&image.path()), before.3);
}
