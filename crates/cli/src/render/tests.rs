//! Tests of what is printed, with measurements made by hand.

use std::time::Duration;

use plimsoll_core::model::{
    Aspect, Attributes, Baseline, Bytes, Change, ChangeKind, Container, ContainerId, Cost,
    EngineKind, FileType, Gap, Image, Measurement, RootPath, RuntimeKind, Sides, State,
};
use plimsoll_core::policy::{Policy, appraise};

use super::*;

const NOW: Timestamp = Timestamp {
    seconds: 1_800_000_000,
    nanoseconds: 0,
};

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

fn change(path: &[u8], kind: ChangeKind, aspects: &[Aspect]) -> Change {
    let before = attributes(FileType::File, 0o755);
    let after = attributes(FileType::File, 0o4755);
    Change {
        aspects: aspects.iter().copied().collect(),
        sides: Sides::new(
            (kind != ChangeKind::Added).then_some(&before),
            (kind != ChangeKind::Deleted).then_some(&after),
        ),
        ..Change::new(RootPath::parse(path).unwrap(), kind)
    }
}

fn measurement(name: &str, changes: Vec<Change>, gaps: Vec<Gap>) -> Measurement {
    Measurement {
        container: Container {
            name: Some(name.into()),
            state: State::Running,
            image: Image {
                reference: Some(Bytes::from("registry.example.com/acme/web:1.2.3")),
                ..Image::default()
            },
            ..Container::new(ContainerId::new("c0ffee".repeat(10)), RuntimeKind::Docker)
        },
        engine: Some(EngineKind::Overlay),
        baseline: Baseline::trusted(),
        changes,
        identical_copies: 0,
        mounts: Vec::new(),
        code: Vec::new(),
        gaps,
        cost: Cost {
            wall: Duration::from_micros(412),
            entries_read: 57,
            bytes_read: 2048,
        },
    }
}

fn every_kind() -> Vec<Change> {
    vec![
        Change {
            xattrs: Box::new([Bytes::from("security.capability")]),
            confirmed: false,
            ..change(
                b"/usr/bin/nginx",
                ChangeKind::Changed,
                &[Aspect::Content, Aspect::Mode, Aspect::Xattr],
            )
        },
        change(b"/usr/bin/evil\x1b[2J\n", ChangeKind::Added, &[]),
        change(b"/etc/cron.d", ChangeKind::Deleted, &[]),
        Change {
            sides: Sides::new(
                Some(&attributes(FileType::File, 0o755)),
                Some(&attributes(FileType::Directory, 0o755)),
            ),
            ..change(b"/etc/mtab", ChangeKind::Replaced, &[])
        },
    ]
}

fn rendered(
    format: Format,
    view: View,
    measurements: Vec<Measurement>,
    policy: &str,
    verbose: bool,
) -> String {
    let policy = Policy::parse(policy).unwrap();
    let run = Run {
        tool: v1::Tool {
            name: "plimsoll".into(),
            version: "0.1.0".into(),
        },
        host: v1::Host {
            name: Bytes::from("host"),
        },
        time: NOW,
        paths: Vec::new(),
    };
    let mut renderer = Renderer::new(format, view, run, Some(80), verbose);
    let mut out = Vec::new();
    let mut summary = Summary::default();
    for measurement in measurements {
        let appraisal = appraise(&measurement, &policy, NOW);
        let container = v1::Container::new(measurement, appraisal);
        summary.add(container.verdict);
        renderer.container(container, &mut out).unwrap();
    }
    renderer
        .finish(Vec::new(), summary, &mut out, Talk::new(0, true))
        .unwrap();
    let text = String::from_utf8(out).unwrap();
    anstream::adapter::strip_str(&text).to_string()
}

#[test]
fn a_table_of_containers() {
    let text = rendered(
        Format::Table,
        View::Check,
        vec![
            measurement(
                "web",
                every_kind(),
                vec![Gap::new("/var/lib/x", "permission denied")],
            ),
            measurement("db", vec![], vec![]),
            measurement(
                "cache-with-a-long-name",
                vec![],
                vec![Gap::new("/", "gone")],
            ),
        ],
        "{}",
        false,
    );
    let expected = "\
NAME                  RUNTIME  STATE    IMAGE         ENGINE   VERDICT   CHANGES
web                   docker   running  registry.ex…  overlay  violated        4
db                    docker   running  registry.ex…  overlay  intact          0
cache-with-a-long-n…  docker   running  registry.ex…  overlay  unknown         0

web
  C  /usr/bin/nginx                      content (not read), mode 0755 -> 4755, xattr security.capability
  A  /usr/bin/evil\\x1b[2J\\n              file 4755
  D  /etc/cron.d                         file
  T  /etc/mtab                           file -> directory 0755
  ?  /var/lib/x                          not seen: permission denied

cache-with-a-long-name
  ?  /                                   not seen: gone

1 intact, 1 violated, 1 unknown
";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn what_the_policy_allows_is_counted_and_shown_on_request() {
    let policy = "rules: [{name: edits, paths: ['/usr/**'], action: allow}]";
    let measurements = || vec![measurement("web", every_kind(), vec![])];
    let short = rendered(Format::Table, View::Check, measurements(), policy, false);
    assert!(!short.contains("/usr/bin/nginx"), "{short}");
    assert!(short.contains("2 allowed by the policy"), "{short}");
    let long = rendered(Format::Table, View::Check, measurements(), policy, true);
    assert!(
        long.contains("(allowed by edits)") && long.contains("412 µs, 57 entries"),
        "{long}"
    );
}

#[test]
fn the_changes_of_one_container() {
    let text = rendered(
        Format::Table,
        View::Diff,
        vec![measurement(
            "web",
            every_kind(),
            vec![Gap::new("/x", "gone")],
        )],
        "{}",
        false,
    );
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.starts_with("C  /usr/bin/nginx "), "{text}");
    assert!(
        text.ends_with("?  /x                                  not seen: gone\n"),
        "{text}"
    );
}

#[test]
fn the_lines_of_docker_diff() {
    let text = rendered(
        Format::Docker,
        View::Diff,
        vec![measurement("web", every_kind(), vec![])],
        "{}",
        false,
    );
    assert_eq!(
        text,
        "C /usr/bin/nginx\nA /usr/bin/evil\\x1b[2J\\n\nD /etc/cron.d\nC /etc/mtab\n"
    );
}

#[test]
fn a_line_a_change_for_log_collectors() {
    let text = rendered(
        Format::Ndjson,
        View::Check,
        vec![measurement(
            "web",
            every_kind(),
            vec![Gap::new("/x", "gone")],
        )],
        "{}",
        false,
    );
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 6);
    for line in &lines {
        assert_eq!(line["time"], "2027-01-15T08:00:00Z");
        assert_eq!(line["host"]["name"], "host");
    }
    assert_eq!(lines[0]["type"], "change");
    assert_eq!(lines[0]["container"]["name"], "web");
    assert_eq!(lines[0]["path"], "/usr/bin/nginx");
    assert_eq!(lines[0]["class"], "executable");
    assert_eq!(lines[1]["path"]["b64"], "L3Vzci9iaW4vZXZpbBtbMkoK");
    assert_eq!(lines[4]["type"], "container");
    assert_eq!(lines[4]["verdict"], "violated");
    assert_eq!(lines[4]["changeCount"], 4);
    assert_eq!(lines[4]["gaps"][0]["what"], "/x");
    assert_eq!(lines[5]["type"], "run");
    assert_eq!(lines[5]["summary"]["violated"], 1);
}

#[test]
fn the_document() {
    let text = rendered(
        Format::Json,
        View::Check,
        vec![measurement("web", every_kind(), vec![])],
        "{}",
        false,
    );
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["schemaVersion"], 1);
    assert_eq!(document["containers"][0]["changes"][3]["kind"], "replaced");
}

#[test]
fn a_long_list_is_cut_in_check_and_not_in_diff() {
    let many: Vec<Change> = (0..100)
        .map(|i| change(format!("/opt/{i}").as_bytes(), ChangeKind::Added, &[]))
        .collect();
    let measurements = || vec![measurement("web", many.clone(), vec![])];
    let check = rendered(Format::Table, View::Check, measurements(), "{}", false);
    assert!(check.contains("… 75 more"), "{check}");
    let diff = rendered(Format::Table, View::Diff, measurements(), "{}", false);
    assert_eq!(diff.lines().count(), 100);
}

#[test]
fn numbers_for_people() {
    for (time, text) in [
        (412, "412 µs"),
        (3_140, "3.1 ms"),
        (250_000, "250 ms"),
        (2_500_000, "2.50 s"),
    ] {
        assert_eq!(table::duration(Duration::from_micros(time)), text);
    }
    for (count, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (300 << 20, "300 MiB"),
    ] {
        assert_eq!(table::bytes(count), text);
    }
}
