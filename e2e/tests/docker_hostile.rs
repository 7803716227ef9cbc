//! Data roots that are broken or lie, records that contradict the daemon, and containers that go away
//! meanwhile: never a panic, never "intact".

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use plimsoll_core::model::Measurement;
use plimsoll_e2e::command::shell;
use plimsoll_e2e::dockerd::{Dockerd, Driver};
use plimsoll_e2e::look::{inspect, inspect_one, is_whole_or_gap, not_of_runtime};
use plimsoll_e2e::require;
use plimsoll_e2e::rootfs::small_rootfs;

const SLEEP: [&str; 2] = ["sleep", "1000"];

/// The pieces of one container that a case may break.
struct Pieces {
    root: PathBuf,
    /// `containers/<id>`.
    record: PathBuf,
    /// `image/<driver>/layerdb/mounts/<id>`.
    mount: PathBuf,
    /// `image/<driver>/imagedb/content/sha256/<image>`.
    image: PathBuf,
    /// `image/<driver>/layerdb/sha256/<chainID>` of the image's top layer.
    top: PathBuf,
    /// The storage driver's directory of the writable layer.
    upper: PathBuf,
    /// That of the image's top layer.
    lower: PathBuf,
}

impl Pieces {
    fn of(daemon: &Dockerd, name: &str) -> Self {
        let id = daemon.id(name);
        let root = daemon.data_root();
        let driver = root.join("image").join(daemon.driver().as_str());
        let image = daemon.docker(&["inspect", "-f", "{{.Image}}", name]);
        let mount = driver.join("layerdb/mounts").join(&id);
        let hex = |text: &str| text.trim_start_matches("sha256:").to_owned();
        let chain = std::fs::read_to_string(mount.join("parent")).expect("parent");
        let top = driver.join("layerdb/sha256").join(hex(&chain));
        let cache = std::fs::read_to_string(top.join("cache-id")).expect("cache-id");
        Self {
            record: root.join("containers").join(&id),
            image: driver.join("imagedb/content/sha256").join(hex(&image)),
            upper: daemon.layer(&id, ""),
            lower: daemon.layer_dir(&cache),
            root,
            mount,
            top,
        }
    }
}

/// One way to break a data root, and what must then be said.
type Case = (&'static str, fn(&Pieces) -> String, &'static str);

const BOTH: &[Case] = &[
    (
        "record cut off",
        |p| cut(&p.record.join("config.v2.json")),
        "EOF while parsing",
    ),
    (
        "record gone",
        |p| remove(&p.record.join("config.v2.json")),
        "config.v2.json is missing",
    ),
    (
        "record a link",
        |p| link(&p.record.join("config.v2.json"), "/etc/passwd"),
        "a link stands",
    ),
    (
        "record a FIFO",
        |p| fifo(&p.record.join("config.v2.json")),
        "not a regular file",
    ),
    (
        "record endless",
        |p| endless(&p.record.join("config.v2.json")),
        "longer than",
    ),
    (
        "record of another",
        |p| {
            format!(
                "sed -i 's/\"ID\":\"[0-9a-f]*/\"ID\":\"..\\/..\\/x/' {}/config.v2.json",
                p.record.display()
            )
        },
        "the record of another container",
    ),
    (
        "image id a path",
        |p| {
            format!(
                "sed -i 's/\"Image\":\"sha256:[0-9a-f]*/\"Image\":\"sha256:..\\/..\\/..\\/etc/' {}/config.v2.json",
                p.record.display()
            )
        },
        "no image id",
    ),
    (
        "driver a path",
        |p| {
            format!(
                "sed -i 's/\"Driver\":\"{}\"/\"Driver\":\"..\\/..\\/..\"/' {}/config.v2.json",
                p.mount
                    .ancestors()
                    .nth(3)
                    .and_then(Path::file_name)
                    .expect("driver")
                    .display(),
                p.record.display()
            )
        },
        "storage driver \"../../..\"",
    ),
    (
        "mount id a path",
        |p| write(&p.mount.join("mount-id"), "../../../etc"),
        "does not name a layer",
    ),
    ("mount id gone", |p| remove(&p.mount.join("mount-id")), ""),
    (
        "mount id of nothing",
        |p| write(&p.mount.join("mount-id"), &"0".repeat(64)),
        "0000",
    ),
    (
        "init id gone",
        |p| remove(&p.mount.join("init-id")),
        "init-id",
    ),
    (
        "on no image",
        |p| remove(&p.mount.join("parent")),
        "its image ends with",
    ),
    (
        "on another image",
        |p| {
            write(
                &p.mount.join("parent"),
                &format!("sha256:{}", "ab".repeat(32)),
            )
        },
        "its image ends with",
    ),
    (
        "image configuration altered",
        |p| format!("sed -i s/linux/Linux/ {}", p.image.display()),
        "its SHA-256 is not the image id",
    ),
    (
        "image configuration gone",
        |p| remove(&p.image),
        "the configuration of the image is gone",
    ),
    (
        "layer record gone",
        |p| format!("rm -r {}", p.top.display()),
        "does not have an image layer",
    ),
    (
        "layer directory a path",
        |p| write(&p.top.join("cache-id"), "/"),
        "does not name a layer",
    ),
    (
        "layer of another diffID",
        |p| write(&p.top.join("diff"), &format!("sha256:{}", "cd".repeat(32))),
        "its image says",
    ),
    (
        "the whole layer database a link",
        |p| {
            let dir = p
                .mount
                .parent()
                .and_then(Path::parent)
                .expect("layerdb")
                .display()
                .to_string();
            format!("mv {dir} {dir}.away; ln -s {dir}.away {dir}")
        },
        "link",
    ),
    (
        "a stray record",
        |p| format!("mkdir {}/containers/stray", p.root.display()),
        "does not have the name of one",
    ),
];

// Renaming a subvolume would change it.
const BTRFS: &[Case] = &[
    (
        "layers gone",
        |p| format!("mv {0} {0}.away", subvolumes(p)),
        "is missing",
    ),
    (
        "layers a link",
        |p| format!("mv {0} {0}.away; ln -s {0}.away {0}", subvolumes(p)),
        "a link or a file stands there",
    ),
    (
        "writable layer a plain directory",
        |p| {
            let name = write(&p.mount.join("mount-id"), "plain");
            format!("mkdir {}/plain; {name}", subvolumes(p))
        },
        "not a Btrfs subvolume",
    ),
    (
        "writable layer a link to another",
        |p| {
            let name = write(&p.mount.join("mount-id"), "plain");
            format!(
                "ln -s {} {}/plain; {name}",
                p.lower.display(),
                subvolumes(p)
            )
        },
        "not a Btrfs subvolume",
    ),
    (
        "image layer gone",
        |p| write(&p.top.join("cache-id"), &"0".repeat(64)),
        "is missing",
    ),
];

fn subvolumes(pieces: &Pieces) -> String {
    let path = pieces.upper.parent().expect("btrfs/subvolumes");
    path.display().to_string()
}

const OVERLAY: &[Case] = &[
    (
        "writable layer gone",
        |p| format!("mv {0} {0}.away", p.upper.display()),
        "",
    ),
    (
        "writable layer a link",
        |p| format!("mv {0} {0}.away; ln -s / {0}", p.upper.display()),
        "",
    ),
    (
        "image layer gone",
        |p| format!("mv {0} {0}.away", p.lower.display()),
        "",
    ),
    (
        "image layer a link",
        |p| format!("mv {0} {0}.away; ln -s {0}.away {0}", p.lower.display()),
        "",
    ),
    (
        "lowers in another order",
        |p| {
            let lower = p.upper.with_file_name("lower");
            format!(
                "awk -F: '{{ for (i = NF; i > 0; i--) printf \"%s%s\", $i, (i > 1 ? \":\" : \"\") }}' {0} > {0}.new; cat {0}.new > {0}; rm {0}.new",
                lower.display()
            )
        },
        "lower layer 1 is",
    ),
    (
        "a lower less",
        |p| {
            let lower = p.upper.with_file_name("lower");
            format!("printf %s \"$(cut -d: -f1 {0})\" > {0}", lower.display())
        },
        "there are 1 lower layers",
    ),
    (
        "a lower that is a path",
        |p| write(&p.upper.with_file_name("lower"), "l/../../../etc"),
        "is not the path of a lower layer",
    ),
    (
        "lower gone",
        |p| remove(&p.upper.with_file_name("lower")),
        "is missing",
    ),
    (
        "short link elsewhere",
        |p| {
            format!(
                "for l in {}/overlay2/l/*; do ln -sfn /etc $l; done",
                p.root.display()
            )
        },
        "leads to \"/etc\"",
    ),
    (
        "short links to each other's layers",
        |p| {
            let upper = p
                .upper
                .parent()
                .and_then(Path::file_name)
                .expect("name")
                .display()
                .to_string();
            format!(
                "for l in {}/overlay2/l/*; do ln -sfn ../{upper}/diff $l; done",
                p.root.display()
            )
        },
        "lower layer 1 is",
    ),
    (
        "short links gone",
        |p| format!("rm {}/overlay2/l/*", p.root.display()),
        "short link",
    ),
    (
        "work directory gone",
        |p| format!("rm -r {}", p.upper.with_file_name("work").display()),
        "is missing",
    ),
];

fn write(path: &Path, text: &str) -> String {
    format!("printf %s '{text}' > {}", path.display())
}

fn remove(path: &Path) -> String {
    format!("rm {}", path.display())
}

fn cut(path: &Path) -> String {
    format!("truncate -s 100 {}", path.display())
}

fn link(path: &Path, to: &str) -> String {
    format!("ln -sfn {to} {}", path.display())
}

fn fifo(path: &Path) -> String {
    format!("rm {0}; mkfifo {0}", path.display())
}

fn endless(path: &Path) -> String {
    format!("truncate -s 1T {}", path.display())
}

/// Everything that was said, and whether anything was called seen and unchanged.
fn told(result: &Result<(Vec<Measurement>, Vec<plimsoll_core::model::Gap>), String>) -> String {
    match result {
        Err(sentence) => sentence.clone(),
        Ok((found, gaps)) => {
            let own = found.iter().flat_map(|m| &m.gaps);
            own.chain(gaps)
                .map(|gap| format!("{}: {}\n", gap.what, gap.why))
                .collect()
        }
    }
}

fn lying(driver: Driver, cases: &[&[Case]]) {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.btrfs"
    );
    let mut daemon = Dockerd::start(driver);
    daemon.import("base", small_rootfs().path());
    daemon.build("image", "FROM base\nCOPY Dockerfile /d");
    daemon.build("other", "FROM base\nCOPY Dockerfile /e");
    daemon.create("good", &[], "other", &SLEEP);
    daemon.create("victim", &[], "image", &SLEEP);
    let pieces = Pieces::of(&daemon, "victim");
    daemon.kill();
    // What a case breaks is put back from here; the layers themselves are only renamed.
    let spare = daemon.scratch().join("spare.tar");
    let parts = if driver == Driver::Btrfs {
        "containers image"
    } else {
        "containers image overlay2"
    };
    let root = daemon.data_root().display().to_string();
    shell(&format!(
        "cd {root}; tar --xattrs --xattrs-include='*' -cf {} {parts}",
        spare.display()
    ));
    assert_eq!(inspect_one(daemon.disk(), "victim").changes, []);
    let mut wrong = Vec::new();
    for (name, case, what) in cases.iter().copied().flatten() {
        shell(&case(&pieces));
        let alone = inspect(daemon.disk(), &["victim"]);
        let all = inspect(daemon.disk(), &[]);
        for (how, result) in [("alone", &alone), ("all", &all)] {
            let said = told(result);
            let victims = result.iter().flat_map(|(found, _)| found);
            let victim = victims
                .into_iter()
                .find(|m| m.container.display_name() == "victim");
            let silent = victim.is_some_and(|m| m.gaps.is_empty() && m.changes.is_empty())
                && result.as_ref().is_ok_and(|(_, gaps)| gaps.is_empty());
            if silent {
                wrong.push(format!("{name}, {how}: called intact"));
            }
            // Not found by its name when its record is broken: then that is what is said.
            let not_found = how == "alone" && said.starts_with("no container");
            if !said.contains(what) && !not_found {
                wrong.push(format!("{name}, {how}: {said}"));
            }
            if said.is_empty() {
                wrong.push(format!("{name}, {how}: nothing is said"));
            }
        }
        // The other container is listed in any case, and compared unless what broke is common to both.
        let good = all
            .as_ref()
            .ok()
            .and_then(|(found, _)| found.iter().find(|m| m.container.display_name() == "good"));
        if good.is_none() {
            wrong.push(format!("{name}: the other container is not listed"));
        }
        shell(&format!(
            "cd {root}; rm -rf btrfs/subvolumes/plain; for away in $(find . -maxdepth 3 -name '*.away'); do rm -rf ${{away%.away}}; mv $away ${{away%.away}}; done
             rm -rf containers image; [ {parts:?} = 'containers image' ] || rm -rf overlay2
             tar --xattrs --xattrs-include='*' -xf {}",
            spare.display()
        ));
        assert_eq!(
            inspect_one(daemon.disk(), "victim").changes,
            [],
            "after {name}"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lying_overlay2() {
    lying(Driver::Overlay2, &[BOTH, OVERLAY]);
}

#[test]
fn lying_btrfs() {
    lying(Driver::Btrfs, &[BOTH, BTRFS]);
}

/// A daemon that runs knows better than records that were altered beneath it.
fn contradictions(driver: Driver) {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.btrfs"
    );
    let daemon = Dockerd::start(driver);
    daemon.import("base", small_rootfs().path());
    daemon.build("image", "FROM base\nCOPY Dockerfile /d");
    daemon.create("clean", &[], "image", &SLEEP);
    daemon.run("web", &[], "image", &SLEEP);
    daemon.exec("web", "rm /etc/shadow");
    let (web, clean) = (Pieces::of(&daemon, "web"), Pieces::of(&daemon, "clean"));
    let base = daemon.docker(&["inspect", "-f", "{{.Id}}", "base"]);
    let config = web.record.join("config.v2.json");
    let running = format!(
        "sed -i 's/\"Running\":true/\"Running\":false/' {}",
        config.display()
    );
    let image = format!(
        "sed -i 's/\"Image\":\"sha256:[0-9a-f]*/\"Image\":\"{base}/' {}",
        config.display()
    );
    // The layers of a container that nothing was changed in.
    let layers = format!(
        "cp {1}/mount-id {1}/init-id {0}/",
        web.mount.display(),
        clean.mount.display()
    );
    for (script, what) in [
        (
            running.as_str(),
            "the records say exited, the daemon says running",
        ),
        (&image, ""),
        (&layers, ""),
    ] {
        shell(&format!(
            "cp {0} {0}.spare; cp -r {1} {1}.spare",
            config.display(),
            web.mount.display()
        ));
        shell(script);
        let result = inspect(daemon.live(), &["web"]);
        let said = told(&result);
        assert!(!said.is_empty() && said.contains(what), "{script}: {said}");
        let (found, _) = result.expect("inspect");
        assert!(!found[0].gaps.is_empty(), "{script}");
        shell(&format!(
            "mv {0}.spare {0}; rm -r {1}; mv {1}.spare {1}",
            config.display(),
            web.mount.display()
        ));
    }
    // What it was asked for with matters where something runs or differs, and is not read elsewhere.
    let host = web.record.join("hostconfig.json");
    shell(&format!(
        "cp {0} {0}.spare; {1}",
        host.display(),
        cut(&host)
    ));
    let said = told(&inspect(daemon.disk(), &["web"]));
    assert!(said.contains("hostconfig.json"), "{said}");
    shell(&format!("mv {0}.spare {0}", host.display()));
    // Without the daemon the mount of the running container tells.
    shell(&layers);
    let said = told(&inspect(daemon.disk(), &["web"]));
    assert!(said.contains("the container runs on"), "{said}");

    // A record that only one of the two has.
    shell(&format!(
        "cp -r {0} {1}",
        clean.record.display(),
        clean.record.with_file_name("f".repeat(64)).display()
    ));
    shell(&format!(
        "sed -i 's/\"ID\":\"[0-9a-f]*/\"ID\":\"{}/' {}/config.v2.json",
        "f".repeat(64),
        clean.record.with_file_name("f".repeat(64)).display()
    ));
    let said = told(&inspect(daemon.live(), &[]));
    assert!(
        said.contains("its data root has this container, the daemon does not"),
        "{said}"
    );
    shell(&format!(
        "mv {} {}/",
        clean.record.display(),
        daemon.scratch().display()
    ));
    let said = told(&inspect(daemon.live(), &[]));
    assert!(
        said.contains("the daemon has this container, its data root does not"),
        "{said}"
    );
}

#[test]
fn contradictions_overlay2() {
    contradictions(Driver::Overlay2);
}

#[test]
fn contradictions_btrfs() {
    contradictions(Driver::Btrfs);
}

/// Containers that are removed while they are looked at: all that changed in them is told, or that
/// something could not be seen; never less.
fn removed_meanwhile(driver: Driver) {
    require!(
        "dockerd",
        "containerd",
        "docker",
        "busybox",
        "setpriv",
        "mkfs.btrfs"
    );
    const COUNT: usize = 8;
    let daemon = Dockerd::start(driver);
    daemon.import("image", small_rootfs().path());
    let edit = "for d in $(seq 30); do mkdir -p /home/$d; for f in $(seq 30); do echo > /home/$d/$f; done; done; rm /etc/shadow";
    for n in 0..COUNT {
        daemon.run(&format!("c{n}"), &[], "image", &SLEEP);
        daemon.exec(&format!("c{n}"), edit);
    }
    let expected = not_of_runtime(&inspect_one(daemon.live(), "c0"));
    assert_eq!(expected.len(), 30 * 30 + 30 + 1);
    let removed = AtomicBool::new(false);
    let mut rounds = 0;
    let mut partial = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..COUNT {
                daemon.docker(&["rm", "--force", &format!("c{n}")]);
            }
            removed.store(true, Ordering::Release);
        });
        while !removed.load(Ordering::Acquire) {
            rounds += 1;
            let sources = if rounds % 2 == 0 {
                daemon.live()
            } else {
                daemon.disk()
            };
            let Ok((found, _)) = inspect(sources, &[]) else {
                continue;
            };
            for measurement in found {
                partial += usize::from(!is_whole_or_gap(&measurement, &expected));
            }
        }
    });
    let (left, gaps) = inspect(daemon.live(), &[]).expect("inspect");
    assert_eq!((left.len(), gaps), (0, vec![]));
    assert!(rounds > 3, "the check is too slow to meet a removal");
    eprintln!("{driver:?}: {rounds} rounds, {partial} containers met on their way out");
}

#[test]
fn removed_meanwhile_overlay2() {
    removed_meanwhile(Driver::Overlay2);
}

#[test]
fn removed_meanwhile_btrfs() {
    removed_meanwhile(Driver::Btrfs);
}
