//! Whatever is given on the command line: one clear sentence, exit code 2, and never a panic.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn plimsoll(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    // Nothing of the machine's own configuration: an absolute path that holds none.
    command
        .env_clear()
        .env("XDG_CONFIG_HOME", directory)
        .current_dir(directory);
    command
}

fn output(args: &[&OsStr], env: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    plimsoll(directory.path())
        .args(args)
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

#[track_caller]
fn refused(args: &[&str], env: &[(&str, &str)], why: &str) {
    let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    let output = output(&args, env);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?}");
    assert!(said.contains(why), "{args:?}: {said}");
    assert!(said.starts_with("error: "), "{args:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn arguments_that_make_no_sense() {
    for (args, why) in [
        (&["check", "k8s:ns/pod"][..], "k8s:NAMESPACE/POD/CONTAINER"),
        (&["check", "oci:x"], "no kind of target"),
        (&["check", "tree:/a"], "two paths are needed"),
        (&["check", ""], "missing"),
        (&["diff", "/var/lib/x"], "is a path, not a container"),
        (&["diff", "overlay:/no/such/place"], "/no/such/place"),
        (
            &["diff", "web", "--docker-host", "tcp://10.0.0.1:2375"],
            "on that machine",
        ),
        (
            &["diff", "web", "--docker-host", "docker.sock"],
            "not an absolute path",
        ),
        (&["check", "--runtime", "lxc"], "lxc"),
        (&["check", "--layers", "magic"], "magic"),
        (
            &["check", "--reference", "none.yaml"],
            "the reference values none.yaml: there is no such file",
        ),
        (&["check", "--format", "docker"], "one container"),
        (
            &["check", "--policy", "none.yaml"],
            "there is no policy file none.yaml",
        ),
        (
            &["check", "--config", "none.yaml"],
            "there is no configuration file none.yaml",
        ),
        (&["check", "--engine", "magic"], "magic"),
        (&["check", "x", "--", "etc/passwd"], "is not absolute"),
        (&["check", "x", "--", "/a/../b"], "component"),
        (&["doctor", "--format", "ndjson"], "two forms"),
        (&["bench", "tree:/no:/such"], "/no"),
        (&["bench", "x", "--format", "ndjson"], "two forms"),
        (&["bench", "tree:/:/", "--runs", "0"], "1..=1000"),
        (
            &["bench", "tree:/:/", "--html", "no/such/directory/file"],
            "cannot write",
        ),
        (
            &["bench", "tree:/no:/such", "--keep", "/dev/null"],
            "cannot make /dev/null",
        ),
        (&["baseline"], "TARGET"),
        (&["baseline", "tree:/no:/such"], "/no"),
        (
            &["baseline", "tree:/:/", "-o", "no/such/directory/file"],
            "cannot write",
        ),
        (
            &["check", "tree:/:/", "--output", "no/such/directory/file"],
            "cannot write",
        ),
    ] {
        refused(args, &[], why);
    }
}

#[test]
fn the_environment_is_checked_like_the_command_line() {
    refused(&["check"], &[("PLIMSOLL_ENGINE", "magic")], "magic");
    refused(&["check"], &[("PLIMSOLL_LAYERS", "magic")], "magic");
    refused(&["check"], &[("PLIMSOLL_CONFIG", "none.yaml")], "none.yaml");
}

#[test]
fn names_on_stderr_are_harmless() {
    for name in [
        &b"\x1b[2J"[..],
        b"\xff\xfe",
        b"a\nb",
        "\u{202e}x".as_bytes(),
    ] {
        for target in [
            name.to_vec(),
            [b"overlay:/", name].concat(),
            [b"tree:/:/", name].concat(),
        ] {
            let output = output(&[OsStr::new("diff"), OsStr::from_bytes(&target)], &[]);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{said}");
            let line_ends = said.matches('\n').count();
            assert!(line_ends <= 2, "{said}");
            assert!(!said.contains(['\x1b', '\u{202e}']), "{said:?}");
            let shown = String::from_utf8(output.stdout).unwrap();
            assert!(!shown.contains(['\x1b', '\u{202e}']), "{shown:?}");
        }
    }
}

#[test]
fn a_file_that_does_not_make_sense_is_named_with_the_line() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "policy.yaml",
        "rules:\n- name: a\n  path: [/x]\n  action: allow\n",
    );
    write(
        "plimsoll/config.yaml",
        "# mine\nengine: auto\nformt: json\n",
    );
    write("config.yaml", "jobs: many\n");
    for (args, why) in [
        (&["check"][..], "plimsoll/config.yaml, line 3: "),
        (
            &["check", "--config", "config.yaml"],
            "config.yaml, line 1: ",
        ),
        (
            &["check", "--config", "/dev/null", "--policy", "policy.yaml"],
            "policy.yaml, line 3: ",
        ),
        (
            &["check", "--config", "/dev/null", "--policy", "."],
            "cannot read the policy",
        ),
    ] {
        let output = plimsoll(directory.path()).args(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_setting_of_the_command_line_comes_before_the_environment_and_that_before_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("plimsoll/config.yaml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(&config, "docker-host: tcp://file\n").unwrap();
    let said = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = plimsoll(directory.path());
        let output = command
            .args(args)
            .envs(env.iter().copied())
            .output()
            .unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(&["check", "none"], &[]).contains("tcp://file"));
    let variable = [("PLIMSOLL_DOCKER_HOST", "tcp://variable")];
    assert!(said(&["check", "none"], &variable).contains("tcp://variable"));
    let argument = ["check", "--docker-host", "tcp://argument", "none"];
    assert!(said(&argument, &variable).contains("tcp://argument"));
}

#[test]
fn help_version_and_what_is_generated() {
    let directory = tempfile::tempdir().unwrap();
    for args in [
        &["--help"][..],
        &["--version"],
        &["help", "diff"],
        &["completions", "bash"],
    ] {
        let output = plimsoll(directory.path()).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(
            !output.stdout.is_empty() && output.stderr.is_empty(),
            "{args:?}"
        );
    }
    let man = plimsoll(directory.path())
        .args(["man", "."])
        .output()
        .unwrap();
    assert_eq!(man.status.code(), Some(0));
    for page in [
        "plimsoll.1",
        "plimsoll-check.1",
        "plimsoll-diff.1",
        "plimsoll-demo.1",
    ] {
        assert!(directory.path().join(page).is_file(), "{page}");
    }
}
