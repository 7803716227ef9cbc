//! Pods of Kubernetes by containerd's CRI plugin, asked for as a kubelet does it.

use plimsoll_core::model::{Measurement, MountOrigin, State};
use plimsoll_e2e::brute::Differences;
use plimsoll_e2e::containerd::{Containerd, inspect};
use plimsoll_e2e::cri::{Cri, Pod};
use plimsoll_e2e::look::not_of_runtime;
use plimsoll_e2e::loopfs::Kind;
use plimsoll_e2e::matrix::{self, Access};
use plimsoll_e2e::oci::Image;
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_e2e::{program, require};
use plimsoll_host::inspect::{Options, Request, Sources, Target};

const PAUSE: &str = "example.org/pause:1";
const IMAGE: &str = "example.org/app:1";

/// Where this counts in the table of runtimes.
const PLACE: &str = "kubernetes-overlayfs";

fn in_pod(container: &str) -> Target {
    Target::Pod {
        namespace: "shop".into(),
        pod: "web-0".into(),
        container: container.into(),
    }
}

/// Looks at one container of the pod, of which everything must be seen.
fn look(sources: Sources, target: Target) -> Measurement {
    let request = Request {
        sources,
        targets: vec![target],
        paths: Vec::new(),
        options: Options::default(),
    };
    let mut found = Vec::new();
    let gaps = plimsoll_host::inspect::inspect(&request, &mut |m| found.push(m)).expect("inspect");
    assert_eq!(gaps, []);
    let measurement = found.pop().expect("one container");
    assert_eq!(measurement.gaps, []);
    measurement
}

/// Looks at one container of the pod that is in this state, with these edits.
fn expect(sources: Sources, container: &str, state: State, edits: &Differences) {
    let measurement = look(sources, in_pod(container));
    assert_eq!(measurement.container.state, state, "{container}");
    assert_eq!(not_of_runtime(&measurement), *edits, "{container}");
}

fn changes(text: &[(&str, char)]) -> Differences {
    let aspects = |kind| match kind {
        'C' => vec!["content"],
        _ => vec![],
    };
    let changes = text
        .iter()
        .map(|(path, kind)| ((*path).to_owned(), (*kind, aspects(*kind))));
    changes.collect()
}

#[test]
fn pods() {
    require!(
        "containerd",
        "ctr",
        "runc",
        "busybox",
        "setpriv",
        "mkfs.ext4"
    );
    let mut daemon = Containerd::start_with_cri(Kind::Ext4, PAUSE);
    for name in [PAUSE, IMAGE] {
        let image = Image::new().layer(small_rootfs().path()).archive(name);
        daemon.import("k8s.io", "overlayfs", &image);
    }
    let cri = Cri::new(&daemon.socket());
    let pod = Pod {
        name: "web-0",
        namespace: "shop",
        uid: "0f5c",
        group: format!("/{}", daemon.namespace("pods")),
    };
    let refused = |why: String| -> String { panic!("no sandbox: {why}: {}", daemon.log()) };
    let sandbox = cri.run_sandbox(&pod).unwrap_or_else(refused);
    let data = daemon.file("data");
    std::fs::create_dir(&data).expect("directory");
    let data = data.display().to_string();
    let labels = [
        ("io.kubernetes.pod.name", "web-0"),
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.pod.uid", "0f5c"),
        ("io.kubernetes.container.name", "app"),
    ];
    let make = |name: &str, attempt, labels: &[(&str, &str)]| {
        let more = (labels, &[("/srv/data", data.as_str())][..]);
        let id = cri.create(&sandbox, &pod, (name, attempt), IMAGE, more);
        id.unwrap_or_else(|why| panic!("{why}: {}", daemon.log()))
    };
    // One with the labels that a kubelet gives, and one without.
    let app = make("app", 0, &labels);
    let bare = make("bare", 0, &[]);
    for (sources, access) in [
        (daemon.here(), Access::Live),
        (daemon.disk(), Access::Offline),
    ] {
        expect(sources, "bare", State::Created, &Differences::new());
        matrix::told_in(PLACE, State::Created, access);
    }
    for id in [&app, &bare] {
        cri.start(id)
            .unwrap_or_else(|why| panic!("{why}: {}", daemon.log()));
    }
    let script = "touch -r /usr/bin/tool /ref
        printf changed! | dd of=/usr/bin/tool bs=1 seek=100 conv=notrunc 2>/dev/null
        touch -r /ref /usr/bin/tool; rm /ref; rm /usr/lib/lib.so; echo new > /home/new; echo x > /srv/data/x";
    cri.exec(&app, script).expect("exec");
    let edited = changes(&[
        ("/home/new", 'A'),
        ("/usr/bin/tool", 'C'),
        ("/usr/lib/lib.so", 'D'),
    ]);

    for (name, id, edits) in [("app", &app, &edited), ("bare", &bare, &Differences::new())] {
        let measurement = look(daemon.here(), in_pod(name));
        let container = &measurement.container;
        assert_eq!(container.id.as_str(), id.as_str());
        assert_eq!(container.state, State::Running);
        assert_eq!(container.namespace.as_deref(), Some("k8s.io"));
        let of = container.pod.as_ref().expect("its pod");
        assert_eq!(
            (&*of.namespace, &*of.name, of.uid.as_deref()),
            ("shop", "web-0", Some("0f5c"))
        );
        assert_eq!(of.container.as_deref(), Some(name));
        assert_eq!(container.image.reference, Some(IMAGE.into()));
        assert!(container.image.id.is_some() && container.image.manifest.is_some());
        assert_eq!(not_of_runtime(&measurement), *edits, "{name}");
        let foreign = measurement
            .mounts
            .iter()
            .find(|m| m.origin == MountOrigin::Foreign);
        assert_eq!(foreign, None);
        let declared = measurement
            .mounts
            .iter()
            .find(|m| m.path.to_string() == "/srv/data");
        assert_eq!(declared.expect("the volume").origin, MountOrigin::Declared);
        let offline = look(daemon.disk(), in_pod(name));
        assert_eq!(not_of_runtime(&offline), *edits, "{name}");
        assert_eq!(offline.container.state, State::Exited);
        matrix::told_in(PLACE, State::Running, Access::Live);
        matrix::told_in(PLACE, State::Running, Access::Offline);
    }

    // The sandbox is there when it is asked for.
    let ids = |sources: Sources, names: &[&str]| -> Vec<String> {
        let (found, gaps) = inspect(sources, names, Options::default()).expect("inspect");
        assert_eq!(gaps, []);
        let mut ids: Vec<_> = found.iter().map(|m| m.container.id.to_string()).collect();
        ids.sort();
        ids
    };
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    let both = sorted(vec![app.clone(), bare.clone()]);
    let all = sorted(vec![app.clone(), bare.clone(), sandbox.clone()]);
    assert_eq!(ids(daemon.here(), &[]), both);
    let with_sandboxes = Sources {
        sandboxes: true,
        ..daemon.here()
    };
    assert_eq!(ids(with_sandboxes, &[]), all);
    assert_eq!(ids(daemon.here(), &[&sandbox]), [sandbox.as_str()]);
    assert_eq!(ids(daemon.here(), &["app"]), [app.as_str()]);
    for (arguments, code, lines) in [
        (
            &["diff", "--format", "docker", "k8s:shop/web-0/app"][..],
            1,
            3,
        ),
        (&["check", "--format", "ndjson", "--sandboxes"], 1, 0),
        (&["check", "k8s:shop/web-0/none"], 2, 0),
    ] {
        let output = program::command()
            .args(arguments)
            .arg("--data-root")
            .arg(daemon.root())
            .output()
            .expect("plimsoll");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let told = String::from_utf8_lossy(&output.stdout);
        let ours = told.lines().filter(|line| {
            line.ends_with(" /usr/lib/lib.so")
                || line.ends_with(" /home/new")
                || line.ends_with(" /usr/bin/tool")
        });
        assert_eq!(ours.count(), lines, "{output:?}");
    }

    // A container that is restarted is another one: the one that runs is meant.
    cri.stop(&app).expect("stop");
    for (sources, access) in [
        (daemon.here(), Access::Live),
        (daemon.disk(), Access::Offline),
    ] {
        expect(sources, "app", State::Exited, &edited);
        matrix::told_in(PLACE, State::Exited, access);
    }
    let again = make("app", 1, &labels);
    cri.start(&again).expect("start");
    let running = look(daemon.here(), in_pod("app"));
    assert_eq!(running.container.id.as_str(), again);
    assert_eq!(not_of_runtime(&running), Differences::new());
    cri.exec(&again, script).expect("exec");
    make("late", 0, &[]);
    daemon.kill();
    expect(daemon.here(), "late", State::Created, &Differences::new());
    matrix::told_in(PLACE, State::Created, Access::Dead);
    expect(daemon.here(), "app", State::Running, &edited);
    matrix::told_in(PLACE, State::Running, Access::Dead);
    let stopped = look(
        daemon.here(),
        Target::Named {
            runtime: None,
            name: app.clone(),
        },
    );
    assert_eq!(stopped.container.state, State::Exited);
    assert_eq!(not_of_runtime(&stopped), edited);
    matrix::told_in(PLACE, State::Exited, Access::Dead);
}
