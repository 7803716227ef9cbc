//! What lies between image and container: what Docker itself makes there is told apart from what a
//! container or somebody on the host does; and images of very many layers.

use std::path::Path;
use std::process::Command;

use plimsoll_core::model::EngineKind;
use plimsoll_e2e::brute::Differences;
use plimsoll_e2e::command::shell;
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::look::{inspect, inspect_one, inspect_with, not_of_runtime};
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_e2e::{program, require};
use plimsoll_host::inspect::{Options, Sources};

const SLEEP: [&str; 2] = ["sleep", "1000"];

fn verdict(daemon: &Dockerd, names: &[&str], more: &[&str]) -> (Option<i32>, String) {
    let output = program::command()
        .args(["check", "--format", "json", "--docker-host"])
        .arg(daemon.socket())
        .args(more)
        .args(names)
        .output()
        .expect("plimsoll");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn changes(path: &str, kind: char, aspects: &[&'static str]) -> Differences {
    [(path.to_owned(), (kind, aspects.to_vec()))].into()
}

/// Images that have something of their own where Docker puts its init layer, and links where it makes
/// the targets of mounts.
fn odd_rootfs() -> tempfile::TempDir {
    let dir = small_rootfs();
    shell(&format!(
        "cd {}
         mkdir -p run usr/sbin dev proc
         echo 127.0.0.1 own > etc/hosts
         ln -s /nowhere etc/resolv.conf
         ln -s /elsewhere etc/mtab
         echo own > etc/hostname
         echo own > .dockerenv
         chmod 700 proc
         rm -r var; mkdir var; ln -s ../run var/run; ln -s usr/sbin sbin",
        dir.path().display()
    ));
    dir
}

fn fresh(driver: Driver) {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.btrfs"
    );
    let daemon = Dockerd::start(driver);
    daemon.import("plain", small_rootfs().path());
    daemon.import("odd", odd_rootfs().path());
    daemon.build(
        "deep",
        "FROM odd\nWORKDIR /not/in/image\nVOLUME /volume/of/image",
    );
    let scratch = daemon.scratch();
    std::fs::write(scratch.join("file"), "host").expect("file");
    let file = |target: &str| format!("{}:{target}", scratch.join("file").display());
    let dir = format!("{}:/bound/dir:ro", scratch.display());
    let mount = format!(
        "type=bind,src={},dst=/mounted/file",
        scratch.join("file").display()
    );
    let (in_run, in_etc, in_x) = (
        file("/var/run/own.sock"),
        file("/etc/bound"),
        file("/x/y/z"),
    );
    let options = [
        "-v",
        &in_run,
        "-v",
        &in_etc,
        "-v",
        &in_x,
        "-v",
        &dir,
        "-v",
        "/anonymous/volume",
        "--mount",
        &mount,
        "--mount",
        "type=volume,src=named,dst=/named/volume",
        "--mount",
        "type=tmpfs,dst=/mounted/tmpfs",
        "--tmpfs",
        "/tmp/fs:size=1m",
        "--init",
        "--user",
        "1000:1000",
    ];
    for image in ["plain", "odd", "deep"] {
        daemon.create(&format!("{image}-created"), &options, image, &SLEEP);
        daemon.run(&format!("{image}-run"), &[], image, &SLEEP);
        daemon.run(&format!("{image}-mounts"), &options, image, &SLEEP);
        daemon.run(
            &format!("{image}-workdir"),
            &["-w", "/var/run/app/dir"],
            image,
            &SLEEP,
        );
        daemon.run(
            &format!("{image}-readonly"),
            &["--read-only", "-v", &in_run],
            image,
            &SLEEP,
        );
    }
    // The targets were really made: there is something to tell apart.
    let upper = daemon.layer(&daemon.id("deep-mounts"), "");
    for made in [
        "run/own.sock",
        "etc/bound",
        "x/y/z",
        "bound/dir",
        "usr/sbin/docker-init",
    ] {
        assert!(
            upper.join(made).symlink_metadata().is_ok(),
            "{made} is not there"
        );
    }
    let (all, gaps) = inspect(daemon.live(), &[]).expect("inspect");
    assert_eq!((all.len(), gaps), (15, vec![]));
    for measurement in &all {
        let name = measurement.container.display_name();
        assert_eq!(measurement.gaps, [], "{name}");
        assert_eq!(not_of_runtime(measurement), Differences::new(), "{name}");
        if name.ends_with("-run") && !name.starts_with("deep") {
            assert_eq!(measurement.changes, [], "{name}");
        }
    }
    let (code, told) = verdict(&daemon, &[], &[]);
    assert_eq!(code, Some(0), "{told}");

    // In another form than Docker's own it counts.
    daemon.exec("deep-run", "echo x > /not/in/image/x; chmod 777 /not/in");
    let mut expected = changes("/not/in/image/x", 'A', &[]);
    expected.extend(changes("/not/in", 'C', &["mode"]));
    let measurement = inspect_one(daemon.live(), "deep-run");
    assert_eq!(not_of_runtime(&measurement), expected);
    let (code, told) = verdict(&daemon, &["deep-run"], &[]);
    assert_eq!(code, Some(1), "{told}");
}

#[test]
fn fresh_containers_on_overlay2() {
    fresh(Driver::Overlay2);
}

#[test]
fn fresh_containers_on_btrfs() {
    fresh(Driver::Btrfs);
}

/// Somebody on the host plants things in the layer that Docker put over the image.
#[test]
fn tampering_with_the_init_layer_on_overlay2() {
    require!("dockerd", "containerd", "docker", "busybox", "setpriv");
    let daemon = Dockerd::start(Driver::Overlay2);
    daemon.import("image", small_rootfs().path());
    daemon.create_many("as-made-", 4, "image");
    for (n, (script, path, what)) in [
        ("echo evil > etc/evil", "/etc/evil", ('A', vec![])),
        (
            "echo 6.6.6.6 registry > etc/hosts",
            "/etc/hosts",
            ('A', vec![]),
        ),
        (
            "mkdir -p usr/bin; echo x > usr/bin/tool",
            "/usr/bin/tool",
            ('C', vec!["content"]),
        ),
        (
            "mkdir usr; mkdir usr/lib; mknod usr/lib/lib.so c 0 0",
            "/usr/lib/lib.so",
            ('D', vec![]),
        ),
        (
            "rm etc/mtab; ln -s /proc/self/environ etc/mtab",
            "/etc/mtab",
            ('A', vec![]),
        ),
        ("chmod 4755 .dockerenv", "/.dockerenv", ('A', vec![])),
        ("chown 5 etc/hostname", "/etc/hostname", ('A', vec![])),
        ("ln etc/hosts dev/hosts", "/etc/hosts", ('A', vec![])),
        ("chattr +i dev/console", "/dev/console", ('A', vec![])),
        (
            "setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= .dockerenv",
            "/.dockerenv",
            ('A', vec![]),
        ),
        (
            "setfattr -h -n trusted.x -v y etc/mtab",
            "/etc/mtab",
            ('A', vec![]),
        ),
        (
            "setfattr -n trusted.overlay.opaque -v y etc",
            "/etc/passwd",
            ('D', vec![]),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("c{n}");
        let id = daemon.create(&name, &[], "image", &SLEEP);
        assert_eq!(inspect_one(daemon.live(), &name).changes, [], "{script}");
        let init = daemon.layer(&id, "-init");
        shell(&format!("cd {}; {script}", init.display()));
        let found = not_of_runtime(&inspect_one(daemon.live(), &name));
        let got = found
            .get(path)
            .unwrap_or_else(|| panic!("{script}: {found:?}"));
        assert_eq!(got.0, what.0, "{script}");
        if path == "/usr/bin/tool" {
            assert!(got.1.contains(&what.1[0]), "{script}: {got:?}");
        }
    }
    told_together_as_alone(&daemon);
}

/// In a run over all of them every container is told as by itself, after others of which nothing is told.
fn told_together_as_alone(daemon: &Dockerd) {
    let (all, gaps) = inspect(daemon.live(), &[]).expect("inspect");
    assert_eq!(gaps, []);
    assert!(all.iter().take(4).all(|one| one.changes.is_empty()));
    assert!(all.iter().skip(4).all(|one| !one.changes.is_empty()));
    for together in &all {
        let name = together.container.name.as_deref().expect("name");
        let (alone, gaps) = inspect(daemon.live(), &[name]).expect("inspect");
        assert_eq!(gaps, []);
        assert_eq!(together.changes, alone[0].changes, "{name}");
        assert_eq!(together.gaps, alone[0].gaps, "{name}");
    }
}

/// On Btrfs a container is a snapshot of that layer: what is planted before the snapshot is in both.
#[test]
fn tampering_with_the_init_layer_on_btrfs() {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.btrfs"
    );
    let daemon = Dockerd::start(Driver::Btrfs);
    daemon.import("image", small_rootfs().path());
    daemon.create_many("as-made-", 4, "image");
    for (n, (script, path, kind)) in [
        ("echo evil > etc/evil", "/etc/evil", 'A'),
        ("echo 6.6.6.6 registry > etc/hosts", "/etc/hosts", 'A'),
        ("echo x > usr/bin/tool", "/usr/bin/tool", 'C'),
        ("rm usr/lib/lib.so", "/usr/lib/lib.so", 'D'),
        (
            "rm etc/mtab; ln -s /proc/self/environ etc/mtab",
            "/etc/mtab",
            'A',
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("c{n}");
        let id = daemon.create(&name, &[], "image", &SLEEP);
        assert_eq!(inspect_one(daemon.live(), &name).changes, [], "{script}");
        let init = daemon.layer(&id, "-init");
        let container = daemon.layer(&id, "");
        shell(&format!(
            "cd {}; {script}; btrfs subvolume delete {container} >/dev/null; btrfs subvolume snapshot . {container} >/dev/null",
            init.display(),
            container = container.display(),
        ));
        let (found, gaps) = inspect(daemon.live(), &[&name]).expect("inspect");
        let told = not_of_runtime(&found[0]);
        assert_eq!(gaps, [], "{script}");
        assert_eq!(
            told.get(path).map(|what| what.0),
            Some(kind),
            "{script}: {told:?}"
        );
    }
    told_together_as_alone(&daemon);
}

/// The same where the directories that Docker makes entries in are so large that most of what is in them is
/// passed over in all containers but the first, and where Docker takes something of the image away.
#[test]
fn tampering_with_large_directories_of_the_init_layer_on_btrfs() {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "setfattr",
        "mkfs.btrfs"
    );
    let daemon = Dockerd::start(Driver::Btrfs);
    daemon.import("base", small_rootfs().path());
    let digits = "0 1 2 3 4 5 6 7 8 9";
    let fill =
        format!("for a in {digits}; do for b in {digits}; do echo > /etc/f0$a$b; done; done");
    // What Docker puts an empty file in the place of, in the middle.
    daemon.build(
        "image",
        &format!("FROM base\nCOPY Dockerfile /etc/hosts\nRUN {fill}\n"),
    );
    daemon.create_many("as-made-", 4, "image");
    for (n, (script, path, kind)) in [
        ("rm etc/f050", "/etc/f050", 'D'),
        ("mv etc/f050 etc/g050", "/etc/f050", 'D'),
        ("rm etc/f050; echo > etc/g050", "/etc/f050", 'D'),
        // The last one that was inherited, after which the kernel would go on counting.
        ("mv etc/f099 .; sync; mv f099 etc/", "/etc/f050", 'D'),
        ("rm etc/f099; echo x > etc/f099", "/etc/f099", 'C'),
        ("rm etc/f099; sync; echo > etc/g099", "/etc/g099", 'A'),
        ("echo x > etc/f050", "/etc/f050", 'C'),
        ("chmod 4755 etc/f050", "/etc/f050", 'C'),
        ("chmod 700 etc", "/etc", 'C'),
        ("setfattr -n user.x -v y etc", "/etc", 'C'),
        ("chmod 4755 .dockerenv", "/.dockerenv", 'A'),
        ("chown 5 etc/hostname", "/etc/hostname", 'A'),
        ("ln etc/hosts dev/hosts", "/dev/hosts", 'A'),
        ("ln etc/f050 dev/f050", "/dev/f050", 'A'),
        ("chattr +i dev/console", "/dev/console", 'A'),
        ("setfattr -n user.x -v y .dockerenv", "/.dockerenv", 'A'),
        ("setfattr -n user.x -v y dev/shm", "/dev/shm", 'A'),
        (
            "mkdir etc/new; mv etc/hosts etc/new/",
            "/etc/new/hosts",
            'A',
        ),
        (
            "btrfs subvolume create etc/nested > /dev/null",
            "/etc/nested",
            'T',
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("c{n:02}");
        let id = daemon.create(&name, &[], "image", &SLEEP);
        let init = daemon.layer(&id, "-init");
        let container = daemon.layer(&id, "");
        // One that is as it was by name has to be told from others: with it another one goes.
        let script = match path == "/etc/f050" && script.contains("f099") {
            true => format!("{script}; rm etc/f050"),
            false => script.to_owned(),
        };
        shell(&format!(
            "cd {}; {script}; btrfs subvolume delete {container} >/dev/null; btrfs subvolume snapshot . {container} >/dev/null",
            init.display(),
            container = container.display(),
        ));
        let (found, gaps) = inspect(daemon.live(), &[&name]).expect("inspect");
        let told = not_of_runtime(&found[0]);
        assert_eq!(gaps, [], "{script}");
        assert_eq!(
            told.get(path).map(|what| what.0),
            Some(kind),
            "{script}: {told:?}"
        );
    }
    told_together_as_alone(&daemon);
}

/// More lower layers than fit in one page of mount options by their full names.
#[test]
fn seventy_layers() {
    require!("dockerd", "containerd", "docker", "busybox", "setpriv");
    let daemon = Dockerd::start(Driver::Overlay2);
    let rootfs = small_rootfs();
    daemon.import("base", rootfs.path());
    let mut dockerfile = "FROM base\n".to_owned();
    for n in 0..70 {
        // A COPY makes a layer and starts no container.
        dockerfile.push_str(&format!("COPY Dockerfile /layers/{n}\n"));
    }
    daemon.build("tall", &dockerfile);
    let id = daemon.run("tall", &[], "tall", &SLEEP);
    let lower = daemon.layer(&id, "").with_file_name("lower");
    let lower = std::fs::read_to_string(lower).expect("lower");
    assert_eq!(lower.split(':').count(), 72);
    assert_eq!(inspect_one(daemon.live(), "tall").changes, []);
    daemon.exec(
        "tall",
        "echo x > /layers/3; rm /layers/69; chmod 700 /usr/bin/tool",
    );
    let mut expected = changes("/layers/3", 'C', &["content"]);
    expected.extend(changes("/layers/69", 'D', &[]));
    expected.extend(changes("/usr/bin/tool", 'C', &["mode"]));
    for sources in [daemon.live(), daemon.disk()] {
        let measurement = inspect_one(sources, "tall");
        assert_eq!(not_of_runtime(&measurement), expected);
        let origin = |path: &str| {
            let change = measurement
                .changes
                .iter()
                .find(|c| c.path.to_string() == path);
            change
                .and_then(|c| c.origin.clone())
                .map(|id| id.to_string())
        };
        let layers: Vec<_> = measurement
            .container
            .image
            .layers
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(origin("/layers/3").as_ref(), layers.get(4));
        assert_eq!(origin("/usr/bin/tool").as_ref(), layers.first());
    }
}

/// A driver without metadata to compare: refused with a sentence, compared by the digest engine.
#[test]
fn vfs_needs_the_digest_engine() {
    require!("dockerd", "containerd", "docker", "busybox", "setpriv");
    let daemon = Dockerd::start(Driver::Vfs);
    daemon.import("image", odd_rootfs().path());
    daemon.run("web", &["-w", "/var/run/app"], "image", &SLEEP);
    let (code, told) = verdict(&daemon, &["web"], &[]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("use --engine digest"), "{told}");
    assert!(told.contains("\"verdict\": \"unknown\""), "{told}");
    let (code, told) = verdict(&daemon, &["web"], &["--engine", "digest"]);
    assert_eq!(code, Some(0), "{told}");
    daemon.exec("web", "touch -r /etc/shadow /var/run/app/r; echo sHadow > /etc/shadow; touch -r /var/run/app/r /etc/shadow; rm /var/run/app/r");
    let (code, told) = verdict(&daemon, &["web"], &["--engine", "digest"]);
    assert_eq!(code, Some(1), "{told}");
    let options = Options {
        engine: Some(EngineKind::Digest),
        ..Options::default()
    };
    let (found, _) = inspect_with(daemon.disk(), &["web"], options).expect("inspect");
    assert_eq!(
        not_of_runtime(&found[0]),
        changes("/etc/shadow", 'C', &["content"])
    );
}

/// The digest engine on drivers that have one of their own says the same.
#[test]
fn the_digest_engine_agrees() {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setfattr",
        "setpriv",
        "mkfs.btrfs"
    );
    for driver in [Driver::Overlay2, Driver::Btrfs] {
        let daemon = Dockerd::start(driver);
        daemon.import("image", odd_rootfs().path());
        daemon.run("web", &["-w", "/made"], "image", &SLEEP);
        daemon.exec(
            "web",
            "echo x >> /etc/passwd; rm /usr/lib/lib.so; mkdir /home/x; touch /home/x/y",
        );
        let options = Options {
            engine: Some(EngineKind::Digest),
            ..Options::default()
        };
        let told = || {
            let (found, _) =
                inspect_with(daemon.live(), &["web"], options.clone()).expect("inspect");
            assert_eq!(found[0].gaps, []);
            let told = not_of_runtime(&found[0]);
            let web = inspect_one(daemon.live(), "web");
            assert_eq!(told, not_of_runtime(&web), "{driver:?}");
            (told.contains_key("/made"), web.container.pid)
        };
        let (is_told, pid) = told();
        assert!(!is_told);
        let root = format!("/proc/{}/root", pid.expect("its process"));
        // A host that appraises files gives it to each that is written.
        shell(&format!("setfattr -n security.ima -v 0x01 {root}/made"));
        assert!(!told().0, "{driver:?}");
        // Docker makes the directory, but gives it no attributes.
        shell(&format!("setfattr -n user.x -v y {root}/made"));
        assert!(told().0, "{driver:?}");
    }
}

/// A disk of another machine: no socket, no process, everything beneath its root.
#[test]
fn a_mounted_disk() {
    require!("dockerd", "containerd", "docker", "busybox", "setpriv");
    let mut daemon = Dockerd::start(Driver::Overlay2);
    daemon.import("image", small_rootfs().path());
    daemon.run("web", &[], "image", &SLEEP);
    daemon.exec("web", "rm /etc/shadow");
    daemon.kill();
    let disk = daemon.scratch();
    shell(&format!(
        "mkdir -p {}/etc/docker {0}/srv/docker",
        disk.display()
    ));
    std::fs::write(
        disk.join("etc/docker/daemon.json"),
        r#"{"data-root": "/srv/docker"}"#,
    )
    .expect("daemon.json");
    let target = disk.join("srv/docker");
    shell(&format!(
        "mount --bind {} {}",
        daemon.data_root().display(),
        target.display()
    ));
    let sources = Sources {
        root: Some(disk),
        ..Sources::default()
    };
    let measurement = inspect_one(sources, "web");
    shell(&format!("umount {}", target.display()));
    assert_eq!(measurement.container.pid, None);
    assert_eq!(
        not_of_runtime(&measurement),
        changes("/etc/shadow", 'D', &[])
    );
}

/// Without the privileges to look nothing is ever called intact.
#[test]
fn without_privileges() {
    require!("dockerd", "containerd", "docker", "busybox", "setpriv");
    let daemon = Dockerd::start(Driver::Overlay2);
    daemon.import("image", small_rootfs().path());
    daemon.create("web", &[], "image", &SLEEP);
    // Somewhere that anybody may run it from.
    let place = tempfile::tempdir().expect("directory");
    shell(&format!(
        "chmod 755 {0}; cp {1} {0}/plimsoll",
        place.path().display(),
        program::path().display()
    ));
    let root = daemon.data_root();
    // Open every door that an administrator might have opened.
    let mut above = root.parent();
    while let Some(dir) = above.filter(|dir| *dir != Path::new("/tmp")) {
        shell(&format!("chmod 755 {}", dir.display()));
        above = dir.parent();
    }
    shell(&format!(
        "chmod 755 {0}; chmod 666 {1}; chmod 755 {2}",
        root.display(),
        daemon.socket().display(),
        daemon.socket().parent().expect("parent").display()
    ));
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(place.path().join("plimsoll"))
            .arg("check")
            .args(arguments)
            .env("PLIMSOLL_CONFIG", "/dev/null")
            .output()
            .expect("setpriv");
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(!told.contains("intact"), "{told}");
        told
    };
    let told = run(&["--data-root".as_ref(), root.as_os_str()]);
    assert!(told.contains("run as root"), "{told}");
    let told = run(&["--docker-host".as_ref(), daemon.socket().as_os_str()]);
    assert!(told.contains("run as root"), "{told}");
    shell(&format!("chmod -R a+rX {}", root.display()));
    let told = run(&["--data-root".as_ref(), root.as_os_str()]);
    assert!(told.contains("run as root"), "{told}");
}
