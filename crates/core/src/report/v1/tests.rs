//! Tests of the document: its field names are a promise.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::model::{Aspect, Attributes, ChangeKind, FileType, Sides};
use crate::policy::{Policy, appraise};

const NOW: Timestamp = Timestamp {
    seconds: 1_800_000_000,
    nanoseconds: 0,
};

fn measurement() -> Measurement {
    let id = format!("sha256:{}", "ab".repeat(32));
    let attributes = |mode| Attributes {
        file_type: FileType::File,
        mode,
        uid: 0,
        gid: 0,
        size: 7,
        mtime: NOW,
        links: 1,
        device: None,
        target: None,
        immutable: false,
        append_only: false,
    };
    let change = |path: &[u8], kind| model::Change::new(RootPath::parse(path).unwrap(), kind);
    Measurement {
        container: model::Container {
            name: Some("web".into()),
            state: State::Running,
            image: Image {
                reference: Some(Bytes::from("acme/web:1")),
                id: Some(id.parse().unwrap()),
                manifest: None,
                layers: vec![id.parse().unwrap()],
            },
            pid: Some(7),
            ..model::Container::new(ContainerId::new("c0ffee".repeat(10)), RuntimeKind::Docker)
        },
        engine: Some(EngineKind::Overlay),
        baseline: model::Baseline::trusted(),
        changes: vec![
            model::Change {
                aspects: [Aspect::Content, Aspect::Mode].into_iter().collect(),
                confirmed: false,
                sides: Sides::new(Some(&attributes(0o755)), Some(&attributes(0o4755))),
                xattrs: Box::new([Bytes::from("security.capability")]),
                origin: Some(Arc::new(id.parse().unwrap())),
                ..change(b"/usr/bin/nginx", ChangeKind::Changed)
            },
            model::Change {
                sides: Sides::new(None, Some(&attributes(0o644))),
                renamed_from: Some(Box::new(RootPath::parse(b"/var/log/old").unwrap())),
                ..change(b"/var/log/\xff", ChangeKind::Added)
            },
        ],
        identical_copies: 3,
        mounts: vec![model::Mount {
            path: RootPath::parse(b"/usr").unwrap(),
            fs_type: "tmpfs".into(),
            source: "none".into(),
            root: "/".into(),
            read_only: true,
            origin: model::MountOrigin::Foreign,
            pid: 7,
        }],
        code: vec![model::Code {
            path: "/memfd:x".into(),
            origin: model::CodeOrigin::Memfd,
            program: true,
            pid: 8,
            processes: 2,
        }],
        gaps: vec![model::Gap::new("/var/lib/x", "permission denied")],
        cost: model::Cost {
            wall: Duration::from_micros(412),
            entries_read: 57,
            bytes_read: 0,
        },
    }
}

fn report() -> Report {
    let policy = Policy::parse(
        "rules: [{name: logs, paths: ['/var/log/*'], action: allow}]\ngaps: {accept: ['/var/**']}",
    )
    .unwrap();
    let measurement = measurement();
    let appraisal = appraise(&measurement, &policy, NOW);
    let container = Container::new(measurement, appraisal);
    let mut summary = Summary::default();
    summary.add(container.verdict);
    Report {
        schema_version: SCHEMA_VERSION,
        tool: Tool {
            name: "plimsoll".into(),
            version: "0.1.0".into(),
        },
        host: Host {
            name: Bytes::from("host"),
        },
        time: NOW,
        paths: Vec::new(),
        containers: vec![container],
        gaps: vec![Gap::new(
            model::Gap::new("CAP_SYS_ADMIN", "run as root"),
            false,
        )],
        summary,
    }
}

#[test]
fn the_document() {
    let id = format!("sha256:{}", "ab".repeat(32));
    let side = |mode: &str| {
        json!({"type": "file", "mode": mode, "uid": 0, "gid": 0, "size": 7,
               "mtime": "2027-01-15T08:00:00Z", "links": 1})
    };
    let expected = json!({
        "schemaVersion": 1,
        "tool": {"name": "plimsoll", "version": "0.1.0"},
        "host": {"name": "host"},
        "time": "2027-01-15T08:00:00Z",
        "containers": [{
            "id": "c0ffee".repeat(10), "name": "web", "runtime": "docker", "state": "running",
            "image": {"reference": "acme/web:1", "id": id, "manifest": null, "layers": [id]},
            "engine": "overlay", "baseline": {"layers": "trusted"},
            "verdict": "violated",
            "changes": [
                {"path": "/usr/bin/nginx", "kind": "changed", "aspects": ["content", "mode"],
                 "class": "executable", "origin": id, "allowed": false, "rule": null,
                 "confirmed": false, "xattrs": ["security.capability"],
                 "before": side("0755"), "after": side("4755")},
                {"path": {"b64": "L3Zhci9sb2cv/w=="}, "kind": "added", "aspects": [],
                 "class": "log", "origin": null, "allowed": true, "rule": "logs",
                 "renamedFrom": "/var/log/old", "before": null, "after": side("0644")},
            ],
            "identicalCopies": 3,
            "mounts": [{"path": "/usr", "fsType": "tmpfs", "source": "none", "root": "/",
                        "readOnly": true, "origin": "foreign", "pid": 7, "allowed": false}],
            "processes": [{"path": "/memfd:x", "origin": "memfd", "program": true, "pid": 8,
                           "processes": 2, "allowed": false}],
            "gaps": [{"what": "/var/lib/x", "why": "permission denied", "accepted": true}],
            "cost": {"wallMicros": 412, "entriesRead": 57, "bytesRead": 0},
        }],
        "gaps": [{"what": "CAP_SYS_ADMIN", "why": "run as root"}],
        "summary": {"intact": 0, "allowed": 0, "violated": 1, "unknown": 0},
    });
    let actual = serde_json::to_value(report()).unwrap();
    assert_eq!(actual, expected, "{actual:#}");
}

#[test]
fn a_gap_beside_all_containers_leaves_the_run_unknown() {
    let mut report = report();
    assert_eq!(report.exit_code(), 1);
    report.summary = Summary {
        intact: 1,
        ..Summary::default()
    };
    assert_eq!(report.exit_code(), 2);
    report.gaps[0].accepted = true;
    assert_eq!(report.exit_code(), 0);
}

#[test]
fn the_schema_names_what_must_be_there() {
    let schema = serde_json::to_value(schema()).unwrap();
    let required = &schema["$defs"]["Change"]["required"];
    let required: Vec<&str> = required
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    assert!(
        required.contains(&"rule") && required.contains(&"before"),
        "{required:?}"
    );
    for optional in ["confirmed", "xattrs", "renamedFrom"] {
        assert!(!required.contains(&optional), "{required:?}");
    }
}
