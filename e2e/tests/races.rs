//! Checks while a process in the container changes things all the time: what does not move is told
//! every time, what was never touched is never told.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use plimsoll_core::model::{ChangeKind, Measurement};
use plimsoll_e2e::command::{run, shell};
use plimsoll_e2e::loopfs::{Kind, LoopFs};
use plimsoll_e2e::overlay::Overlay;
use plimsoll_e2e::require;
use plimsoll_host::inspect::{Options, Request, Sources, Target, inspect};

const IMAGE: &str = "mkdir -p busy/a busy/b still; for i in 1 2 3 4 5 6 7 8; do
    echo $i > busy/a/f$i; head -c 50000 /dev/urandom > busy/b/g$i; echo $i > still/s$i; done
    echo original > tampered; echo gone > deleted";

fn check(target: Target) -> Measurement {
    let request = Request {
        sources: Sources::default(),
        targets: vec![target],
        paths: Vec::new(),
        options: Options::default(),
    };
    let mut found = None;
    inspect(&request, &mut |measurement| found = Some(measurement)).expect("inspect");
    found.expect("one measurement")
}

/// Writes, renames, deletes, makes, and swaps a directory for a link, as fast as it can.
fn trouble(root: &Path, stop: &AtomicBool) {
    let (a, b) = (root.join("busy/a"), root.join("busy/b"));
    let mut n = 0u64;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let i = n % 8 + 1;
        // Whatever of it fails because of what went before is as good.
        let _moved = std::fs::rename(a.join(format!("f{i}")), b.join(format!("f{i}")));
        let _back = std::fs::rename(
            b.join(format!("f{}", n % 5 + 1)),
            a.join(format!("f{}", n % 5 + 1)),
        );
        let _written = std::fs::write(b.join(format!("g{i}")), n.to_string());
        let _new = std::fs::write(a.join(format!("new{}", n % 50)), b"");
        let _gone = std::fs::remove_file(a.join(format!("new{}", (n + 25) % 50)));
        let aside = root.join("busy/aside");
        if std::fs::rename(&b, &aside).is_ok() {
            let _link = std::os::unix::fs::symlink("/still", &b);
            let _unlink = std::fs::remove_file(&b);
            let _again = std::fs::rename(&aside, &b);
        } else if n.is_multiple_of(3) {
            let _removed = std::fs::remove_dir_all(root.join("busy/swap"));
            let _made = std::fs::create_dir_all(root.join("busy/swap/deep"));
            let _file = std::fs::write(root.join("busy/swap/deep/f"), b"x");
        }
    }
}

fn race(container: &Path, target: &Target) {
    shell(&format!(
        "cd {}; t=$(stat -c %y tampered); echo ORIGINAL > tampered; touch -d \"$t\" tampered; rm deleted; echo n > added",
        container.display()
    ));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (root, stop) = (container.to_owned(), Arc::clone(&stop));
        std::thread::spawn(move || trouble(&root, &stop))
    };
    let mut wrong = Vec::new();
    for _ in 0..150 {
        let measurement = check(target.clone());
        let told = |path: &str, kind: ChangeKind| {
            measurement
                .changes
                .iter()
                .any(|change| change.path.to_string() == path && change.kind == kind)
        };
        if !(told("/tampered", ChangeKind::Changed)
            && told("/deleted", ChangeKind::Deleted)
            && told("/added", ChangeKind::Added))
        {
            wrong.push(format!(
                "missed: {:?} {:?}",
                measurement.changes, measurement.gaps
            ));
        }
        let outside = |path: &str| {
            !path.starts_with("/busy") && !["/tampered", "/deleted", "/added"].contains(&path)
        };
        wrong.extend(
            measurement
                .changes
                .iter()
                .filter(|change| outside(&change.path.to_string()))
                .map(|change| format!("invented: {change:?}")),
        );
        let gap_outside = measurement
            .gaps
            .iter()
            .find(|gap| !gap.what.as_bytes().starts_with(b"/busy"));
        wrong.extend(gap_outside.map(|gap| format!("not seen although still: {gap:?}")));
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("writer");
    assert!(
        wrong.is_empty(),
        "{} times:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn on_overlay(kind: Kind, options: &str) {
    let fs = LoopFs::new(kind, 1024);
    let lower = fs.path().join("lower");
    std::fs::create_dir(&lower).expect("lower");
    shell(&format!("cd {}; {IMAGE}", lower.display()));
    let overlay = Overlay::mount(&fs.path(), &[lower], &[], options);
    race(
        &overlay.container(),
        &Target::OverlayMount(overlay.container()),
    );
}

#[test]
fn overlay_on_ext4() {
    require!("mkfs.ext4");
    on_overlay(Kind::Ext4, "");
}

#[test]
fn overlay_on_xfs_with_redirects() {
    require!("mkfs.xfs");
    on_overlay(Kind::Xfs, ",redirect_dir=on,metacopy=on");
}

#[test]
fn btrfs() {
    require!("mkfs.btrfs", "btrfs");
    let fs = LoopFs::new(Kind::Btrfs, 2048);
    let (image, container) = (fs.path().join("image"), fs.path().join("container"));
    let (image_text, container_text) =
        (image.display().to_string(), container.display().to_string());
    run("btrfs", &["-q", "subvolume", "create", &image_text]);
    shell(&format!("cd {image_text}; {IMAGE}; sync -f ."));
    run(
        "btrfs",
        &["-q", "subvolume", "snapshot", &image_text, &container_text],
    );
    race(
        &container,
        &Target::Trees {
            image,
            container: container.clone(),
        },
    );
}

/// What a writer does to `flip` all the time.
type Turn = fn(path: &Path, aside: &Path, original: &[u8]);

/// Two states of one path, swapped by a rename: in one the content differs from the image, in the other
/// the mode.
fn swap(path: &Path, aside: &Path, _: &[u8]) {
    let at = rustix::fs::CWD;
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    // The file system goes when the test has failed.
    let _swapped = rustix::fs::renameat_with(at, path, at, aside, exchange);
}

/// The same in one file, which is as in the image between these two states.
fn in_place(path: &Path, _: &Path, original: &[u8]) {
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
    let Ok(file) = std::fs::OpenOptions::new().write(true).open(path) else {
        return;
    };
    let mode = |mode| file.set_permissions(std::fs::Permissions::from_mode(mode));
    let _content = file.write_all_at(b"12345678", 5000);
    let _original = file.write_all_at(&original[5000..5008], 5000);
    let _mode = mode(0o600);
    let _back = mode(0o644);
}

/// Checks while a writer is at it. A check that put the content of one moment beside the mode of another
/// would tell of a state that never was.
fn flip(image: &Path, container: &Path, target: &Target, turn: Turn) {
    let back_in_between = std::ptr::fn_addr_eq(turn, in_place as Turn);
    let (path, aside) = (container.join("flip"), container.join("aside"));
    let original = std::fs::read(image.join("flip")).expect("original");
    std::fs::write(&path, [&original[1..], b"x"].concat()).expect("content");
    std::fs::write(&aside, &original).expect("copy");
    shell(&format!("chmod 600 {}", aside.display()));
    if back_in_between {
        std::fs::write(&path, &original).expect("original");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut turns = 0u64;
            while !stop.load(Ordering::Relaxed) {
                turn(&path, &aside, &original);
                turns += 1;
            }
            turns
        })
    };
    let mut told = std::collections::BTreeMap::new();
    let mut wrong = Vec::new();
    for _ in 0..1000 {
        let measurement = check(target.clone());
        let change = measurement
            .changes
            .iter()
            .find(|change| change.path.as_bytes() == b"/flip");
        let aspects = change.map(|change| {
            change
                .aspects
                .iter()
                .filter(|aspect| aspect.as_str() != "times")
                .map(|aspect| aspect.as_str())
                .collect::<Vec<_>>()
        });
        let gap = measurement
            .gaps
            .iter()
            .any(|gap| gap.what.as_bytes() == b"/flip");
        let answer = match (aspects.as_deref(), gap) {
            (_, true) => "not held still",
            (Some(["content"]), _) => "content",
            (Some(["mode"]), _) => "mode",
            (None, _) if back_in_between => "as in the image",
            _ => {
                wrong.push(format!("{change:?}"));
                "never"
            }
        };
        *told.entry(answer).or_insert(0) += 1;
    }
    stop.store(true, Ordering::Relaxed);
    let turns = writer.join().expect("writer");
    println!("{turns} turns: {told:?}");
    assert!(
        turns > 1000 && told.len() > 1,
        "no race: {turns} turns, {told:?}"
    );
    assert!(
        wrong.is_empty(),
        "{} states that never were: {}",
        wrong.len(),
        wrong[0]
    );
}

const FLIP: &str = "head -c 20000 /dev/urandom > flip; chmod 644 flip";

fn flip_on_overlay(kind: Kind) {
    let fs = LoopFs::new(kind, 1024);
    let lower = fs.path().join("lower");
    std::fs::create_dir(&lower).expect("lower");
    shell(&format!("cd {}; {FLIP}", lower.display()));
    for (n, turn) in [swap as Turn, in_place].into_iter().enumerate() {
        let base = fs.path().join(n.to_string());
        let overlay = Overlay::mount(&base, std::slice::from_ref(&lower), &[], "");
        let target = Target::OverlayMount(overlay.container());
        flip(&lower, &overlay.container(), &target, turn);
    }
}

#[test]
fn no_state_that_never_was_on_ext4() {
    require!("mkfs.ext4");
    flip_on_overlay(Kind::Ext4);
}

#[test]
fn no_state_that_never_was_on_xfs() {
    require!("mkfs.xfs");
    flip_on_overlay(Kind::Xfs);
}

#[test]
fn no_state_that_never_was_on_btrfs() {
    require!("mkfs.btrfs", "btrfs");
    let fs = LoopFs::new(Kind::Btrfs, 2048);
    let image = fs.path().join("image");
    let text = |path: &Path| path.display().to_string();
    run("btrfs", &["-q", "subvolume", "create", &text(&image)]);
    shell(&format!("cd {}; {FLIP}; sync -f .", image.display()));
    for (n, turn) in [swap as Turn, in_place].into_iter().enumerate() {
        let container = fs.path().join(n.to_string());
        let snapshot = ["-q", "subvolume", "snapshot"];
        run(
            "btrfs",
            &[&snapshot[..], &[&text(&image), &text(&container)]].concat(),
        );
        let target = Target::Trees {
            image: image.clone(),
            container: container.clone(),
        };
        flip(&image, &container, &target, turn);
    }
}
