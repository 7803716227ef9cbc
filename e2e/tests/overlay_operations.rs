//! Every operation on overlayfs, on every backing file system and with every mount feature: the
//! engine must say exactly what reading both trees says.

use std::path::{Path, PathBuf};

use plimsoll_core::model::{Algorithm, Change, EngineKind, Measurement, RootPath};
use plimsoll_e2e::loopfs::{Kind, LoopFs};
use plimsoll_e2e::operations::{OPERATIONS, build_image};
use plimsoll_e2e::overlay::Overlay;
use plimsoll_e2e::{brute, require};
use plimsoll_host::inspect::{Options, Request, Sources, Target, inspect};
use plimsoll_host::measure::Confirm;

fn check(overlay: &Overlay, paths: Vec<RootPath>, options: Options) -> Measurement {
    let request = Request {
        sources: Sources::default(),
        targets: vec![Target::OverlayMount(overlay.container())],
        paths,
        options,
    };
    let mut found = Vec::new();
    let gaps = inspect(&request, &mut |measurement| found.push(measurement)).expect("inspect");
    assert_eq!(gaps, []);
    assert_eq!(found.len(), 1);
    found.remove(0)
}

fn layers(fs: &LoopFs) -> Vec<PathBuf> {
    let layers: Vec<PathBuf> = (1..=3).map(|n| fs.path().join(format!("l{n}"))).collect();
    for layer in &layers {
        std::fs::create_dir(layer).expect("layer");
    }
    build_image(&layers.iter().map(PathBuf::as_path).collect::<Vec<&Path>>());
    layers
}

/// Runs every operation with one kind of mount and holds the engine against the referee.
fn operations(kind: Kind, options: &str) {
    require!(
        "mkfs.ext4",
        "mkfs.xfs",
        "mkfs.btrfs",
        "setfattr",
        "setfacl",
        "setcap",
        "xfs_io",
        "python3"
    );
    let fs = LoopFs::new(kind, 2048);
    let lowers = layers(&fs);
    let mut wrong = Vec::new();
    let mut performed = 0;
    for (n, operation) in OPERATIONS.iter().enumerate() {
        let overlay = Overlay::mount(&fs.path().join(format!("op{n}")), &lowers, &[], options);
        if operation.perform(&overlay.container()) {
            performed += 1;
        }
        let measurement = check(&overlay, Vec::new(), Options::default());
        let expected = brute::compare(&overlay.image(), &overlay.container());
        let reported = brute::of_changes(&measurement.changes);
        if expected != reported || !measurement.gaps.is_empty() {
            wrong.push(format!(
                "{}:\n  expected {expected:?}\n  reported {reported:?}\n  gaps {:?}",
                operation.name, measurement.gaps
            ));
        }
        if options.is_empty() {
            wrong.extend(other_ways(operation.name, &overlay, &measurement));
        }
        // Only some paths: each must be told as the whole check tells it.
        for path in [
            "/bin/tool",
            "/etc/small",
            "/bin/hl2",
            "/tree/sub/file",
            "/etc/deep",
        ] {
            let path = RootPath::parse(path.as_bytes()).expect("path");
            let one = check(&overlay, vec![path.clone()], Options::default());
            let told = one.changes.iter().find(|change| change.path == path);
            let whole = measurement
                .changes
                .iter()
                .find(|change| change.path == path);
            let above = |change: &&plimsoll_core::model::Change| {
                path.is_within(&change.path) && change.path != path
            };
            let covered = measurement.changes.iter().find(above);
            if told != whole && covered.is_none() {
                wrong.push(format!(
                    "{}: {path} alone: {told:?}, with all: {whole:?}",
                    operation.name
                ));
            }
            if let Some(covered) = covered
                && covered
                    .after
                    .as_ref()
                    .is_none_or(|after| !after.file_type.has_entries())
                && !one.changes.iter().any(|change| change.path == covered.path)
            {
                wrong.push(format!(
                    "{}: {path} alone does not tell of {}",
                    operation.name, covered.path
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        OPERATIONS.len(),
        wrong.join("\n")
    );
    assert!(
        performed * 10 > OPERATIONS.len() * 8,
        "only {performed} of {} operations worked",
        OPERATIONS.len()
    );
}

/// The digest engine and `--confirm always` must say the same; `--confirm never` reads nothing and
/// may say more, but not without saying that it is not confirmed.
fn other_ways(name: &str, overlay: &Overlay, exact: &Measurement) -> Vec<String> {
    let mut wrong = Vec::new();
    let expected = brute::of_changes(&exact.changes);
    for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Blake3] {
        let options = Options {
            engine: Some(EngineKind::Digest),
            algorithm,
            jobs: 2,
            ..Options::default()
        };
        let digest = check(overlay, Vec::new(), options);
        if brute::of_changes(&digest.changes) != expected || !digest.gaps.is_empty() {
            wrong.push(format!(
                "{name}: {algorithm:?} says {:?}, {:?}",
                digest.changes, digest.gaps
            ));
        }
    }
    let always = check(
        overlay,
        Vec::new(),
        Options {
            confirm: Confirm::Always,
            ..Options::default()
        },
    );
    if always.changes != exact.changes {
        wrong.push(format!(
            "{name}: --confirm always says {:?}",
            always.changes
        ));
    }
    let never = check(
        overlay,
        Vec::new(),
        Options {
            confirm: Confirm::Never,
            ..Options::default()
        },
    );
    assert_eq!(
        never.cost.bytes_read, 0,
        "{name}: --confirm never read content"
    );
    let confirmed = |changes: &[Change]| {
        let told = changes
            .iter()
            .filter(|c| c.confirmed || expected.contains_key(&c.path.to_string()));
        brute::of_changes(&told.cloned().collect::<Vec<_>>())
    };
    let paths = |d: &brute::Differences| d.keys().cloned().collect::<Vec<_>>();
    if paths(&confirmed(&never.changes)) != paths(&expected) {
        wrong.push(format!("{name}: --confirm never says {:?}", never.changes));
    }
    wrong
}

#[test]
fn ext4() {
    operations(Kind::Ext4, "");
}

#[test]
fn xfs() {
    operations(Kind::Xfs, "");
}

#[test]
fn btrfs_as_backing() {
    operations(Kind::Btrfs, "");
}

#[test]
fn ext4_redirect_dir() {
    operations(Kind::Ext4, ",redirect_dir=on");
}

#[test]
fn ext4_metacopy() {
    operations(Kind::Ext4, ",metacopy=on,redirect_dir=on");
}

#[test]
fn xfs_metacopy_index() {
    operations(Kind::Xfs, ",metacopy=on,index=on");
}

#[test]
fn ext4_index() {
    operations(Kind::Ext4, ",index=on");
}

#[test]
fn ext4_nfs_export() {
    operations(Kind::Ext4, ",index=on,nfs_export=on");
}

#[test]
fn btrfs_index() {
    operations(Kind::Btrfs, ",index=on");
}

#[test]
fn ext4_userxattr() {
    operations(Kind::Ext4, ",userxattr");
}

#[test]
fn xfs_volatile() {
    operations(Kind::Xfs, ",volatile");
}
