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
