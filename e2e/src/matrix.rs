//! Which runtimes, with which storage drivers, were looked at in which states and how: what tests write
//! down, so that `cargo xtask runtimes` can make `docs/reference/runtimes.md` of it.
//!
//! With `PLIMSOLL_MATRIX_DIR` set, a test that saw the exact changes of a container says so here, in a
//! line of JSON. Without it nothing is written. Nothing is judged here.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use plimsoll_core::model::State;
use serde_json::{Value, json};

/// A runtime with a storage driver.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its name in the results.
    pub id: &'static str,
    /// The runtime.
    pub runtime: &'static str,
    /// The storage driver.
    pub driver: &'static str,
    /// The engine that compares.
    pub engine: &'static str,
}

const fn place(
    id: &'static str,
    runtime: &'static str,
    driver: &'static str,
    engine: &'static str,
) -> Place {
    Place {
        id,
        runtime,
        driver,
        engine,
    }
}

/// Every place.
pub const PLACES: &[Place] = &[
    place("docker-overlay2", "Docker", "overlay2", "overlay"),
    place("docker-btrfs", "Docker", "btrfs", "btrfs"),
    place("docker-vfs", "Docker", "vfs", "digest"),
    place(
        "docker-overlayfs",
        "Docker, containerd store",
        "overlayfs",
        "overlay",
    ),
    place(
        "docker-btrfs-snapshots",
        "Docker, containerd store",
        "btrfs",
        "digest",
    ),
    place("containerd-overlayfs", "containerd", "overlayfs", "overlay"),
    place("containerd-btrfs", "containerd", "btrfs", "btrfs"),
    place("containerd-native", "containerd", "native", "digest"),
    place(
        "kubernetes-overlayfs",
        "Kubernetes, containerd's CRI",
        "overlayfs",
        "overlay",
    ),
    place("podman-overlay", "Podman", "overlay", "overlay"),
    place(
        "podman-composefs",
        "Podman",
        "overlay, composefs",
        "overlay",
    ),
    place("podman-btrfs", "Podman", "btrfs", "btrfs"),
    place("podman-vfs", "Podman", "vfs", "digest"),
    place(
        "podman-fuse",
        "Podman",
        "overlay, fuse-overlayfs",
        "overlay",
    ),
    place("podman-rootless", "Podman, a user's", "overlay", "overlay"),
    place(
        "podman-rootless-fuse",
        "Podman, a user's",
        "overlay, fuse-overlayfs",
        "overlay",
    ),
    place("cri-o", "CRI-O", "overlay", "overlay"),
];

/// How a container is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// On its machine, while its runtime is there to be asked.
    Live,
    /// On its machine, by the files of a runtime of which no daemon runs.
    Dead,
    /// By a disk that is mounted elsewhere: no daemon and no process.
    Offline,
}

/// Every way, as it is called.
pub const ACCESSES: &[(Access, &str)] = &[
    (Access::Live, "live"),
    (Access::Dead, "daemon dead"),
    (Access::Offline, "offline"),
];

/// Every state, as it is called.
pub const STATES: &[&str] = &[
    "created",
    "running",
    "paused",
    "exited",
    "restarting",
    "removing",
    "checkpointed",
];

/// What is not tested, and why. An empty list is everything.
#[derive(Debug, Clone, Copy)]
pub struct Untested {
    /// In these places.
    pub places: &'static [&'static str],
    /// In these ways.
    pub accesses: &'static [Access],
    /// In these states.
    pub states: &'static [&'static str],
    /// Why.
    pub why: &'static str,
}

/// What is not tested.
pub const UNTESTED: &[Untested] = &[
    Untested {
        places: &["cri-o"],
        accesses: &[],
        states: &[],
        why: "CRI-O is in no suite of Debian (bookworm, trixie, sid, experimental) and could not be run. Its containers are in the same store as Podman's; how it notes them is read by its sources, and held by tests of the decoder alone.",
    },
    Untested {
        places: &["podman-rootless", "podman-rootless-fuse"],
        accesses: &[],
        states: &["checkpointed"],
        why: "Podman checkpoints no container of a user: that \"requires root\".",
    },
    Untested {
        places: &[],
        accesses: &[],
        states: &["removing"],
        why: "A container that is being removed loses its layers meanwhile: it is told with a gap, and never called intact (`docker_states`, `docker_races`, `podman_races`, `podman_hostile`).",
    },
    Untested {
        places: &[
            "docker-vfs",
            "docker-overlayfs",
            "docker-btrfs-snapshots",
            "containerd-overlayfs",
            "containerd-btrfs",
            "containerd-native",
            "kubernetes-overlayfs",
            "podman-overlay",
            "podman-composefs",
            "podman-btrfs",
            "podman-vfs",
            "podman-fuse",
            "podman-rootless",
            "podman-rootless-fuse",
        ],
        accesses: &[],
        states: &["restarting"],
        why: "Docker alone keeps this state, in its own record, whatever the driver: it is tested with overlay2 and btrfs. Elsewhere such a container is an exited one that is started again.",
    },
    Untested {
        places: &[],
        accesses: &[Access::Dead, Access::Offline],
        states: &["restarting"],
        why: "With its daemon dead nobody starts a container again: it is an exited one.",
    },
    Untested {
        places: &[
            "podman-overlay",
            "podman-composefs",
            "podman-btrfs",
            "podman-vfs",
            "podman-fuse",
            "podman-rootless",
            "podman-rootless-fuse",
        ],
        accesses: &[Access::Dead],
        states: &[],
        why: "Podman has no daemon: it is always asked by its files.",
    },
    Untested {
        places: &["podman-rootless", "podman-rootless-fuse"],
        accesses: &[],
        states: &["paused"],
        why: "Podman pauses no container of a user with control groups of version 1, which this machine has.",
    },
    Untested {
        places: &["kubernetes-overlayfs"],
        accesses: &[],
        states: &["paused"],
        why: "Kubernetes pauses no container.",
    },
];

/// Returns what the page must be made from.
#[must_use]
pub fn outline() -> Value {
    let name = |access: &Access| {
        let known = ACCESSES.iter().find(|(known, _)| known == access);
        known.map_or("", |(_, name)| *name)
    };
    let places = PLACES.iter().map(|place| {
        json!({
            "id": place.id, "runtime": place.runtime, "driver": place.driver, "engine": place.engine,
        })
    });
    let untested = UNTESTED.iter().map(|untested| {
        json!({
            "places": untested.places,
            "accesses": untested.accesses.iter().map(name).collect::<Vec<_>>(),
            "states": untested.states,
            "why": untested.why,
        })
    });
    json!({
        "places": places.collect::<Vec<_>>(),
        "accesses": ACCESSES.iter().map(|(_, name)| name).collect::<Vec<_>>(),
        "states": STATES,
        "untested": untested.collect::<Vec<_>>(),
    })
}

/// Returns where the results of this run are to be written, if anywhere.
#[must_use]
pub fn directory() -> Option<PathBuf> {
    std::env::var_os("PLIMSOLL_MATRIX_DIR").map(PathBuf::from)
}

/// Writes down that the changes of a container were told exactly: to be called after that was asserted.
///
/// # Panics
/// When there is no such place or state, or it cannot be written.
pub fn told(place: &str, state: &str, access: Access) {
    assert!(PLACES.iter().any(|known| known.id == place), "{place}");
    assert!(STATES.contains(&state), "{state}");
    let (_, access) = ACCESSES
        .iter()
        .find(|(known, _)| *known == access)
        .expect("a way");
    let Some(dir) = directory() else { return };
    let line = json!({"place": place, "state": state, "access": access});
    write(&dir, &format!("{place}.jsonl"), &line);
}

/// The same, of a state that the report tells.
///
/// # Panics
/// Those of [`told`].
pub fn told_in(place: &str, state: State, access: Access) {
    told(place, state.as_str(), access);
}

/// Writes down what a runtime was, `Docker 20.10`.
///
/// # Panics
/// When it cannot be written.
pub fn version(version: &str) {
    let Some(dir) = directory() else { return };
    write(&dir, "versions.jsonl", &json!({"version": version}));
}

fn write(dir: &std::path::Path, file: &str, line: &Value) {
    let path = dir.join(file);
    // Whole lines at once: tests beside each other write to one file.
    File::options()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
