//! The program as people run it: verdicts, exit codes, forms of output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use plimsoll_e2e::{command, program, require};
use serde_json::Value;

/// An image's tree and a container's, the same at first.
struct Trees {
    dir: tempfile::TempDir,
}

impl Trees {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for side in ["image", "container"] {
            let root = dir.path().join(side);
            fs::create_dir_all(root.join("etc")).unwrap();
            fs::create_dir_all(root.join("var/log")).unwrap();
            fs::write(root.join("etc/passwd"), "root:x:0:0\n").unwrap();
            fs::write(root.join("var/log/app.log"), "started\n").unwrap();
        }
        Self { dir }
    }

    fn container(&self, path: &str) -> PathBuf {
        self.dir.path().join("container").join(path)
    }

    fn target(&self) -> String {
        let base = self.dir.path().display();
        format!("tree:{base}/image:{base}/container")
    }

    #[track_caller]
    fn run(&self, code: i32, command: &str, args: &[&str]) -> (String, String) {
        let mut run = program::command();
        run.arg(command)
            .arg(self.target())
            .args(args)
            .current_dir(self.dir.path());
        texts(code, &run.output().unwrap())
    }
}

#[track_caller]
fn texts(code: i32, output: &Output) -> (String, String) {
    let out = String::from_utf8(output.stdout.clone()).unwrap();
    let err = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    (out, err)
}

#[test]
fn exit_codes_follow_the_verdict() {
    require!();
    let trees = Trees::new();
    for command in ["check", "diff"] {
        trees.run(0, command, &[]);
    }
    fs::write(trees.container("var/log/app.log"), "cleared\n").unwrap();
    for command in ["check", "diff"] {
        let (out, _) = trees.run(1, command, &[]);
        assert!(out.contains("/var/log/app.log"), "{out}");
    }

    let policy = "rules:\n- {name: logs, paths: ['/var/log/**'], action: allow}\n";
    fs::write(trees.dir.path().join("policy.yaml"), policy).unwrap();
    trees.run(0, "check", &["--policy", "policy.yaml"]);
    let expired = policy.replace("action: allow", "action: allow, expires: 2001-01-01");
    fs::write(trees.dir.path().join("policy.yaml"), expired).unwrap();
    let (_, err) = trees.run(1, "check", &["--policy", "policy.yaml"]);
    assert!(err.contains("it has expired"), "{err}");
}

#[test]
fn only_the_paths_that_are_asked_for() {
    require!();
    let trees = Trees::new();
    fs::write(trees.container("etc/passwd"), "root::0:0\n").unwrap();
    trees.run(0, "check", &["--", "/var/log/app.log", "/no/such/path"]);
    let (out, _) = trees.run(1, "diff", &["--", "/etc/passwd"]);
    assert_eq!(out.lines().count(), 1, "{out}");
    for format in ["json", "ndjson"] {
        let (out, err) = trees.run(0, "check", &["--format", format, "--", "/var/log"]);
        assert!(
            out.contains("\"paths\":") && out.contains("/var/log"),
            "{out}"
        );
        assert!(err.contains("only the paths given"), "{err}");
    }
}

#[test]
fn without_privileges_nothing_is_called_intact() {
    require!("setpriv");
    let trees = Trees::new();
    // The program lies where only its owner may look; another user gets a copy.
    let copy = trees.dir.path().join("plimsoll");
    fs::copy(program::path(), &copy).unwrap();
    fs::set_permissions(
        trees.dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let output = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(copy)
        .args(["check", &trees.target()])
        .env("PLIMSOLL_CONFIG", "/dev/null")
        .output()
        .unwrap();
    let (out, _) = texts(2, &output);
    assert!(out.contains("CAP_SYS_ADMIN"), "{out}");
}

#[test]
fn every_form_of_output() {
    require!();
    let trees = Trees::new();
    fs::write(trees.container("etc/passwd"), "root::0:0:\n").unwrap();
    fs::write(trees.container("etc/\u{1b}[2Jnew\n"), "").unwrap();
    fs::remove_file(trees.container("var/log/app.log")).unwrap();

    let (out, _) = trees.run(1, "diff", &["--format", "docker"]);
    assert_eq!(
        out,
        "A /etc/\\x1b[2Jnew\\n\nC /etc/passwd\nD /var/log/app.log\n"
    );

    let (out, _) = trees.run(1, "check", &["--format", "json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["summary"]["violated"], 1);
    assert_eq!(
        document["containers"][0]["changes"][1]["path"],
        "/etc/passwd"
    );
    assert!(document["containers"][0]["changes"][0]["path"]["b64"].is_string());

    let (out, _) = trees.run(1, "check", &["--format", "ndjson"]);
    let types: Vec<String> = out
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(types, ["change", "change", "change", "container", "run"]);

    let (out, _) = trees.run(1, "check", &[]);
    assert!(
        !out.contains('\u{1b}'),
        "no colour and no escape but in a terminal: {out:?}"
    );
}

/// Held against the committed schema by a validator that shares nothing with the program.
#[test]
fn the_document_is_what_the_schema_says() {
    require!("jsonschema", "setfattr");
    let trees = Trees::new();
    fs::write(trees.container("etc/passwd"), "root::0:0:\n").unwrap();
    fs::write(trees.container("etc/\u{1b}"), "").unwrap();
    fs::remove_file(trees.container("var/log/app.log")).unwrap();
    std::os::unix::fs::symlink("/target", trees.container("var/log/app.log")).unwrap();
    let pipe = trees.container("etc/pipe");
    command::run("mkfifo", &[&pipe.display().to_string()]);
    command::run(
        "mknod",
        &[
            &trees.container("etc/null").display().to_string(),
            "c",
            "1",
            "3",
        ],
    );
    let etc = trees.container("etc").display().to_string();
    command::run("setfattr", &["-n", "user.note", "-v", "x", &etc]);
    trees.run(1, "check", &["--format", "json", "-o", "report.json"]);

    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/report.schema.json");
    let valid = |report: &Path| {
        let output = std::process::Command::new("jsonschema")
            .arg("-i")
            .args([report, &schema])
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let report = trees.dir.path().join("report.json");
    let (fine, told) = valid(&report);
    assert!(fine, "{told}");

    let text = fs::read_to_string(&report).unwrap();
    let broken = text.replace("\"violated\",", "\"fine\",");
    assert_ne!(text, broken);
    fs::write(&report, broken).unwrap();
    assert!(!valid(&report).0);
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    require!();
    let trees = Trees::new();
    let report = trees.dir.path().join("report.json");
    let (out, _) = trees.run(0, "check", &["--format", "json", "-o", "report.json"]);
    assert_eq!(out, "");
    let whole = fs::read_to_string(&report).unwrap();
    serde_json::from_str::<Value>(&whole).unwrap();

    let mut failing = program::command();
    failing
        .args(["check", "overlay:/no/such", "-o"])
        .arg(&report);
    texts(2, &failing.output().unwrap());
    assert_eq!(fs::read_to_string(&report).unwrap(), whole);
    let left: Vec<_> = fs::read_dir(trees.dir.path()).unwrap().collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_reader_that_went_away_ends_it_in_silence() {
    require!();
    let trees = Trees::new();
    for number in 0..2000 {
        fs::write(trees.container(&format!("etc/{number:0100}")), "").unwrap();
    }
    let mut child = program::command()
        .args(["diff", "-q", &trees.target()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let (_, err) = texts(2, &output);
    assert_eq!(err, "");
}

#[test]
fn a_baseline_stands_in_for_the_image() {
    require!();
    let trees = Trees::new();
    let mut command = program::command();
    command.args([
        "bench",
        &trees.target(),
        "--runs",
        "1",
        "--format",
        "json",
        "--keep",
    ]);
    let kept = trees.dir.path().join("kept");
    let (out, _) = texts(0, &command.arg(&kept).output().unwrap());
    let document: Value = serde_json::from_str(&out).unwrap();
    let methods = document["containers"][0]["methods"].as_array().unwrap();
    assert_eq!(methods.len(), 3);
    for method in methods {
        assert_eq!(method["changes"], 0, "{method}");
        assert!(method["storedBytes"].as_u64().unwrap() > 0, "{method}");
        let read = &method["warm"]["contentBytes"]["median"];
        assert!(read.as_u64().unwrap() > 0, "{method}");
    }
    // The command that stores them, by itself, stores the same.
    let mut store = program::command();
    store.args(["baseline", &trees.target()]);
    let (stored, _) = texts(0, &store.output().unwrap());
    assert_eq!(stored, fs::read_to_string(kept.join("sha256")).unwrap());
    // The stored digests alone tell what changed, whatever became of the image since.
    let tampered = trees.container("etc/passwd");
    let old = fs::read(&tampered).unwrap();
    fs::write(&tampered, vec![b'x'; old.len()]).unwrap();
    fs::remove_dir_all(trees.dir.path().join("image")).unwrap();
    fs::create_dir(trees.dir.path().join("image")).unwrap();
    for algorithm in ["md5", "sha256", "blake3"] {
        let mut check = program::command();
        check.args([
            "diff",
            "--format",
            "docker",
            "--engine",
            "digest",
            &trees.target(),
            "--baseline",
        ]);
        let (out, _) = texts(1, &check.arg(kept.join(algorithm)).output().unwrap());
        assert_eq!(out, "C /etc/passwd\n", "{algorithm}");
    }
}

#[test]
fn a_list_compares_nothing() {
    require!();
    let trees = Trees::new();
    fs::write(trees.container("etc/passwd"), "root::0:0:\n").unwrap();
    let image = trees.dir.path().join("image").display().to_string();
    let container = trees.dir.path().join("container").display().to_string();

    let (out, err) = trees.run(0, "list", &[]);
    let lines: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["NAME", "ID", "RUNTIME", "STATE", "IMAGE", "ENGINE"]
    );
    assert_eq!(lines[1][0], container);
    assert_eq!(lines[1][2..], ["tree", "unknown", &image, "digest"]);
    assert_eq!((lines.len(), err.as_str()), (2, ""));

    let (out, _) = trees.run(0, "list", &["-o", "wide"]);
    let head = out.lines().next().unwrap();
    assert!(head.ends_with("NAMESPACE  POD  USER  PID  LAYER"), "{head}");
    assert!(out.lines().nth(1).unwrap().ends_with(&container), "{out}");

    let (out, _) = trees.run(0, "list", &["--format", "json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    let listed = &document["containers"][0];
    assert_eq!(listed["layer"], container.as_str());
    assert_eq!(listed["imageLayers"], serde_json::json!([image]));
    assert_eq!(listed["engine"], "digest");

    let (out, _) = trees.run(0, "list", &["--format", "ndjson"]);
    let types: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone())
        .collect();
    assert_eq!(types, ["container", "run"]);
    let (_, err) = trees.run(2, "list", &["--format", "docker"]);
    assert!(err.contains("three forms"), "{err}");

    // One whose layers are not there is listed with the reason.
    fs::remove_dir_all(trees.dir.path().join("image")).unwrap();
    let (out, _) = trees.run(2, "list", &[]);
    assert!(out.lines().nth(1).unwrap().ends_with(" -"), "{out}");
    assert!(out.contains("image: No such file or directory"), "{out}");
    let (out, _) = trees.run(2, "list", &["--format", "json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["containers"][0]["engine"], Value::Null);
    assert_eq!(document["containers"][0]["gaps"][0]["what"], "layers");
}

#[test]
fn the_doctor_names_each_runtime_once() {
    require!();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("docker");
    let doctor = |format: &str| {
        let mut run = program::command();
        run.args(["doctor", "--format", format, "--data-root"])
            .arg(&root);
        run.output().unwrap()
    };
    let (out, _) = texts(2, &doctor("table"));
    let row = out
        .lines()
        .find(|line| line.contains("missing  docker "))
        .expect("a row");
    assert_eq!(row.matches("Docker's data root").count(), 1, "{row}");
    let (out, _) = texts(2, &doctor("json"));
    let document: Value = serde_json::from_str(&out).unwrap();
    let checks = document["checks"].as_array().unwrap();
    let docker = checks
        .iter()
        .find(|check| check["name"] == "docker")
        .unwrap();
    assert_eq!(docker["status"], "missing");
    assert!(docker["remedy"].is_string());

    fs::create_dir_all(root.join("containers")).unwrap();
    let (out, _) = texts(0, &doctor("table"));
    let row = out
        .lines()
        .find(|line| line.contains(" docker "))
        .expect("a row");
    assert!(
        row.starts_with("ok ") && row.contains("by its records alone"),
        "{row}"
    );
}
