//! What a container can make to wear a check down, and lower layers in forms that Docker never makes.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use plimsoll_core::model::{ChangeKind, EngineKind, Measurement};
use plimsoll_e2e::command::{Background, run, shell};
use plimsoll_e2e::loopfs::{Kind, LoopFs};
use plimsoll_e2e::overlay::Overlay;
use plimsoll_e2e::{brute, require};
use plimsoll_host::inspect::{Options, Request, Sources, Target, inspect};
use rustix::fs::{Mode, OFlags};

fn check(overlay: &Overlay, options: Options) -> Measurement {
    let request = Request {
        sources: Sources::default(),
        targets: vec![Target::OverlayMount(overlay.container())],
        paths: Vec::new(),
        options,
    };
    let mut found = None;
    inspect(&request, &mut |measurement| found = Some(measurement)).expect("inspect");
    found.expect("one measurement")
}

fn one_lower(fs: &LoopFs) -> PathBuf {
    let lower = fs.path().join("lower");
    std::fs::create_dir(&lower).expect("lower");
    lower
}

/// Makes a chain of directories, each in the one before, and returns the innermost one, open.
fn chain(root: &Path, name: &str, levels: usize) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir = rustix::fs::open(root, flags, Mode::empty()).expect("root");
    for _ in 0..levels {
        rustix::fs::mkdirat(&dir, name, Mode::from(0o755)).expect("mkdir");
        dir = rustix::fs::openat(&dir, name, flags, Mode::empty()).expect("open");
    }
    dir
}

fn write_in(dir: &OwnedFd, name: &str, text: &[u8]) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let file = rustix::fs::openat(dir, name, flags, Mode::from(0o644)).expect("create");
    rustix::io::write(&file, text).expect("write");
}

#[test]
fn three_thousand_levels_added() {
    require!("mkfs.ext4");
    let fs = LoopFs::new(Kind::Ext4, 512);
    let overlay = Overlay::mount(fs.path().as_path(), &[one_lower(&fs)], &[], "");
    write_in(&chain(&overlay.container(), "deep", 3000), "leaf", b"x");
    for engine in [None, Some(EngineKind::Digest)] {
        let measurement = check(
            &overlay,
            Options {
                engine,
                ..Options::default()
            },
        );
        assert_eq!(measurement.gaps, []);
        assert_eq!(measurement.changes.len(), 3001);
        assert!(
            measurement
                .changes
                .iter()
                .all(|change| change.kind == ChangeKind::Added)
        );
    }
}

#[test]
fn one_change_three_thousand_levels_down_in_the_image() {
    require!("mkfs.ext4");
    let fs = LoopFs::new(Kind::Ext4, 512);
    let lowers: Vec<PathBuf> = (0..4).map(|n| fs.path().join(format!("l{n}"))).collect();
    for lower in &lowers {
        std::fs::create_dir(lower).expect("lower");
        write_in(&chain(lower, "d", 3000), "leaf", b"old");
    }
    let overlay = Overlay::mount(fs.path().as_path(), &lowers, &[], "");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir = rustix::fs::open(overlay.container(), flags, Mode::empty()).expect("root");
    for level in 0..3000 {
        // Something to go on with on the way back from every level.
        if level % 500 == 0 {
            write_in(&dir, "zz-new", b"new");
        }
        dir = rustix::fs::openat(&dir, "d", flags, Mode::empty()).expect("down");
    }
    write_in(&dir, "leaf", b"new");
    let measurement = check(&overlay, Options::default());
    assert_eq!(measurement.gaps, []);
    let kinds: Vec<ChangeKind> = measurement
        .changes
        .iter()
        .map(|change| change.kind)
        .collect();
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == ChangeKind::Added)
            .count(),
        6
    );
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == ChangeKind::Changed)
            .count(),
        1
    );
}

#[test]
fn names_so_long_that_the_path_has_no_end() {
    require!("mkfs.ext4");
    let fs = LoopFs::new(Kind::Ext4, 512);
    let overlay = Overlay::mount(fs.path().as_path(), &[one_lower(&fs)], &[], "");
    chain(&overlay.container(), &"n".repeat(255), 400);
    let measurement = check(&overlay, Options::default());
    assert_eq!(measurement.gaps.len(), 1, "{:?}", measurement.gaps);
    assert!(
        measurement.gaps[0].why.contains("longer than"),
        "{}",
        measurement.gaps[0].why
    );
    assert_eq!(measurement.changes.len(), 257);
}

#[test]
fn a_million_entries_in_upper() {
    require!("mkfs.ext4");
    let fs = LoopFs::with(Kind::Ext4, 4096, &["-N", "1200000"], "");
    let overlay = Overlay::mount(fs.path().as_path(), &[one_lower(&fs)], &[], "");
    let crowd = overlay.container().join("crowd");
    std::fs::create_dir(&crowd).expect("directory");
    let one = crowd.join("one");
    std::fs::write(&one, b"x").expect("file");
    for n in 0..1_000_000 {
        // A hard link is the cheapest entry; beyond the limit of links a new file takes over.
        let name = crowd.join(format!("e{n}"));
        if std::fs::hard_link(&one, &name).is_err() {
            std::fs::write(&name, b"").expect("entry");
        }
    }
    let measurement = check(&overlay, Options::default());
    assert_eq!(measurement.changes.len(), Options::default().max_changes);
    assert_eq!(measurement.gaps.len(), 1, "{:?}", measurement.gaps);
    assert_eq!(
        measurement.gaps[0].why,
        "900002 more changes were counted, not kept: raise --max-changes"
    );
}

#[test]
fn large_attributes_and_odd_objects() {
    require!("mkfs.xfs", "setfattr", "python3");
    let fs = LoopFs::new(Kind::Xfs, 512);
    let lower = one_lower(&fs);
    shell(&format!(
        "cd {}; echo a > a; echo b > b; mkdir d; echo c > d/c",
        lower.display()
    ));
    let overlay = Overlay::mount(fs.path().as_path(), &[lower], &[], "");
    shell(&format!(
        r#"cd {}
        python3 -c "import os; os.setxattr('a', 'user.big', b'v' * 65536)"
        python3 -c "
import os
for n in range(200): os.setxattr('b', 'user.' + 'n' * 200 + str(n), b'')
"
        mkfifo fifo; mknod zero c 1 5; mknod disk b 7 200
        rm -r d; mkfifo d
        truncate -s 4T sparse
        "#,
        overlay.container().display()
    ));
    for engine in [None, Some(EngineKind::Digest)] {
        let measurement = check(
            &overlay,
            Options {
                engine,
                ..Options::default()
            },
        );
        assert_eq!(measurement.gaps, []);
        let told: Vec<String> = measurement
            .changes
            .iter()
            .map(|c| format!("{} {}", c.kind.letter(), c.path))
            .collect();
        assert_eq!(
            told,
            [
                "C /a",
                "C /b",
                "T /d",
                "A /disk",
                "A /fifo",
                "A /sparse",
                "A /zero"
            ]
        );
    }
}

#[test]
fn sparse_terabytes_on_both_sides() {
    require!("mkfs.xfs");
    let fs = LoopFs::new(Kind::Xfs, 512);
    let lower = one_lower(&fs);
    shell(&format!(
        "cd {}; truncate -s 2T huge; echo tail >> huge",
        lower.display()
    ));
    let overlay = Overlay::mount(fs.path().as_path(), &[lower], &[], "");
    let huge = overlay.container().join("huge");
    shell(&format!(
        "t=$(stat -c %y {0}); chmod 600 {0}; chmod 644 {0}",
        huge.display()
    ));
    let measurement = check(&overlay, Options::default());
    assert_eq!(
        (measurement.changes.len(), measurement.identical_copies),
        (0, 1)
    );
    shell(&format!(
        "printf X | dd of={} bs=1 seek=1500000000000 conv=notrunc status=none",
        huge.display()
    ));
    let measurement = check(&overlay, Options::default());
    assert_eq!(measurement.changes.len(), 1);
    assert!(
        measurement.cost.bytes_read < 1 << 20,
        "{} bytes",
        measurement.cost.bytes_read
    );
}

#[test]
fn whiteouts_in_the_form_of_files_and_opaque_lowers() {
    require!("mkfs.ext4", "setfattr");
    let fs = LoopFs::new(Kind::Ext4, 256);
    let layers: Vec<PathBuf> = (0..3).map(|n| fs.path().join(format!("x{n}"))).collect();
    for layer in &layers {
        std::fs::create_dir(layer).expect("layer");
    }
    let base = fs.path();
    shell(&format!(
        "cd {}; mkdir -p x2/d x2/o; echo 1 > x2/d/gone; echo 2 > x2/d/stays; echo 3 > x2/o/hidden
         mkdir -p x1/d x1/o; touch x1/d/gone; setfattr -n trusted.overlay.whiteout -v '' x1/d/gone
         setfattr -n trusted.overlay.opaque -v x x1/d; setfattr -n trusted.overlay.opaque -v y x1/o; echo 4 > x1/o/seen
         mkdir x0/d; mknod x0/d/stays c 0 0",
        base.display()
    ));
    let overlay = Overlay::mount(&base, &layers, &[], "");
    shell(&format!(
        "cd {}; echo new > d/gone; echo new > d/stays; echo new > o/hidden; rm o/seen",
        overlay.container().display()
    ));
    let measurement = check(&overlay, Options::default());
    let expected = brute::compare(&overlay.image(), &overlay.container());
    assert_eq!(brute::of_changes(&measurement.changes), expected);
    assert_eq!(expected.len(), 4);
}

#[test]
fn data_only_lowers() {
    require!("mkfs.ext4", "setfattr");
    let fs = LoopFs::new(Kind::Ext4, 256);
    let base = fs.path();
    shell(&format!(
        "cd {}; mkdir -p meta data/objects work0 upper0
         head -c 5000 /dev/urandom > data/objects/1; head -c 5000 /dev/urandom > data/objects/2
         for f in one two; do truncate -s 5000 meta/$f; setfattr -n trusted.overlay.metacopy -v '' meta/$f; done
         setfattr -n trusted.overlay.redirect -v /objects/1 meta/one
         setfattr -n trusted.overlay.redirect -v /objects/2 meta/two
         echo plain > meta/plain",
        base.display()
    ));
    let overlay = Overlay::mount(
        &base,
        &[base.join("meta")],
        &[base.join("data")],
        ",metacopy=on,redirect_dir=on",
    );
    for script in [
        "true",
        "chmod 600 one",
        "mv two three",
        "mv one x; mv two one; mv x two",
        "echo x >> one",
    ] {
        shell(&format!("cd {}; {script}", overlay.container().display()));
        let measurement = check(&overlay, Options::default());
        assert_eq!(measurement.gaps, [], "{script}");
        let expected = brute::compare(&overlay.image(), &overlay.container());
        assert_eq!(
            brute::of_changes(&measurement.changes),
            expected,
            "{script}"
        );
        if script.starts_with("mv two") {
            let renamed = measurement
                .changes
                .iter()
                .find(|c| c.path.to_string() == "/three")
                .expect("added");
            assert_eq!(
                renamed
                    .renamed_from
                    .as_ref()
                    .map(ToString::to_string)
                    .as_deref(),
                Some("/two")
            );
            shell(&format!(
                "cd {}; mv three two",
                overlay.container().display()
            ));
        }
    }
}

/// A map of extents comes in portions of 128. Where the image's file ends with such a portion and a hole,
/// the container's may go on.
#[test]
fn a_write_behind_the_last_extent_of_the_image() {
    require!("mkfs.xfs", "filefrag");
    for kind in [Kind::Xfs, Kind::Btrfs] {
        let fs = LoopFs::new(kind, 512);
        let lower = one_lower(&fs);
        let script = "truncate -s 2M $F; for n in $(seq 0 127); do \
             dd if=/dev/urandom of=$F bs=4096 count=1 seek=$((2 * n)) conv=notrunc status=none; done; sync $F";
        shell(&format!("F={}/file; {script}", lower.display()));
        let extents = shell(&format!(
            "filefrag -v {}/file | grep -c '^ *[0-9]*: '",
            lower.display()
        ));
        assert_eq!(extents.trim(), "128", "{kind:?}");
        let overlay = Overlay::mount(fs.path().as_path(), &[lower], &[], "");
        let file = overlay.container().join("file");
        let file = file.display();
        shell(&format!("chmod 600 {file}; chmod 644 {file}; sync {file}"));
        let untouched = check(&overlay, Options::default());
        assert_eq!(
            (untouched.changes.len(), untouched.cost.bytes_read),
            (0, 0),
            "{kind:?}"
        );
        shell(&format!(
            "printf evil | dd of={file} bs=1 seek=1500000 conv=notrunc status=none; sync {file}"
        ));
        let measurement = check(&overlay, Options::default());
        let expected = brute::compare(&overlay.image(), &overlay.container());
        assert_eq!(expected.len(), 1);
        assert_eq!(
            brute::of_changes(&measurement.changes),
            expected,
            "{kind:?}"
        );
    }
}

/// Redirects that the kernel refuses to follow: the rest of the host is no part of any layer.
#[test]
fn redirects_that_lead_out_of_a_layer() {
    require!("mkfs.ext4", "setfattr");
    for redirect in [
        "/../../../../../../etc",
        "/..",
        "..",
        "../outside",
        "a/b",
        "//outside",
    ] {
        let fs = LoopFs::new(Kind::Ext4, 64);
        let base = fs.path();
        shell(&format!(
            "cd {}; mkdir -p outside/d top/d bottom/x; echo secret > outside/d/secret
             setfattr -n trusted.overlay.redirect -v {redirect} top/d",
            base.display()
        ));
        let layers = [base.join("top"), base.join("bottom")];
        let overlay = Overlay::mount(&base, &layers, &[], "");
        shell(&format!(
            "cd {}; echo new > x/new",
            overlay.container().display()
        ));
        // The kernel itself cannot look the directory up.
        assert!(!overlay.container().join("d").exists(), "{redirect}");
        let from = overlay.upper().join("d");
        shell(&format!(
            "mkdir {0}; setfattr -n trusted.overlay.redirect -v {redirect} {0}",
            from.display()
        ));
        let measurement = check(&overlay, Options::default());
        let told = measurement
            .gaps
            .iter()
            .find(|gap| gap.what.as_bytes() == b"/d");
        let told = told.unwrap_or_else(|| panic!("{redirect}: {measurement:#?}"));
        assert!(
            told.why.contains("none that the kernel follows"),
            "{}",
            told.why
        );
        let paths: Vec<String> = measurement
            .changes
            .iter()
            .map(|c| c.path.to_string())
            .collect();
        assert_eq!(paths, ["/x/new"], "{redirect}");
    }
}

/// The mounts of this test: others run at the same time.
fn own_mounts(fs: &LoopFs) -> Vec<String> {
    let all = run("cat", &["/proc/self/mountinfo"]);
    let own = fs.path().display().to_string();
    all.lines()
        .filter(|line| line.contains(&own))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_check_leaves_no_trace() {
    require!("mkfs.ext4", "inotifywait");
    let fs = LoopFs::with(Kind::Ext4, 256, &[], ",strictatime");
    let lower = one_lower(&fs);
    shell(&format!(
        "cd {}; mkdir d; head -c 20000 /dev/urandom > d/a; echo b > d/b; ln -s a d/l",
        lower.display()
    ));
    let overlay = Overlay::mount(fs.path().as_path(), &[lower], &[], "");
    shell(&format!(
        "cd {}; chmod 700 d/a; chmod 644 d/a; echo B > d/b; rm d/l",
        overlay.container().display()
    ));
    let log = fs.path().join("events");
    let mut inotifywait = std::process::Command::new("inotifywait");
    inotifywait
        .args(["-q", "-m", "-r", "-o"])
        .arg(&log)
        .arg(overlay.container());
    let _watcher = Background::start(&mut inotifywait);
    // It says nothing when it is ready with -q; an event of our own tells.
    for _ in 0..100 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(std::fs::File::open(overlay.container().join("d/b")));
        if std::fs::metadata(&log).is_ok_and(|m| m.len() > 0) {
            break;
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    let events = || {
        std::fs::read_to_string(&log)
            .unwrap_or_default()
            .lines()
            .count()
    };
    let (before_events, mounts) = (events(), own_mounts(&fs));
    assert!(before_events > 0, "the watcher sees what happens");
    let before = brute::trace(&fs.path().join("upper"));
    let lower_before = brute::trace(&fs.path().join("lower"));
    for engine in [None, Some(EngineKind::Digest)] {
        let measurement = check(
            &overlay,
            Options {
                engine,
                ..Options::default()
            },
        );
        assert_eq!(measurement.changes.len(), 2);
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(
        events(),
        before_events,
        "{}",
        std::fs::read_to_string(&log).unwrap_or_default()
    );
    assert_eq!(brute::trace(&fs.path().join("upper")), before);
    assert_eq!(brute::trace(&fs.path().join("lower")), lower_before);
    assert_eq!(own_mounts(&fs), mounts);
}
