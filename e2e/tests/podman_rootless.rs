//! Containers of a user who is not root: their marks are in other attributes, and their owners are those
//! of the user's namespace.

use std::path::{Path, PathBuf};

use plimsoll_core::model::{EngineKind, Gap, RuntimePathKind, State};
use plimsoll_e2e::brute::Differences;
use plimsoll_e2e::look::not_of_runtime;
use plimsoll_e2e::matrix::{self, Access};
use plimsoll_e2e::podman::{FUSE_OVERLAYFS, inspect, without_devices};
use plimsoll_e2e::require;
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_e2e::rootless::{Rootless, SUBORDINATE, UID};
use plimsoll_host::inspect::Sources;

const EDITS: &str = r"
    touch -r /usr/bin/tool /tmp/ref
    printf X | dd of=/usr/bin/tool bs=1 seek=100 conv=notrunc 2>/dev/null
    touch -r /tmp/ref /usr/bin/tool
    rm /tmp/ref
    chown 1:1 /etc/passwd
    rm /usr/lib/lib.so
    rm -r /home; mkdir /home; echo new > /home/file
";

fn edited() -> Differences {
    [
        ("/etc/passwd", ('C', vec!["owner"])),
        ("/home/file", ('A', vec![])),
        ("/usr/bin/tool", ('C', vec!["content"])),
        ("/usr/lib/lib.so", ('D', vec![])),
    ]
    .map(|(path, what)| (path.to_owned(), what))
    .into()
}

fn expect(sources: Sources, name: &str, state: State, edits: &Differences) {
    let (found, gaps) = inspect(sources, &[name]).expect("inspect");
    let [measurement] = &found[..] else {
        panic!("{found:?}");
    };
    let container = &measurement.container;
    assert_eq!(
        (container.state, container.user),
        (state, Some(UID)),
        "{name}"
    );
    assert_eq!(container.pid.is_some(), container.is_live(), "{name}");
    assert_eq!(measurement.engine, Some(EngineKind::Overlay), "{name}");
    assert_eq!(not_of_runtime(measurement), *edits, "{name}");
    // Without systemd and the second version of control groups a user's container has no group of its
    // own, so that its processes cannot be told.
    let mut gaps = gaps.iter().chain(&measurement.gaps);
    let is_denied = |gap: &Gap| gap.why.to_lowercase().contains("permission denied");
    assert!(
        !gaps.clone().any(is_denied),
        "{name}: {:?}",
        measurement.gaps
    );
    let unseen = gaps.find(|gap| gap.what.as_bytes() != b"processes");
    assert_eq!(unseen, None, "{name}");
}

#[test]
fn overlay() {
    states("podman-rootless", None);
}

#[test]
fn fuse_overlayfs() {
    let make = |_: &Path| FUSE_OVERLAYFS.into();
    states("podman-rootless-fuse", Some(make));
}

/// What the container deletes is marked by files.
#[test]
fn fuse_overlayfs_without_devices() {
    states("podman-rootless-fuse", Some(without_devices));
}

fn states(place: &str, program: Option<fn(&Path) -> PathBuf>) {
    require!(
        "podman",
        "runc",
        "conmon",
        "busybox",
        "fuse-overlayfs",
        "python3",
        "newuidmap",
        "setpriv",
        "unshare"
    );
    let user = Rootless::new();
    if let Some(make) = program {
        user.mount_by(&make(user.path()));
    }
    user.import("image", small_rootfs().path());
    // With other ids than the user's the image's top layer is copied, with other owners.
    for (name, options) in [
        ("plain", &[][..]),
        ("exited", &[]),
        (
            "mapped",
            &["--userns=keep-id", "--passwd=false", "--user=0"],
        ),
    ] {
        let first = ["run", "--detach", "--network=none", "--name", name];
        let command = ["image", "/bin/busybox", "sleep", "1000"];
        user.podman(&[&first[..], options, &command].concat());
        user.podman(&["exec", name, "/bin/sh", "-ec", EDITS]);
    }
    user.podman(&["stop", "--time=0", "exited"]);
    // In which states no container of a user is here, by Podman's own words.
    for (arguments, why) in [
        (&["pause", "plain"][..], "cgroup"),
        (&["container", "checkpoint", "plain"], "root"),
    ] {
        let output = user.try_podman(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(why), "{told}");
    }
    user.podman(&[
        "create",
        "--name=created",
        "--network=none",
        "image",
        "/bin/sh",
    ]);
    let edited = edited();
    // Its files keep their owners where the program maps them.
    let mapped_root = match program {
        None => SUBORDINATE,
        Some(_) => UID,
    };
    for (name, state, edits, root) in [
        ("plain", State::Running, &edited, UID),
        ("mapped", State::Running, &edited, mapped_root),
        ("exited", State::Exited, &edited, UID),
        ("created", State::Created, &Differences::new(), UID),
    ] {
        expect(user.live(), name, state, edits);
        let at_rest = match state {
            State::Running => State::Exited,
            other => other,
        };
        expect(user.disk(), name, at_rest, edits);
        matrix::told_in(place, state, Access::Live);
        matrix::told_in(place, state, Access::Offline);
        if state != State::Running {
            continue;
        }
        let (found, _) = inspect(user.live(), &[name]).expect("inspect");
        let mut made = found[0].container.runtime_paths.iter();
        let of_root = |kind: &RuntimePathKind| matches!(kind, RuntimePathKind::OwnedBy { uid, .. } if *uid == root);
        assert!(made.any(|path| of_root(&path.kind)), "{name}");
    }
}
