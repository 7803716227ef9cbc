//! What a container does so that it is not seen on Btrfs, and what it does so that a check never ends.
//! The cases are those of the operation and evasion tables that the engine was made from.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use plimsoll_core::model::{Aspect, ChangeKind, EngineKind};
use plimsoll_e2e::btrfs::Image;
use plimsoll_e2e::command::{run, shell};
use plimsoll_e2e::crc32c;
use plimsoll_e2e::operations::LATE_STORE;
use plimsoll_e2e::{brute, require};
use plimsoll_host::inspect::Options;
use plimsoll_host::measure::Confirm;

fn in_dir(dir: &Path, script: &str) -> String {
    shell(&format!("cd {}; {script}", dir.display()))
}

const NOTHING: [String; 0] = [];

/// Judges a scenario of the conformance table, and writes it down.
fn judge(image: &Image, scenario: &str, container: &Path) -> Vec<String> {
    image
        .judgement(scenario, container)
        .record("subvolume", scenario, true)
}

/// The hash under which Btrfs keeps names, written down a second time.
fn name_hash(name: &[u8]) -> u32 {
    crc32c::update(0xffff_fffe, name)
}

/// Returns two names of one hash.
fn twins(prefix: &str) -> (String, String) {
    let mut seen = HashMap::new();
    for n in 0u64.. {
        // Scattered: names that differ in four bytes in a row never have one hash.
        let name = format!("{prefix}{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if let Some(other) = seen.insert(name_hash(name.as_bytes()), name.clone()) {
            return (other, name);
        }
    }
    unreachable!("hashes of 32 bits collide")
}

#[test]
fn names_of_one_hash() {
    require!("mkfs.btrfs", "btrfs", "setfattr");
    let image = Image::new(&[], "");
    let (a, b) = twins("f");
    let (x, y) = twins("user.x");
    in_dir(
        &image.path(),
        &format!(
            "mkdir twins; echo a > twins/{a}; echo b > twins/{b}; \
             setfattr -n {x} -v 1 etc/small; setfattr -n {y} -v 2 etc/small"
        ),
    );
    image.commit();
    let dump = shell(&format!(
        "sync; btrfs inspect-internal dump-tree -t $(btrfs inspect-internal rootid {0}) $(findmnt -no SOURCE {1}) \
         | grep -c 'DIR_ITEM {2}' || true",
        image.path().display(),
        image.root().display(),
        name_hash(a.as_bytes())
    ));
    assert_eq!(dump.trim(), "1", "both names are in one item of that hash");
    for (n, script) in [
        "true".to_owned(),
        format!("rm twins/{a}"),
        format!("rm twins/{b}"),
        format!("echo other > twins/{b}"),
        format!("mv twins/{a} x; mv twins/{b} twins/{a}; mv x twins/{b}"),
        format!("rm twins/{a}; ln twins/{b} twins/{a}"),
        format!("setfattr -x {x} etc/small"),
        format!("setfattr -n {y} -v 1 etc/small"),
        format!("setfattr -x {x} etc/small; setfattr -x {y} etc/small"),
    ]
    .iter()
    .enumerate()
    {
        let container = image.container(&format!("c{n}"));
        in_dir(&container, script);
        assert_eq!(
            judge(&image, "two names of one hash", &container),
            NOTHING,
            "{script}"
        );
    }
}

/// More names than one INODE_REF item holds.
#[test]
fn an_inode_of_many_names() {
    require!("mkfs.btrfs", "btrfs");
    let image = Image::new(&[], "");
    in_dir(
        &image.path(),
        "mkdir links deep; echo x > links/first; p=$(printf 'n%.0s' {1..200}); \
         for i in $(seq 1 300); do ln links/first links/$p$i; done; ln links/first deep/last",
    );
    image.commit();
    for (n, (script, changes)) in [
        ("echo y > deep/last", 302),
        ("chmod 600 links/first", 302),
        ("rm links/*7*", 0),
        ("mv links/first deep/; echo y >> deep/last", 0),
    ]
    .into_iter()
    .enumerate()
    {
        let container = image.container(&format!("c{n}"));
        in_dir(&container, script);
        assert_eq!(
            judge(&image, "three hundred names of one file", &container),
            NOTHING,
            "{script}"
        );
        if changes > 0 {
            let measurement = image.check(&container, Vec::new(), Options::default());
            assert_eq!(measurement.changes.len(), changes, "{script}");
        }
    }
}

/// Directories of more entries than are looked at in one go.
#[test]
fn big_directories() {
    require!("mkfs.btrfs", "btrfs");
    let image = Image::new(&[], "");
    in_dir(
        &image.path(),
        "mkdir big; cd big; seq -f 'file%05g' 1 7000 | xargs touch; seq -f 'file%05g' 3 3 7000 | xargs rm",
    );
    image.commit();
    for (n, script) in [
        "touch big/new",
        "rm big/file00001 big/file07000 big/file03500",
        "cd big; seq -f 'file%05g' 1 5 7000 | xargs rm -f; seq -f 'more%05g' 1 3000 | xargs touch",
        "cd big; for i in 00001 02048 02050 04097 06998; do mv file$i x; mv x file$i; done",
        "cd big; seq -f 'file%05g' 1 7 7000 | while read f; do echo x > $f; done; rm file04444; mkdir file04444",
        "mv big old; mkdir big; cd big; seq -f 'file%05g' 2 2 7000 | xargs touch; echo x > file00002",
        "mv big old; cp -a --reflink old big; rm -r old; rm big/file00004",
        "rm -r big; mkdir big",
    ]
    .iter()
    .enumerate()
    {
        let container = image.container(&format!("c{n}"));
        in_dir(&container, script);
        assert_eq!(image.judge(script, &container), NOTHING);
    }
    // Indexes at the end of a directory are given again after the file system was mounted again.
    let container = image.container("again");
    in_dir(&container, "rm big/file069*; sync -f .");
    image.remount();
    in_dir(
        &container,
        "seq -f 'again%05g' 1 3000 | (cd big; xargs touch)",
    );
    assert_eq!(image.judge("indexes again", &container), NOTHING);
}

/// A file that is written in place: only the first write after a snapshot is elsewhere.
#[test]
fn not_copied_on_write() {
    require!("mkfs.btrfs", "btrfs", "chattr");
    let image = Image::new(&[], "");
    in_dir(
        &image.path(),
        "mkdir cow; chattr +C cow; head -c 500000 /dev/urandom > cow/f; head -c 500000 /dev/urandom > cow/g",
    );
    image.commit();
    let container = image.container("c");
    let flip = |byte: &str, at: u32| {
        in_dir(
            &container,
            &format!("printf {byte} | dd of=cow/f bs=1 seek={at} conv=notrunc status=none"),
        )
    };
    for (byte, at) in [
        ("A", 100_000),
        ("B", 100_000),
        ("C", 100_001),
        ("D", 499_999),
    ] {
        flip(byte, at);
        assert_eq!(image.judge(byte, &container), NOTHING);
        image.commit();
        assert_eq!(image.judge(byte, &container), NOTHING);
    }
    in_dir(
        &container,
        "dd if=cow/g of=x status=none; dd if=x of=cow/g conv=notrunc status=none; rm x",
    );
    assert_eq!(image.judge("the same again, in place", &container), NOTHING);
    in_dir(
        &container,
        &format!("cat {}/cow/f > cow/f", image.path().display()),
    );
    assert_eq!(image.judge("put back", &container), NOTHING);
}

/// The flags that the owner of a subvolume sets on its root item say nothing.
#[test]
fn a_subvolume_that_claims_to_be_read_only() {
    require!("mkfs.btrfs", "btrfs");
    let image = Image::new(&[], "");
    let container = image.container("c");
    in_dir(
        &container,
        "echo x >> etc/small; sync -f .; btrfs property set . ro true",
    );
    assert_eq!(image.judge("read-only", &container), NOTHING);
    assert_eq!(
        image
            .check(&container, Vec::new(), Options::default())
            .changes
            .len(),
        1
    );
}

/// Power fails after a write that was synced: the log is replayed, and only one of the numbers in the
/// root item moves.
#[test]
fn a_log_that_was_replayed() {
    require!("mkfs.btrfs", "btrfs", "xfs_io");
    let image = Image::new(&[], ",commit=300");
    let container = image.container("c");
    image.commit();
    in_dir(
        &container,
        "t=$(stat -c %y bin/tool); printf X | dd of=bin/tool bs=1 seek=9000 conv=notrunc,fsync status=none; \
         touch -d \"$t\" bin/tool; xfs_io -c fsync bin/tool; echo new > new; xfs_io -c fsync new",
    );
    // What is on disk at this moment is what a power failure leaves.
    let fs = image.fs.as_ref().expect("its own");
    let disk = fs.path().with_file_name("image");
    let (disk, saved) = (disk.display(), disk.with_extension("saved"));
    shell(&format!("cp --sparse=always {disk} {}", saved.display()));
    run("umount", &[&fs.path().display().to_string()]);
    shell(&format!("cp --sparse=always {} {disk}", saved.display()));
    shell(&format!("mount -o loop {disk} {}", fs.path().display()));
    let root = image.check(&container, Vec::new(), Options::default());
    let changed: Vec<String> = root
        .changes
        .iter()
        .map(|change| change.path.to_string())
        .collect();
    assert_eq!(changed, ["/bin/tool", "/new"], "replayed, nothing else");
    assert_eq!(judge(&image, "power cut after fsync", &container), NOTHING);
}

/// `--atomic` looks at a snapshot and takes it away again.
#[test]
fn a_snapshot_to_look_at() {
    require!("mkfs.btrfs", "btrfs");
    let image = Image::new(&[], "");
    let container = image.container("c");
    in_dir(
        &container,
        "echo x >> etc/small; rm bin/other; mv tree gone; btrfs -q subvolume create tree; echo evil > tree/file",
    );
    let subvolumes = || {
        let list = shell(&format!("btrfs subvolume list {}", image.root().display()));
        list.lines()
            .map(|line| line.split(' ').next_back().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let before = subvolumes();
    let atomic = Options {
        atomic: true,
        ..Options::default()
    };
    let measurement = image.check(&container, Vec::new(), atomic);
    assert_eq!(
        (measurement.engine, &measurement.gaps[..]),
        (Some(EngineKind::Btrfs), &[][..])
    );
    assert_eq!(
        brute::of_changes(&measurement.changes),
        brute::compare(&image.path(), &container)
    );
    assert_eq!(subvolumes(), before);
}

/// Somebody writes and renames all the time. What nobody touches is never told, what was tampered with
/// before is told each time, and no check fails.
#[test]
fn while_it_changes() {
    require!("mkfs.btrfs", "btrfs");
    let image = Image::new(&[], "");
    let container = image.container("c");
    in_dir(
        &container,
        "t=$(stat -c %y bin/tool); printf X | dd of=bin/tool bs=1 seek=9000 conv=notrunc status=none; \
         touch -d \"$t\" bin/tool",
    );
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = |script: &'static str| {
            let (container, stop) = (&container, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    in_dir(container, script);
                }
            });
        };
        busy("for i in $(seq 50); do mv tree var/tree; mv var/tree tree; done");
        busy(
            "for i in $(seq 20); do cat etc/deep/er/conf > usr/x; cat usr/x > etc/deep/er/conf; rm usr/x; done",
        );
        busy(
            "for i in $(seq 10); do dd if=bin/other of=usr/o bs=64K status=none; dd if=usr/o of=bin/other bs=64K conv=notrunc status=none; sync -f .; done",
        );
        let start = Instant::now();
        let mut checks = 0;
        while start.elapsed() < Duration::from_secs(8) || checks < 5 {
            for atomic in [false, true] {
                let options = Options {
                    atomic,
                    ..Options::default()
                };
                let measurement = image.check(&container, Vec::new(), options);
                checks += 1;
                assert_eq!(
                    measurement.engine,
                    Some(EngineKind::Btrfs),
                    "{:?}",
                    measurement.gaps
                );
                let mut tool = false;
                for change in &measurement.changes {
                    let path = change.path.to_string();
                    match path.as_str() {
                        "/bin/tool" => {
                            tool = change.aspects.contains(Aspect::Content) && change.confirmed;
                        }
                        // Cut off while it is written again from its copy.
                        "/etc/deep/er/conf" | "/bin/other" => {
                            assert_eq!(change.kind, ChangeKind::Changed);
                        }
                        _ => assert!(
                            ["/tree", "/var/tree", "/usr/x", "/usr/o"]
                                .iter()
                                .any(|busy| path.starts_with(busy)),
                            "nobody touched {change:?}"
                        ),
                    }
                }
                assert!(tool, "{:?}", measurement.changes);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(image.judge("at rest", &container), NOTHING);
}

/// Depth, breadth and fragments are the container's choice; the time they take is bounded by what it
/// spent on them.
#[test]
fn made_to_be_slow() {
    require!("mkfs.btrfs", "btrfs", "xfs_io");
    let image = Image::new(&[], "");
    in_dir(&image.path(), "head -c 80M /dev/urandom > huge");
    image.commit();
    let timed = |name: &str, script: &str, limit: u64| {
        let container = image.container(name);
        in_dir(&container, script);
        for confirm in [Confirm::Auto, Confirm::Never] {
            let start = Instant::now();
            let options = Options {
                confirm,
                ..Options::default()
            };
            let measurement = image.check(&container, Vec::new(), options);
            let took = start.elapsed();
            println!(
                "{name}, {confirm:?}: {took:.1?}, {} changes",
                measurement.changes.len()
            );
            assert_eq!(measurement.engine, Some(EngineKind::Btrfs));
            assert!(took < Duration::from_secs(limit), "{name}: {took:?}");
        }
        container
    };
    // Every second sector rewritten with its own bytes, each in an extent of its own.
    let fragments = "python3 - <<'P'\n\
        import os\n\
        fd = os.open('huge', os.O_RDWR)\n\
        for at in range(0, 80 << 20, 8192):\n    \
            os.pwrite(fd, os.pread(fd, 4096, at), at)\n    \
            if at % (1 << 20) == 0: os.fdatasync(fd)\n\
        os.fsync(fd)\nP";
    let container = timed("fragments", fragments, 60);
    assert_eq!(
        image
            .check(&container, Vec::new(), Options::default())
            .changes,
        []
    );
    timed("breadth", "mkdir w; cd w; seq 1 60000 | xargs touch", 60);
    let deep = "python3 - <<'P'\n\
        import os\n\
        for n in range(3000):\n    \
            os.mkdir('d'); os.chdir('d')\n\
        open('f', 'w').close()\nP";
    timed("depth", deep, 60);
    timed(
        "snapshots",
        "for i in 1 2 3 4 5 6 7 8; do btrfs -q subvolume snapshot . inner$i; done",
        60,
    );
}

#[test]
fn a_store_through_a_pinned_page() {
    require!("mkfs.btrfs", "btrfs", "python3");
    let image = Image::new(&[], "");
    for atomic in [true, false] {
        let container = image.container(&format!("atomic-{atomic}"));
        in_dir(&container, &format!("python3 - <<'P'\n{LATE_STORE}\nP"));
        let options = Options {
            atomic,
            ..Options::default()
        };
        let measurement = image.check(&container, Vec::new(), options);
        assert_eq!(
            (measurement.engine, &measurement.gaps[..]),
            (Some(EngineKind::Btrfs), &[][..])
        );
        let found = brute::of_changes(&measurement.changes);
        assert_eq!(found, brute::compare(&image.path(), &container));
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
