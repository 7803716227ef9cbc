//! Several Docker daemons on one host, daemons that hang, and hundreds of containers.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use plimsoll_core::model::{EngineKind, RuntimeKind, State};
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::look::{inspect, inspect_one, not_of_runtime};
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_e2e::{program, require};
use plimsoll_host::inspect::{Options, Request, Sources, Target};
use rustix::process::Signal;
use serde_json::Value;

fn run(arguments: &[&str]) -> Output {
    program::command().args(arguments).output().unwrap()
}

/// Returns what is told of containers with names that begin so: there may be others on this machine.
fn told(output: &Output, prefix: &str) -> BTreeMap<String, Value> {
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let mut found = BTreeMap::new();
    for container in document["containers"].as_array().unwrap() {
        let Some(name) = container["name"]
            .as_str()
            .filter(|name| name.starts_with(prefix))
        else {
            continue;
        };
        let twice = found.insert(name.to_owned(), container.clone());
        assert_eq!(twice, None, "{name} is told twice");
    }
    found
}

#[test]
fn two_daemons_of_which_one_hangs() {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.btrfs"
    );
    let daemons = [Driver::Overlay2, Driver::Btrfs].map(Dockerd::start);
    let prefix = format!("several-{}-", std::process::id());
    let name = |of: &str| format!("{prefix}{of}");
    for (daemon, which) in daemons.iter().zip(["a", "b"]) {
        daemon.import("image", small_rootfs().path());
        daemon.run(
            &name(&format!("{which}-runs")),
            &[],
            "image",
            &["sleep", "1000"],
        );
        daemon.create(
            &name(&format!("{which}-rests")),
            &[],
            "image",
            &["sleep", "1000"],
        );
        daemon.exec(&name(&format!("{which}-runs")), "echo x >> /etc/passwd");
    }
    let names = ["a-rests", "a-runs", "b-rests", "b-runs"].map(name);
    let check_all = ["check", "--format", "json"];

    let output = run(&check_all);
    let found = told(&output, &prefix);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        names.iter().collect::<Vec<_>>()
    );
    for (name, container) in &found {
        let runs = name.ends_with("runs");
        assert_eq!(container["state"], if runs { "running" } else { "created" });
        assert_eq!(
            container["verdict"],
            if runs { "violated" } else { "intact" },
            "{container}"
        );
        let engine = if name.contains("-a-") {
            "overlay"
        } else {
            "btrfs"
        };
        assert_eq!(container["engine"], engine);
        assert_eq!(container["gaps"], serde_json::json!([]));
    }
    // By name and by id, though no option says which daemon.
    let id = daemons[1].id(&names[3]);
    for target in [
        &names[3],
        &format!("docker:{}", names[3]),
        &id,
        &id[..20].to_owned(),
    ] {
        let output = run(&["diff", "--format", "docker", target]);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "C /etc/passwd\n",
            "{target}: {output:?}"
        );
    }

    let output = run(&["doctor"]);
    let out = String::from_utf8_lossy(&output.stdout);
    for daemon in &daemons {
        let place = format!(
            "docker ({}), asked at {}",
            daemon.data_root().display(),
            daemon.socket().display()
        );
        assert_eq!(out.matches(&place).count(), 1, "{out}");
    }

    // One hangs: what lies on its disk is told all the same, and that it could not be asked.
    daemons[0].signal(Signal::STOP);
    let silent = tempfile::tempdir().unwrap();
    let socket = silent.path().join("socket");
    // One that takes connections and never answers.
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (all, asked) = std::thread::scope(|scope| {
        let all = scope.spawn(|| run(&check_all));
        let socket = socket.display().to_string();
        let asked = scope.spawn(move || run(&["check", "--docker-host", &socket]));
        (all.join().unwrap(), asked.join().unwrap())
    });
    daemons[0].signal(Signal::CONT);
    let output = all;
    assert_eq!(
        output.status.code(),
        Some(1),
        "a violation is proved, whatever else was not seen"
    );
    let found = told(&output, &prefix);
    assert_eq!(found.len(), 4, "{found:?}");
    for (name, container) in &found {
        let verdict = if name.ends_with("runs") {
            "violated"
        } else {
            "intact"
        };
        assert_eq!(container["verdict"], verdict, "{container}");
    }
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let hung = daemons[0].socket().display().to_string();
    let gaps = document["gaps"].as_array().unwrap();
    let of_it: Vec<_> = gaps
        .iter()
        .filter(|gap| gap["what"] == hung.as_str())
        .collect();
    assert_eq!(of_it.len(), 1, "{gaps:?}");
    assert!(
        of_it[0]["why"]
            .as_str()
            .unwrap()
            .contains("within 10 seconds"),
        "{of_it:?}"
    );
    let other = daemons[1].socket().display().to_string();
    assert!(
        !gaps.iter().any(|gap| gap["what"] == other.as_str()),
        "{gaps:?}"
    );

    // A socket that was named must answer.
    let output = asked;
    assert_eq!(output.status.code(), Some(2));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("within 10 seconds"), "{err}");
}

#[test]
fn two_hundred_containers() {
    require!("dockerd", "containerd", "docker", "busybox", "setpriv");
    let daemon = Dockerd::start(Driver::Overlay2);
    daemon.import("image", small_rootfs().path());
    let prefix = format!("many-{}-", std::process::id());
    daemon.create_many(&prefix, 200, "image");
    let (found, gaps) = inspect(daemon.live(), &[]).expect("inspect");
    assert_eq!(gaps, []);
    assert_eq!(found.len(), 200);
    for measurement in found {
        assert_eq!(measurement.gaps, []);
        assert_eq!(measurement.engine, Some(EngineKind::Overlay));
        assert_eq!(not_of_runtime(&measurement), BTreeMap::new());
        assert_eq!(measurement.container.state, State::Created);
    }
    let socket = daemon.socket().display().to_string();
    let output = run(&["check", "--docker-host", &socket, "--format", "json"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(told(&output, &prefix).len(), 200);
    let output = run(&["list", "--docker-host", &socket, "--format", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let listed = told(&output, &prefix);
    assert_eq!(listed.len(), 200);
    for container in listed.values() {
        let layer = container["layer"].as_str().unwrap();
        assert!(
            Path::new(layer).ends_with("diff") && Path::new(layer).is_dir(),
            "{layer}"
        );
        assert_eq!(container["engine"], "overlay");
    }
    // Also with no option at all, among whatever else is on this machine.
    let output = run(&["check", "--format", "json"]);
    assert_eq!(told(&output, &prefix).len(), 200);
}

#[test]
fn a_container_by_its_mount_and_by_its_process() {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.btrfs"
    );
    for driver in [Driver::Overlay2, Driver::Btrfs] {
        let daemon = Dockerd::start(driver);
        daemon.import("base", small_rootfs().path());
        daemon.build("image", "FROM base\nRUN echo second > /etc/second");
        daemon.run("web", &[], "image", &["sleep", "1000"]);
        daemon.exec("web", "echo x >> /etc/passwd; rm /etc/second");
        daemon.run("paused", &[], "image", &["sleep", "1000"]);
        daemon.docker(&["pause", "paused"]);
        let by_name = inspect_one(daemon.live(), "web");
        let pid = by_name.container.pid.expect("pid");
        let look = |target: Target, sources: Sources| {
            let request = Request {
                sources,
                targets: vec![target],
                paths: Vec::new(),
                options: Options::default(),
            };
            let mut found = Vec::new();
            plimsoll_host::inspect::inspect(&request, &mut |one| found.push(one)).expect("inspect");
            found.pop().expect("one")
        };
        // Any process of it: as the runtime has it.
        let child = daemon.exec("web", "sleep 1000 >/dev/null 2>&1 & echo started");
        assert_eq!(child, "started");
        let mut processes = daemon.docker(&["top", "web", "-o", "pid"]);
        processes = processes.lines().skip(1).collect::<Vec<_>>().join(" ");
        assert_eq!(processes.split_ascii_whitespace().count(), 2, "{processes}");
        for process in processes.split_ascii_whitespace() {
            let process: u32 = process.parse().expect("pid");
            for sources in [daemon.live(), daemon.disk(), Sources::default()] {
                let found = look(Target::Process(process), sources);
                assert_eq!(found.container, by_name.container);
                assert_eq!(found.changes, by_name.changes);
                assert_eq!(found.gaps, []);
            }
        }
        // Of a runtime that is not asked: the mount itself says as much, but for what Docker put there.
        let foreign = Sources {
            data_root: Some(daemon.scratch()),
            ..Sources::default()
        };
        let found = look(Target::Process(pid), foreign.clone());
        let overlay = driver == Driver::Overlay2;
        assert_eq!(
            found.container.runtime,
            if overlay {
                RuntimeKind::Overlay
            } else {
                RuntimeKind::Tree
            }
        );
        assert_eq!(not_of_runtime(&found), not_of_runtime(&by_name));
        assert_eq!(found.gaps, []);
        let paused = inspect_one(daemon.live(), "paused");
        let found = look(Target::Process(paused.container.pid.expect("pid")), foreign);
        assert_eq!(found.container.state, State::Paused);
        assert_eq!(found.gaps, []);
        if overlay {
            by_mount(&daemon, &look);
        }
    }
}

/// The mount point of a Docker container, while its layers can be reached by their paths and afterwards.
fn by_mount(daemon: &Dockerd, look: &dyn Fn(Target, Sources) -> plimsoll_core::model::Measurement) {
    let by_name = inspect_one(daemon.live(), "web");
    let merged = daemon.rootfs(by_name.container.id.as_str());
    let target = || Target::OverlayMount(merged.clone());
    let found = look(target(), daemon.live());
    assert_eq!(found.container.runtime, RuntimeKind::Overlay);
    assert_eq!(not_of_runtime(&found), not_of_runtime(&by_name));
    assert_eq!(found.gaps, []);
    // The short link of its topmost image layer goes: the path that it was mounted with leads nowhere.
    let own = daemon
        .layer(by_name.container.id.as_str(), "")
        .with_file_name("lower");
    let lower = std::fs::read_to_string(own).expect("lower");
    let link = lower.split(':').nth(1).expect("the image's topmost layer");
    let link = daemon.data_root().join("overlay2").join(link);
    let target_of_link = std::fs::read_link(&link).expect("short link");
    std::fs::remove_file(&link).expect("remove");
    let found = look(target(), daemon.live());
    assert_eq!(found.container.name.as_deref(), Some("web"));
    assert_eq!(found.container.runtime, RuntimeKind::Docker);
    assert_eq!(not_of_runtime(&found), not_of_runtime(&by_name));
    assert!(
        !found.gaps.is_empty(),
        "Docker's own record of its layers is broken"
    );
    // Nobody else can tell where it is.
    let nobody = Sources {
        data_root: Some(daemon.scratch()),
        ..Sources::default()
    };
    let found = look(target(), nobody);
    assert_eq!(found.engine, None);
    std::os::unix::fs::symlink(target_of_link, link).expect("short link");
    assert_eq!(look(target(), daemon.live()).gaps, []);
}
