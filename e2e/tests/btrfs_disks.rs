//! What lies beneath Btrfs: every profile, every checksum, every compression, disks that do not give
//! back what was written to them.

use std::path::Path;

use plimsoll_core::model::{Aspect, EngineKind, Measurement};
use plimsoll_e2e::btrfs::{Disks, Image};
use plimsoll_e2e::command::shell;
use plimsoll_e2e::require;
use plimsoll_host::inspect::Options;
use plimsoll_host::measure::Confirm;

/// An image with files of several stripes.
fn image(root: &Path) -> Image {
    let image = Image::empty(root);
    shell(&format!(
        "cd {}; mkdir bin; for f in a b c d e f; do head -c 1300000 /dev/urandom > bin/$f; done; \
         seq -f 'line %.0f' 1 60000 > text; head -c 3000 text > little",
        image.path().display()
    ));
    image.commit();
    image
}

/// Changes of each sort: one byte far inside with the old time, the same bytes again, a part shared
/// with another file, a hole, a text of which a word is another, and its same bytes again.
const CHANGES: &str = r#"
flip() { t=$(stat -c %y $1); printf X | dd of=$1 bs=1 seek=$2 conv=notrunc status=none; touch -d "$t" $1; }
again() { cat $1 > copy; dd if=copy of=$1 bs=64K conv=notrunc status=none; rm copy; }
flip bin/a 777777
again bin/b
xfs_io -c 'reflink bin/d 65536 131072 262144' bin/c > /dev/null
xfs_io -c 'fpunch 400000 300000' bin/e > /dev/null
cp text text2; again text; flip text2 300000; mv text2 new
flip little 1000
sync -f .
flip bin/f 1299999
"#;

fn everything_is_told(root: &Path) {
    let image = image(root);
    let container = image.container("c");
    assert_eq!(image.judge("untouched", &container), Vec::<String>::new());
    shell(&format!("cd {}; {CHANGES}", container.display()));
    assert_eq!(image.judge("changed", &container), Vec::<String>::new());
    shell(&format!(
        "cd {}; again() {{ cat $1 > copy; cat copy > $1; rm copy; }}; again text; again bin/f",
        container.display()
    ));
    assert_eq!(image.judge("again", &container), Vec::<String>::new());
}

#[test]
fn profiles() {
    require!("mkfs.btrfs", "btrfs", "losetup", "xfs_io");
    for (profile, devices) in [
        ("dup", 1),
        ("raid0", 3),
        ("raid1", 2),
        ("raid1c3", 3),
        ("raid1c4", 4),
        ("raid10", 4),
    ] {
        println!("{profile} on {devices} devices");
        let disks = Disks::new(devices, &["-d", profile]);
        everything_is_told(&disks.path());
    }
}

#[test]
fn checksums_and_compression() {
    require!("mkfs.btrfs", "btrfs", "losetup", "xfs_io");
    for checksum in ["crc32c", "xxhash", "sha256", "blake2"] {
        for compression in ["no", "zlib", "zstd"] {
            println!("{checksum}, {compression} compression");
            let disks = Disks::new(1, &["--csum", checksum]);
            if compression != "no" {
                shell(&format!(
                    "mount -o remount,compress-force={compression} {}",
                    disks.path().display()
                ));
            }
            everything_is_told(&disks.path());
        }
    }
}

fn content_of(measurement: &Measurement) -> Vec<(String, bool)> {
    measurement
        .changes
        .iter()
        .filter(|change| change.aspects.contains(Aspect::Content))
        .map(|change| (change.path.to_string(), change.confirmed))
        .collect()
}

/// What cannot be undone is told as not confirmed, and what is stored twice in one form is the same.
#[test]
fn lzo() {
    require!("mkfs.btrfs", "btrfs", "losetup");
    let disks = Disks::new(1, &[]);
    shell(&format!(
        "mount -o remount,compress-force=lzo {}",
        disks.path().display()
    ));
    let image = image(&disks.path());
    let container = image.container("c");
    shell(&format!(
        "cd {}; cat text > copy; dd if=copy of=text bs=128K conv=notrunc status=none; rm copy",
        container.display()
    ));
    let same = image.check(&container, Vec::new(), Options::default());
    assert_eq!(
        (same.engine, same.changes, same.gaps),
        (Some(EngineKind::Btrfs), vec![], vec![])
    );
    shell(&format!(
        "cd {}; printf X | dd of=text bs=1 seek=300000 conv=notrunc status=none",
        container.display()
    ));
    let changed = image.check(&container, Vec::new(), Options::default());
    assert_eq!(content_of(&changed), [("/text".to_owned(), false)]);
}

#[test]
fn parity_profiles_are_not_read_but_told() {
    require!("mkfs.btrfs", "btrfs", "losetup");
    let disks = Disks::new(3, &["-d", "raid5", "-m", "raid1"]);
    let image = image(&disks.path());
    let container = image.container("c");
    shell(&format!(
        "cd {}; cat bin/b > copy; dd if=copy of=bin/b bs=64K conv=notrunc status=none; rm copy; \
         printf X | dd of=bin/a bs=1 seek=777777 conv=notrunc status=none",
        container.display()
    ));
    let measurement = image.check(&container, Vec::new(), Options::default());
    // The checksums prove the one; equal ones of this kind do not prove the other.
    assert_eq!(
        content_of(&measurement),
        [("/bin/a".to_owned(), true), ("/bin/b".to_owned(), false)]
    );
    assert_eq!(measurement.gaps, []);
}

/// A copy that rotted is passed over for the other one; when both did, that is a gap and no answer.
#[test]
fn rotten_copies() {
    require!("mkfs.btrfs", "btrfs", "losetup");
    let disks = Disks::new(2, &["-d", "raid1", "-m", "raid1"]);
    let image = image(&disks.path());
    let container = image.container("c");
    let sector = |path: &Path| {
        let bytes = std::fs::read(path).expect("file");
        bytes[409_600..413_696].to_vec()
    };
    let sector = sector(&image.path().join("bin/b"));
    shell(&format!(
        "cd {}; cat bin/b > copy; dd if=copy of=bin/b bs=64K conv=notrunc status=none; rm copy; sync -f .",
        container.display()
    ));
    let check = |confirm| {
        let options = Options {
            confirm,
            ..Options::default()
        };
        let measurement = image.check(&container, Vec::new(), options);
        assert_eq!(measurement.engine, Some(EngineKind::Btrfs));
        (content_of(&measurement), measurement.gaps)
    };
    assert_eq!(check(Confirm::Auto), (vec![], vec![]));
    // The image's, the container's, and perhaps that of the file deleted meanwhile.
    assert!(disks.damage(0, &sector) >= 2);
    assert_eq!(check(Confirm::Auto), (vec![], vec![]));
    assert_eq!(check(Confirm::Always), (vec![], vec![]));
    assert!(disks.damage(1, &sector) >= 2);
    let (changes, gaps) = check(Confirm::Auto);
    assert_eq!(changes, []);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].what.as_bytes(), b"/bin/b");
    assert!(
        gaps[0].why.contains("the disk does not give back"),
        "{gaps:?}"
    );
}
