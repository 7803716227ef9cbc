//! Tests of appraisal, the monotony of verdicts among them.

use proptest::prelude::*;

use super::*;
use crate::model::{
    Aspect, Aspects, Attributes, Baseline, Bytes, Code, CodeOrigin, Container, ContainerId, Cost,
    EngineKind, Gap, Mount, RootPath, RuntimeKind, State,
};
use crate::model::{FileType, RuntimePathKind, Sides};

const NOW: Timestamp = Timestamp {
    seconds: 1_800_000_000,
    nanoseconds: 0,
};

fn path(text: &str) -> RootPath {
    RootPath::parse(text.as_bytes()).unwrap()
}

fn attributes(file_type: FileType, mode: u16) -> Attributes {
    Attributes {
        file_type,
        mode,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: NOW,
        links: 1,
        device: None,
        target: None,
        immutable: false,
        append_only: false,
    }
}

fn change(text: &str, kind: ChangeKind, aspects: &[Aspect]) -> Change {
    let file = attributes(FileType::File, 0o644);
    Change {
        aspects: aspects.iter().copied().collect(),
        sides: Sides::new(
            (kind != ChangeKind::Added).then_some(&file),
            (kind != ChangeKind::Deleted).then_some(&file),
        ),
        ..Change::new(path(text), kind)
    }
}

fn added(text: &str, attributes: Attributes) -> Change {
    let mut change = change(text, ChangeKind::Added, &[]);
    change.sides = Sides::new(None, Some(&attributes));
    change
}

fn measurement(changes: Vec<Change>, gaps: Vec<Gap>) -> Measurement {
    Measurement {
        container: Container {
            name: Some("web".into()),
            state: State::Running,
            runtime_paths: vec![
                RuntimePath {
                    path: path("/app"),
                    kind: RuntimePathKind::Directory,
                },
                RuntimePath {
                    path: path("/etc/hosts"),
                    kind: RuntimePathKind::EmptyFile,
                },
                RuntimePath {
                    path: path("/etc/mtab"),
                    kind: RuntimePathKind::Symlink(Bytes::from("/proc/mounts")),
                },
            ],
            ..Container::new(
                ContainerId::new("0123456789abcdef".into()),
                RuntimeKind::Docker,
            )
        },
        engine: Some(EngineKind::Overlay),
        baseline: Baseline::trusted(),
        changes,
        identical_copies: 0,
        mounts: Vec::new(),
        code: Vec::new(),
        gaps,
        cost: Cost::default(),
    }
}

fn policy(text: &str) -> Policy {
    Policy::parse(text).unwrap()
}

fn verdict(changes: Vec<Change>, gaps: Vec<Gap>, policy: &Policy) -> Verdict {
    appraise(&measurement(changes, gaps), policy, NOW).verdict
}

#[test]
fn verdicts() {
    let none = Policy::default();
    let gap = || Gap::new("/x", "permission denied");
    let evil = || change("/usr/bin/sh", ChangeKind::Changed, &[Aspect::Content]);
    assert_eq!(verdict(vec![], vec![], &none), Verdict::Intact);
    assert_eq!(verdict(vec![evil()], vec![], &none), Verdict::Violated);
    assert_eq!(verdict(vec![], vec![gap()], &none), Verdict::Unknown);
    assert_eq!(verdict(vec![evil()], vec![gap()], &none), Verdict::Violated);

    let lenient =
        policy("rules: [{name: a, paths: ['/usr/**'], action: allow}]\ngaps: {accept: ['/x']}");
    assert_eq!(verdict(vec![evil()], vec![], &lenient), Verdict::Allowed);
    assert_eq!(verdict(vec![], vec![gap()], &lenient), Verdict::Allowed);
    assert_eq!(
        verdict(vec![evil()], vec![Gap::new("/y", "gone")], &lenient),
        Verdict::Unknown
    );
}

#[test]
fn nothing_compared_is_unknown() {
    let mut measurement = measurement(vec![], vec![Gap::new("/x", "gone")]);
    measurement.engine = None;
    let accepting = policy("gaps: {accept: ['**']}");
    assert_eq!(
        appraise(&measurement, &accepting, NOW).verdict,
        Verdict::Unknown
    );
}

#[test]
fn the_first_rule_that_applies_decides() {
    let policy = policy(
        "rules:\n\
         - {name: keys, paths: ['/srv/**/*.key'], action: deny}\n\
         - {name: data, paths: ['/srv/**'], action: allow}\n\
         - {name: never, paths: ['/srv/**'], action: deny}\n",
    );
    let appraisal = appraise(
        &measurement(
            vec![
                change("/srv/a", ChangeKind::Added, &[]),
                change("/srv/b/c.key", ChangeKind::Added, &[]),
                change("/usr/x", ChangeKind::Added, &[]),
            ],
            vec![],
        ),
        &policy,
        NOW,
    );
    let told: Vec<_> = appraisal
        .changes
        .iter()
        .map(|o| (o.allowed, o.rule.as_deref()))
        .collect();
    assert_eq!(
        told,
        [(true, Some("data")), (false, Some("keys")), (false, None)]
    );
}

#[test]
fn a_second_aspect_does_not_slip_through() {
    let allow = policy("rules: [{name: a, paths: ['/f'], aspects: [content], action: allow}]");
    let changed = |aspects: &[Aspect]| vec![change("/f", ChangeKind::Changed, aspects)];
    assert_eq!(
        verdict(changed(&[Aspect::Content]), vec![], &allow),
        Verdict::Allowed
    );
    assert_eq!(
        verdict(changed(&[Aspect::Content, Aspect::Times]), vec![], &allow),
        Verdict::Allowed
    );
    assert_eq!(
        verdict(changed(&[Aspect::Content, Aspect::Mode]), vec![], &allow),
        Verdict::Violated
    );
    for kind in [ChangeKind::Added, ChangeKind::Deleted, ChangeKind::Replaced] {
        assert_eq!(
            verdict(vec![change("/f", kind, &[])], vec![], &allow),
            Verdict::Violated
        );
    }

    let deny = policy(
        "rules:\n- {name: a, paths: ['/f'], aspects: [mode], action: deny}\n\
         - {name: b, paths: ['/f'], action: allow}\n",
    );
    assert_eq!(
        verdict(changed(&[Aspect::Content]), vec![], &deny),
        Verdict::Allowed
    );
    assert_eq!(
        verdict(changed(&[Aspect::Content, Aspect::Mode]), vec![], &deny),
        Verdict::Violated
    );
}

#[test]
fn a_class_keeps_programs_out_of_a_rule_about_logs() {
    let policy =
        policy("rules: [{name: logs, paths: ['/var/log/**'], classes: [log], action: allow}]");
    let log = added("/var/log/a", attributes(FileType::File, 0o644));
    let program = added("/var/log/b", attributes(FileType::File, 0o4755));
    assert_eq!(
        verdict(vec![log.clone()], vec![], &policy),
        Verdict::Allowed
    );
    assert_eq!(
        verdict(vec![log, program], vec![], &policy),
        Verdict::Violated
    );
}

#[test]
fn a_lapsed_rule_suppresses_nothing() {
    // NOW is 2027-01-15T08:00:00Z.
    for (date, expected) in [
        ("2027-01-14", Verdict::Violated),
        ("2027-01-15", Verdict::Allowed),
        ("next year", Verdict::Violated),
    ] {
        let policy = policy(&format!(
            "rules: [{{name: a, paths: ['/f'], action: allow, expires: {date}}}]"
        ));
        let changes = vec![change("/f", ChangeKind::Added, &[])];
        assert_eq!(verdict(changes, vec![], &policy), expected, "{date}");
    }
}

#[test]
fn what_the_runtime_writes_is_allowed_in_exactly_that_form() {
    let directory = || attributes(FileType::Directory, 0o755);
    let file = || attributes(FileType::File, 0o755);
    let link = |target: &str| Attributes {
        target: Some(Bytes::from(target)),
        ..attributes(FileType::Symlink, 0o777)
    };
    for (path, attributes) in [
        ("/app", directory()),
        ("/etc/hosts", file()),
        (
            "/etc/hosts",
            Attributes {
                mode: 0o644,
                ..file()
            },
        ),
        ("/etc/mtab", link("/proc/mounts")),
    ] {
        let appraisal = appraise(
            &measurement(vec![added(path, attributes)], vec![]),
            &Policy::default(),
            NOW,
        );
        assert_eq!(appraisal.verdict, Verdict::Allowed, "{path}");
        assert_eq!(appraisal.changes[0].rule.as_deref(), Some(RUNTIME_RULE));
    }
    for (path, attributes) in [
        (
            "/app",
            Attributes {
                mode: 0o777,
                ..directory()
            },
        ),
        (
            "/app",
            Attributes {
                uid: 1000,
                ..directory()
            },
        ),
        (
            "/app",
            Attributes {
                gid: 1000,
                ..directory()
            },
        ),
        ("/app", file()),
        ("/app/x", directory()),
        ("/etc/hosts", Attributes { size: 1, ..file() }),
        ("/etc/hosts", Attributes { links: 2, ..file() }),
        (
            "/etc/hosts",
            Attributes {
                mode: 0o4755,
                ..file()
            },
        ),
        (
            "/etc/hosts",
            Attributes {
                immutable: true,
                ..file()
            },
        ),
        ("/etc/mtab", link("/etc/passwd")),
        ("/etc/other", file()),
    ] {
        let change = added(path, attributes);
        assert_eq!(
            verdict(vec![change.clone()], vec![], &Policy::default()),
            Verdict::Violated,
            "{change:?}"
        );
    }
    let mut carrying = added("/app", directory());
    carrying.xattrs = Box::new([Bytes::from("user.x")]);
    assert_eq!(
        verdict(vec![carrying], vec![], &Policy::default()),
        Verdict::Violated
    );
    let changed = change("/etc/hosts", ChangeKind::Changed, &[Aspect::Content]);
    assert_eq!(
        verdict(vec![changed], vec![], &Policy::default()),
        Verdict::Violated
    );
}

#[test]
fn a_rule_can_deny_what_the_runtime_writes() {
    let policy = policy("rules: [{name: strict, paths: ['**'], action: deny}]");
    let change = added("/app", attributes(FileType::Directory, 0o755));
    assert_eq!(verdict(vec![change], vec![], &policy), Verdict::Violated);
}

fn any_path() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "/a",
        "/a/b",
        "/a/b.key",
        "/app",
        "/etc/hosts",
        "/var/log/x",
        "/b",
    ])
}

const ORIGINS: [CodeOrigin; 6] = [
    CodeOrigin::Changed,
    CodeOrigin::Volume,
    CodeOrigin::Scratch,
    CodeOrigin::Memfd,
    CodeOrigin::Deleted,
    CodeOrigin::Detached,
];

fn mount(path: RootPath, origin: MountOrigin) -> Mount {
    Mount {
        path,
        fs_type: "tmpfs".into(),
        source: "none".into(),
        root: "/".into(),
        read_only: false,
        origin,
        pid: 1,
    }
}

fn code(path: &RootPath, origin: CodeOrigin) -> Code {
    Code {
        path: path.as_bytes().into(),
        origin,
        program: true,
        pid: 1,
        processes: 1,
    }
}

#[test]
fn what_covers_or_bypasses_is_judged() {
    let with = |mounts: &[MountOrigin], codes: &[CodeOrigin], policy: &str| {
        let mut measurement = measurement(Vec::new(), Vec::new());
        let at = |origin: &MountOrigin| mount(path("/mnt/x"), *origin);
        measurement.mounts = mounts.iter().map(at).collect();
        measurement.code = codes
            .iter()
            .map(|o| code(&path("/memfd:jit"), *o))
            .collect();
        appraise(&measurement, &Policy::parse(policy).unwrap(), NOW).verdict
    };
    use MountOrigin::{Declared, Foreign, Runtime};
    assert_eq!(with(&[Runtime, Declared], &[], "{}"), Verdict::Intact);
    assert_eq!(with(&[Runtime, Foreign], &[], "{}"), Verdict::Violated);
    let mounts = "mounts: {allow: ['/mnt/*']}";
    assert_eq!(with(&[Foreign], &[], mounts), Verdict::Allowed);
    assert_eq!(
        with(&[Foreign], &[], "mounts: {allow: ['/mnt']}"),
        Verdict::Violated
    );
    for origin in ORIGINS {
        let alone = with(&[], &[origin], "{}");
        let allowed = with(&[], &[origin], "processes: {allow: ['/memfd:*']}");
        let expected = match origin.is_hidden() {
            true => (Verdict::Violated, Verdict::Allowed),
            false => (Verdict::Intact, Verdict::Intact),
        };
        assert_eq!((alone, allowed), expected, "{origin:?}");
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    use ChangeKind::{Added, Changed, Deleted, Replaced};
    let kinds = prop::sample::select(vec![Added, Changed, Deleted, Replaced]);
    let modes = prop::sample::select(vec![0o644, 0o755, 0o4755]);
    let types = prop::sample::select(vec![FileType::File, FileType::Directory]);
    let aspects = prop::collection::vec(prop::sample::select(&Aspect::ALL[..]), 0..3);
    (any_path(), kinds, modes, types, aspects).prop_map(|(path, kind, mode, file_type, aspects)| {
        let mut change = change(path, kind, &[]);
        if kind == Changed {
            change.aspects = Aspects::from_iter(aspects);
        }
        if change.after().is_some() {
            let after = attributes(file_type, mode);
            change.sides = Sides::new(change.before().as_ref(), Some(&after));
        }
        change
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let globs = prop::sample::select(vec!["/**", "/a/**", "**/*.key", "/app", "/a", "/var/**"]);
    let extra = prop::sample::select(vec![
        "",
        ", kinds: [added]",
        ", aspects: [content]",
        ", classes: [log, other]",
    ]);
    let action = prop::sample::select(vec![
        "allow",
        "deny",
        "allow, expires: 2001-01-01",
        "allow, expires: 2099-01-01",
    ]);
    let gaps = prop::sample::select(vec!["[]", "['/a']", "['**']"]);
    (prop::collection::vec((globs, extra, action), 0..4), gaps).prop_map(|(rules, gaps)| {
        let mut text = String::from("rules:\n");
        for (index, (glob, extra, action)) in rules.iter().enumerate() {
            text += &format!("- {{name: r{index}, paths: ['{glob}']{extra}, action: {action}}}\n");
        }
        if rules.is_empty() {
            text = String::new();
        }
        policy(&format!("{text}gaps: {{accept: {gaps}}}\n"))
    })
}

proptest! {
    #[test]
    fn more_never_looks_better(
        changes in prop::collection::vec(any_change(), 0..5),
        gaps in prop::collection::vec(any_path(), 0..3),
        more in any_change(),
        at in any::<prop::sample::Index>(),
        policy in any_policy(),
        engine in any::<bool>(),
    ) {
        let gaps: Vec<Gap> = gaps.into_iter().map(|what| Gap::new(what, "gone")).collect();
        let mut before = measurement(changes, gaps);
        before.engine = engine.then_some(EngineKind::Digest);
        let verdict = appraise(&before, &policy, NOW).verdict;

        let mut changed = before.clone();
        changed.changes.insert(at.index(before.changes.len() + 1), more.clone());
        prop_assert!(appraise(&changed, &policy, NOW).verdict >= verdict);

        let mut gapped = before.clone();
        gapped.gaps.push(Gap::new(more.path.as_bytes(), "gone"));
        prop_assert!(appraise(&gapped, &policy, NOW).verdict >= verdict);

        let mut covered = before.clone();
        covered.mounts.push(mount(more.path.clone(), MountOrigin::Foreign));
        prop_assert!(appraise(&covered, &policy, NOW).verdict >= verdict.max(Verdict::Allowed));
        let mut declared = before.clone();
        declared.mounts.push(mount(more.path.clone(), MountOrigin::Declared));
        prop_assert_eq!(appraise(&declared, &policy, NOW).verdict, verdict);

        for origin in ORIGINS {
            let mut runs = before.clone();
            runs.code.push(code(&more.path, origin));
            let with = appraise(&runs, &policy, NOW).verdict;
            let least = if origin.is_hidden() { Verdict::Allowed } else { verdict };
            prop_assert!(with >= verdict.max(least));
        }

        let mut blind = before.clone();
        blind.engine = None;
        prop_assert!(appraise(&blind, &policy, NOW).verdict >= verdict);

        prop_assert_eq!(verdict == Verdict::Intact,
            engine && before.changes.is_empty() && before.gaps.is_empty());
    }
}
