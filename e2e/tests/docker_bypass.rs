//! What covers or bypasses a rootfs, in real containers: mounts of every kind, and code that is in no
//! file of the image. Each trick leaves the layers as they were, or as good as.

use std::path::Path;
use std::time::{Duration, Instant};

use plimsoll_core::Verdict;
use plimsoll_core::model::{CodeOrigin, FileType, Gap, Measurement, MountOrigin, Timestamp};
use plimsoll_core::policy::{Policy, appraise};
use plimsoll_e2e::command::run;
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::look::{inspect, inspect_one};
use plimsoll_e2e::require;
use plimsoll_e2e::rootfs::small_rootfs;

const NOW: Timestamp = Timestamp {
    seconds: 1_800_000_000,
    nanoseconds: 0,
};

/// A daemon with an image that has the program of this test.
fn daemon(driver: Driver) -> Dockerd {
    let rootfs = small_rootfs();
    run(
        "gcc",
        &[
            "-static",
            "-pthread",
            "-O1",
            "-o",
            rootfs.path().join("bin/bypass").to_str().expect("UTF-8"),
            concat!(env!("CARGO_MANIFEST_DIR"), "/programs/bypass.c"),
        ],
    );
    let daemon = Dockerd::start(driver);
    daemon.import("image", rootfs.path());
    daemon
}

fn verdict(measurement: &Measurement, policy: &str) -> Verdict {
    let policy = Policy::parse(policy).expect("policy");
    appraise(measurement, &policy, NOW).verdict
}

/// Returns path and origin of the mounts that nobody accounts for.
fn foreign(measurement: &Measurement) -> Vec<String> {
    let mounts = measurement.mounts.iter();
    mounts
        .filter(|mount| mount.origin == MountOrigin::Foreign)
        .map(|mount| format!("{} {}", mount.path, mount.fs_type))
        .collect()
}

fn hidden(measurement: &Measurement) -> Vec<(String, CodeOrigin, bool)> {
    let code = measurement.code.iter();
    code.filter(|code| code.origin.is_hidden())
        .map(|code| (code.path.to_string(), code.origin, code.program))
        .collect()
}

/// Looks until a process that was just started has done what it is to do.
fn until(daemon: &Dockerd, name: &str, done: impl Fn(&Measurement) -> bool) -> Measurement {
    let start = Instant::now();
    loop {
        let measurement = inspect_one(daemon.disk(), name);
        if done(&measurement) || start.elapsed() > Duration::from_secs(20) {
            return measurement;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What a process needs to mount, without every capability: this may not be ours to give.
const MAY_MOUNT: [&str; 3] = [
    "--cap-add=SYS_ADMIN",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
];

const SLEEP: [&str; 2] = ["sleep", "1000"];

#[test]
fn what_runtime_and_configuration_mount_is_accounted_for() {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "gcc",
        "mkfs.btrfs"
    );
    for driver in [Driver::Overlay2, Driver::Btrfs] {
        let daemon = daemon(driver);
        let host = daemon.scratch();
        std::fs::write(host.join("file"), "host").expect("file");
        let bind = format!("{}:/usr/lib", host.display());
        let file = format!("{}:/etc/passwd:ro", host.join("file").display());
        let options = [
            "-v",
            &bind,
            "-v",
            &file,
            "-v",
            "/anonymous",
            "-v",
            "named:/var/empty",
            "--tmpfs",
            "/scratch",
            "--mount",
            "type=tmpfs,dst=/more",
            "--init",
            "--tty",
        ];
        daemon.run("declared", &options, "image", &SLEEP);
        daemon.run("plain", &[], "image", &SLEEP);
        daemon.run("privileged", &MAY_MOUNT, "image", &SLEEP);
        let declared = inspect_one(daemon.disk(), "declared");
        let paths: Vec<String> = declared
            .mounts
            .iter()
            .filter(|mount| mount.origin == MountOrigin::Declared)
            .map(|mount| mount.path.to_string())
            .collect();
        assert_eq!(
            paths,
            [
                "/anonymous",
                "/etc/passwd",
                "/more",
                "/scratch",
                "/usr/lib",
                "/var/empty"
            ]
        );
        for name in ["declared", "plain", "privileged"] {
            let measurement = inspect_one(daemon.disk(), name);
            assert_eq!(foreign(&measurement), [""; 0], "{driver:?} {name}");
            assert_eq!(measurement.code, [], "{driver:?} {name}");
            let runtime = |path: &str| {
                measurement.mounts.iter().any(|m| {
                    m.path.as_bytes() == path.as_bytes() && m.origin == MountOrigin::Runtime
                })
            };
            assert!(
                runtime("/proc") && runtime("/etc/hosts") && runtime("/dev/shm"),
                "{name}"
            );
            // What Docker makes for the mounts is allowed, the mounts are no deviation.
            assert_ne!(verdict(&measurement, "{}"), Verdict::Violated, "{name}");
        }
        assert_eq!(
            verdict(&inspect_one(daemon.disk(), "plain"), "{}"),
            Verdict::Intact
        );
        daemon.docker(&["pause", "plain"]);
        assert!(!inspect_one(daemon.disk(), "plain").mounts.is_empty());
        daemon.docker(&["unpause", "plain"]);
        daemon.docker(&["stop", "--time=0", "plain"]);
        assert_eq!(inspect_one(daemon.disk(), "plain").mounts, []);
    }
}

#[test]
fn mounts_that_nobody_accounts_for() {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "gcc",
        "mkfs.btrfs"
    );
    for driver in [Driver::Overlay2, Driver::Btrfs] {
        let daemon = daemon(driver);
        let privileged = [&MAY_MOUNT[..], &["-v", "volume:/var/empty"]].concat();
        let expect = |name: &str, script: &str, expected: &[&str]| {
            daemon.run(name, &privileged, "image", &SLEEP);
            // Detached: some of the scripts stay.
            daemon.docker(&["exec", "-d", name, "sh", "-euc", script]);
            let found = until(&daemon, name, |m| foreign(m).len() >= expected.len());
            assert_eq!(foreign(&found), expected, "{driver:?} {name}");
            assert_eq!(
                verdict(&found, "{}"),
                Verdict::Violated,
                "{driver:?} {name}"
            );
            let allowed = verdict(&found, "mounts:\n  allow: ['/**']");
            assert_eq!(allowed, Verdict::Allowed, "{driver:?} {name}");
            found
        };
        expect("tmpfs", "mount -t tmpfs none /usr/bin", &["/usr/bin tmpfs"]);
        expect(
            "bind",
            "mount --bind /etc/shadow /etc/passwd",
            &[match driver {
                Driver::Btrfs => "/etc/passwd btrfs",
                _ => "/etc/passwd overlay",
            }],
        );
        // A mount namespace of its own, of one process and of one thread.
        expect(
            "unshared",
            "unshare -m sh -c 'mount -t tmpfs none /usr/lib; sleep 1000'",
            &["/usr/lib tmpfs"],
        );
        expect("thread", "bypass thread /usr/bin", &["/usr/bin tmpfs"]);
        // Over a declared volume, and over what the runtime has mounted.
        expect(
            "stacked",
            "mount -t tmpfs none /var/empty; mount -t tmpfs none /etc",
            &["/etc tmpfs", "/var/empty tmpfs"],
        );
        // Over all of it: what enters from outside runs on that.
        daemon.run("covered", &privileged, "image", &SLEEP);
        daemon.docker(&["exec", "covered", "mount", "-t", "tmpfs", "none", "/"]);
        let (found, _) = inspect(daemon.disk(), &["covered"]).expect("inspect");
        let found = &found[0];
        let of_type = |gap: &Gap| gap.why.contains("runs on a file system of type tmpfs");
        assert!(
            found.gaps.iter().any(of_type),
            "{driver:?}: {:?}",
            found.gaps
        );
        assert!(
            foreign(found).iter().any(|mount| mount.starts_with("/ ")),
            "{driver:?}: {:?}",
            foreign(found)
        );
        // Another root, which the container's own stands beneath.
        daemon.run("pivoted", &privileged, "image", &SLEEP);
        let script = "mount -t tmpfs none /home; mkdir /home/bin /home/old; cp /bin/busybox /home/bin; \
                      cd /home; pivot_root . old; /bin/busybox sleep 1000";
        daemon.docker(&["exec", "-d", "pivoted", "unshare", "-m", "sh", "-c", script]);
        let is_there = |m: &Measurement| foreign(m).contains(&"/ tmpfs".to_owned());
        let found = until(&daemon, "pivoted", is_there);
        assert!(is_there(&found), "{driver:?}: {:?}", foreign(&found));
    }
}

#[test]
fn code_that_is_in_no_file_of_the_image() {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "gcc",
        "mkfs.btrfs"
    );
    for driver in [Driver::Overlay2, Driver::Btrfs] {
        let daemon = daemon(driver);
        let expect = |name: &str, script: &str, expected: (&str, CodeOrigin, bool)| {
            daemon.run(
                name,
                &[&MAY_MOUNT[..], &["-v", "volume:/var/empty"]].concat(),
                "image",
                &SLEEP,
            );
            daemon.docker(&["exec", "-d", name, "sh", "-euc", script]);
            let (path, origin, program) = expected;
            let is_it = |code: &plimsoll_core::model::Code| {
                code.path.as_bytes() == path.as_bytes()
                    && (code.origin, code.program) == (origin, program)
            };
            let found = until(&daemon, name, |m| m.code.iter().any(is_it));
            assert!(
                found.code.iter().any(is_it),
                "{driver:?} {name}: {:?}",
                found.code
            );
            if origin.is_hidden() {
                assert_eq!(hidden(&found).len(), 1, "{:?}", found.code);
                assert_eq!(
                    verdict(&found, "{}"),
                    Verdict::Violated,
                    "{driver:?} {name}"
                );
                let policy = "rules:\n- {name: all, paths: ['/**'], action: allow}\n";
                assert_eq!(
                    verdict(&found, policy),
                    Verdict::Violated,
                    "{driver:?} {name}"
                );
                let policy = format!("{policy}processes:\n  allow: ['/**']\n");
                assert_eq!(
                    verdict(&found, &policy),
                    Verdict::Allowed,
                    "{driver:?} {name}"
                );
            }
            found
        };
        let memfd = expect(
            "memfd",
            "bypass memfd x",
            ("/memfd:x", CodeOrigin::Memfd, true),
        );
        assert_eq!(memfd.changes, []);
        // Under the name of the runtime's own program, which is there for a moment only.
        let name = "runc_cloned:/proc/self/exe";
        expect(
            "runc",
            &format!("bypass memfd {name}"),
            (&format!("/memfd:{name}"), CodeOrigin::Memfd, true),
        );
        expect(
            "library",
            "bypass library l",
            ("/memfd:l", CodeOrigin::Memfd, false),
        );
        expect(
            "deleted",
            "cp /bin/busybox /tmp/sleep; /tmp/sleep 1000 & sleep 1; rm /tmp/sleep; wait",
            ("/tmp/sleep", CodeOrigin::Deleted, true),
        );
        expect(
            "detached",
            "cp /bin/busybox /var/empty/tool; bypass detached /var/empty",
            ("/tool", CodeOrigin::Detached, true),
        );
        let changed = expect(
            "changed",
            "cp /bin/busybox /home/sleep; exec /home/sleep 1000",
            ("/home/sleep", CodeOrigin::Changed, true),
        );
        assert_eq!(changed.changes.len(), 1);
        expect(
            "scratch",
            "cp /bin/busybox /dev/sleep; exec /dev/sleep 1000",
            ("/dev/sleep", CodeOrigin::Scratch, true),
        );
        expect(
            "volume",
            "cp /bin/busybox /var/empty/sleep; exec /var/empty/sleep 1000",
            ("/var/empty/sleep", CodeOrigin::Volume, true),
        );
    }
}

/// The runtime itself runs from memory or from the host on its way into a container.
#[test]
fn a_runtime_that_enters_is_no_finding() {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "gcc",
        "mkfs.btrfs"
    );
    let daemon = daemon(Driver::Overlay2);
    daemon.run("busy", &[], "image", &SLEEP);
    std::thread::scope(|scope| {
        let entering = scope.spawn(|| {
            for _ in 0..12 {
                daemon.docker(&["exec", "busy", "true"]);
            }
        });
        while !entering.is_finished() {
            let measurement = inspect_one(daemon.disk(), "busy");
            assert_eq!(hidden(&measurement), []);
            assert_eq!(foreign(&measurement), [""; 0]);
        }
        entering.join().expect("exec");
    });
}

#[test]
fn a_subvolume_over_an_image_path() {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "gcc",
        "mkfs.btrfs"
    );
    let daemon = daemon(Driver::Btrfs);
    daemon.run("nested", &MAY_MOUNT, "image", &SLEEP);
    daemon.exec(
        "nested",
        "mv /usr/lib /usr/kept; bypass subvolume /usr/lib; cp /usr/kept/lib.so /usr/lib; echo evil > /usr/lib/evil",
    );
    let measurement = inspect_one(daemon.disk(), "nested");
    let told: Vec<String> = measurement
        .changes
        .iter()
        .filter(|change| change.path.as_bytes().starts_with(b"/usr/lib"))
        .map(|change| {
            let kind = change.after().map(|after| after.file_type);
            format!("{} {} {kind:?}", change.kind.letter(), change.path)
        })
        .collect();
    assert!(
        told.contains(&format!("T /usr/lib {:?}", Some(FileType::Subvolume)))
            && told.contains(&format!("A /usr/lib/evil {:?}", Some(FileType::File))),
        "{told:?}"
    );
    assert!(Path::new(&daemon.data_root()).exists());
}
