//! The demo finds what it plants, and leaves nothing behind: not even when it is interrupted.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use plimsoll_e2e::{program, require};

/// What the demo could leave behind.
fn traces() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut traces: Vec<String> = mounts
        .lines()
        .filter(|line| line.contains("plimsoll-demo-"))
        .map(str::to_owned)
        .collect();
    for device in fs::read_dir("/sys/block").unwrap() {
        let file = device.unwrap().path().join("loop/backing_file");
        let backing = fs::read_to_string(file).unwrap_or_default();
        if backing.contains("plimsoll-demo-") {
            traces.push(backing);
        }
    }
    traces.extend(
        fs::read_dir(std::env::temp_dir())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().display().to_string())
            .filter(|name| name.starts_with("plimsoll-demo-")),
    );
    traces
}

/// One test, for two would see the traces of each other.
#[test]
fn it_finds_what_it_plants_and_leaves_nothing_behind() {
    require!("mkfs.btrfs", "btrfs", "losetup");
    let before = traces();
    let output = program::command().arg("demo").output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    assert!(out.contains("Btrfs"), "{out}");
    assert!(out.contains("missed by timestamps"), "{out}");
    assert_eq!(traces(), before);

    // At several moments, of which some fall between mounts.
    for milliseconds in [5, 20, 50, 100, 200, 400] {
        let child = program::command()
            .arg("demo")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        // Dead before it could listen, interrupted, or through with it.
        let expected = matches!(output.status.code(), None | Some(0 | 2));
        assert!(expected, "{milliseconds} ms: {:?} {err}", output.status);
        assert_eq!(traces(), before, "{milliseconds} ms: {err}");
    }
}
