//! Every operation on overlayfs, on every backing file system and with every mount feature: the
//! engine must say exactly what reading both trees says.

use plimsoll_core::model::{Algorithm, Change, EngineKind, Measurement, RootPath};
use plimsoll_e2e::brute::{self, Differences};
use plimsoll_e2e::conformance::Record;
use plimsoll_e2e::layers::{Form, Layers};
use plimsoll_e2e::loopfs::{Kind, LoopFs};
use plimsoll_e2e::operations;
use plimsoll_e2e::overlay::Overlay;
use plimsoll_e2e::{in_ci, require};
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

/// Runs every operation with one kind of mount and holds the engine against the referee.
fn operations(column: &str, kind: Kind, form: Form, options: &str) {
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
    if let Some(why) = form.missing() {
        assert!(!in_ci(), "in CI nothing is skipped: {why}");
        eprintln!("SKIPPED {column}: {why}");
        return;
    }
    let fs = LoopFs::new(kind, 2048);
    let layers = Layers::new(&fs.path(), form);
    let (record, digest) = (Record::of(column), Record::of("digest"));
    let mut wrong = Vec::new();
    let (mut tried, mut worked) = (0, 0);
    for (n, operation) in operations::anywhere().enumerate() {
        let overlay = layers.mount(&fs.path().join(format!("op{n}")), options);
        let performed = operation.perform(&overlay.container());
        tried += 1;
        worked += usize::from(performed.worked);
        let name = operation.name;
        let expected = brute::compare(&overlay.image(), &overlay.container());
        let (measurement, mut found) = hold(name, &overlay, &expected);
        found.extend(operation.doubt(&performed, &expected));
        if options.is_empty() {
            let others = other_ways(name, &overlay, &measurement);
            let exact = found.is_empty() && others.is_empty();
            digest.engine(name, performed.worked, &expected, exact);
            found.extend(others);
        }
        found.extend(paths_alone(name, &overlay, &measurement));
        // What the work directory holds is read anew then. A volatile one refuses.
        if !performed.holds() && options != ",volatile" {
            overlay.remount();
            let again = brute::compare(&overlay.image(), &overlay.container());
            found.extend(hold(&format!("{name}, mounted again"), &overlay, &again).1);
        }
        record.engine(name, performed.worked, &expected, found.is_empty());
        wrong.extend(found);
    }
    assert!(
        wrong.is_empty(),
        "{} wrong of {tried} operations:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        worked * 10 > tried * 8,
        "only {worked} of {tried} operations worked"
    );
}

/// Checks the whole and holds it against the referee; returns what was measured and what is wrong.
fn hold(name: &str, overlay: &Overlay, expected: &Differences) -> (Measurement, Vec<String>) {
    let measurement = check(overlay, Vec::new(), Options::default());
    let reported = brute::of_changes(&measurement.changes);
    let mut wrong = Vec::new();
    if *expected != reported || !measurement.gaps.is_empty() {
        wrong.push(format!(
            "{name}:\n  expected {expected:?}\n  reported {reported:?}\n  gaps {:?}",
            measurement.gaps
        ));
    }
    (measurement, wrong)
}

/// Only some paths: each must be told as the whole check tells it.
fn paths_alone(name: &str, overlay: &Overlay, measurement: &Measurement) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in [
        "/bin/tool",
        "/etc/small",
        "/bin/hl2",
        "/tree/sub/file",
        "/etc/deep",
    ] {
        let path = RootPath::parse(path.as_bytes()).expect("path");
        let one = check(overlay, vec![path.clone()], Options::default());
        let told = one.changes.iter().find(|change| change.path == path);
        let whole = measurement
            .changes
            .iter()
            .find(|change| change.path == path);
        let above = |change: &&Change| path.is_within(&change.path) && change.path != path;
        let covered = measurement.changes.iter().find(above);
        if told != whole && covered.is_none() {
            wrong.push(format!(
                "{name}: {path} alone: {told:?}, with all: {whole:?}"
            ));
        }
        if let Some(covered) = covered
            && covered
                .after()
                .is_none_or(|after| !after.file_type.has_entries())
            && !one.changes.iter().any(|change| change.path == covered.path)
        {
            wrong.push(format!(
                "{name}: {path} alone does not tell of {}",
                covered.path
            ));
        }
    }
    wrong
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
            jobs: std::num::NonZero::new(2),
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
    operations("ext4", Kind::Ext4, Form::Plain, "");
}

#[test]
fn xfs() {
    operations("xfs", Kind::Xfs, Form::Plain, "");
}

#[test]
fn btrfs_as_backing() {
    operations("btrfs", Kind::Btrfs, Form::Plain, "");
}

#[test]
fn ext4_redirect_dir() {
    operations("ext4-redirect", Kind::Ext4, Form::Plain, ",redirect_dir=on");
}

#[test]
fn ext4_metacopy() {
    operations(
        "ext4-metacopy",
        Kind::Ext4,
        Form::Plain,
        ",metacopy=on,redirect_dir=on",
    );
}

#[test]
fn xfs_metacopy_index() {
    operations(
        "xfs-metacopy-index",
        Kind::Xfs,
        Form::Plain,
        ",metacopy=on,index=on",
    );
}

#[test]
fn ext4_index() {
    operations("ext4-index", Kind::Ext4, Form::Plain, ",index=on");
}

#[test]
fn ext4_nfs_export() {
    operations(
        "ext4-nfs-export",
        Kind::Ext4,
        Form::Plain,
        ",index=on,nfs_export=on",
    );
}

#[test]
fn btrfs_index() {
    operations("btrfs-index", Kind::Btrfs, Form::Plain, ",index=on");
}

#[test]
fn ext4_userxattr() {
    operations("ext4-userxattr", Kind::Ext4, Form::UserMarks, ",userxattr");
}

#[test]
fn xfs_volatile() {
    operations("xfs-volatile", Kind::Xfs, Form::Plain, ",volatile");
}

#[test]
fn ext4_xino() {
    operations("ext4-xino", Kind::Ext4, Form::Plain, ",xino=on,uuid=off");
}

#[test]
fn ext4_xattr_whiteouts() {
    operations("ext4-xwhiteouts", Kind::Ext4, Form::XattrWhiteouts, "");
}

#[test]
fn ext4_data_only() {
    operations(
        "ext4-data-only",
        Kind::Ext4,
        Form::DataOnly,
        ",metacopy=on,redirect_dir=on",
    );
}

#[test]
fn xfs_data_only() {
    operations(
        "xfs-data-only",
        Kind::Xfs,
        Form::DataOnly,
        ",metacopy=on,redirect_dir=on",
    );
}

#[test]
fn ext4_nested() {
    operations("ext4-nested", Kind::Ext4, Form::Nested, "");
}
