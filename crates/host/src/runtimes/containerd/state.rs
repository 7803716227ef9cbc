//! What a container is doing: whether it has a task, and what the process table says of that.
//!
//! While a container has a task there is a directory of it in the root and a bundle in the state directory,
//! `io.containerd.runtime.v2.task/<namespace>/<id>`; the bundle has the number of the first process in
//! `init.pid`, and a link `work` to the directory in the root (containerd `core/runtime/v2/bundle.go`,
//! `cmd/containerd-shim-runc-v2/process/init.go`). No more is recorded: a container of which the task was
//! deleted is for containerd what it was before it had one. The CRI plugin alone writes down that it ran.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use plimsoll_core::model::{ContainerId, Gap, State};
use serde::Deserialize;

use super::metadata::{Record, identifier};
use super::pod;
use super::store::Store;
use crate::fs::Dir;
use crate::proc::cgroup;
use crate::proc::life::{self, Life};

/// Where tasks are, in the root and in the state directory.
const TASKS: &str = "io.containerd.runtime.v2.task";

/// Longest number of a process that is read, in bytes.
const PID_LIMIT: usize = 32;

/// What is known of a container's state.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) state: State,
    /// Its first process, when it is on this machine and certainly the container's.
    pub(super) pid: Option<u32>,
    /// Why the state is not certain.
    pub(super) gap: Option<Gap>,
}

/// What the CRI plugin keeps of what a container did (containerd `internal/cri/store/container/status.go`).
#[derive(Debug, Default, Deserialize)]
struct Status {
    /// Nanoseconds of the epoch; 0 when it was never started.
    #[serde(rename = "StartedAt", default)]
    started_at: i64,
}

/// Returns the state of a container.
pub(super) fn known(store: &Store, record: &Record) -> Known {
    let id = ContainerId::new(record.id.clone());
    let resting = |state| Known {
        state,
        pid: None,
        gap: None,
    };
    let unknown = |why: &str| Known {
        state: State::Unknown,
        pid: None,
        gap: Some(Gap::new(record.id.as_str(), why)),
    };
    let task = format!("{TASKS}/{}/{}", record.namespace, record.id);
    let had_task = store.dir.has(task.as_bytes());
    let bundle = match &store.states {
        Some(states) => bundle(store, states, &task, had_task),
        None => None,
    };
    let Some(bundle) = bundle else {
        // The task went with the machine, or with the container's processes.
        return resting(match had_task || was_started(store, record) {
            true => State::Exited,
            false => State::Created,
        });
    };
    let pid = match bundle.read_file(b"init.pid", PID_LIMIT) {
        Ok(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .filter(|pid| *pid != 0),
        Err(_) => None,
    };
    let Some(pid) = pid else {
        return unknown("its runtime does not say which process is its first one");
    };
    match life::life(pid, &id) {
        // Then the control group of the whole namespace has the same name.
        Life::Alive if record.id == record.namespace => unknown(
            "its processes cannot be told from others of its namespace, which has the same name",
        ),
        Life::Alive => Known {
            state: match cgroup::is_frozen(pid, &id) {
                true => State::Paused,
                false => State::Running,
            },
            pid: Some(pid),
            gap: None,
        },
        Life::Gone => resting(State::Exited),
        Life::Unknown(why) => unknown(&why),
    }
}

/// Whether the CRI plugin wrote down that a container was started. A sandbox always was.
fn was_started(store: &Store, record: &Record) -> bool {
    if pod::is_sandbox(record) {
        return true;
    }
    let path = format!("io.containerd.grpc.v1.cri/containers/{}/status", record.id);
    let status = || -> Option<Status> {
        if !pod::is_of_cri(record) {
            return None;
        }
        let bytes = store.dir.read_file(path.as_bytes(), 1 << 20).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    status().is_some_and(|status| status.started_at != 0)
}

/// Opens the bundle of a task of this root. The state directory may be another one than is known: then the
/// processes of containerd, which work in bundles, tell it.
fn bundle(store: &Store, states: &[PathBuf], task: &str, had_task: bool) -> Option<Dir> {
    let of = |states: &[PathBuf]| {
        let mut opened = states.iter().filter_map(|state| Dir::open(state).ok());
        opened.find_map(|state| {
            let bundle = state.open_beneath(task.as_bytes()).ok()?;
            is_of(store, &bundle, task).then_some(bundle)
        })
    };
    of(states).or_else(|| {
        let told = || store.told_states.get_or_init(states_of_shims);
        had_task.then(told).and_then(|states| of(states))
    })
}

/// Whether a bundle is that of a task of this root: two containerds can have containers of one id.
fn is_of(store: &Store, bundle: &Dir, task: &str) -> bool {
    let Ok(work) = bundle.read_link(b"work") else {
        return false;
    };
    let work = Path::new(std::ffi::OsStr::from_bytes(&work));
    Dir::open(work).is_ok_and(|work| store.dir.leads_to(task.as_bytes(), &work).unwrap_or(false))
}

/// Returns the state directories that processes work in: a shim starts in the bundle of its first task.
fn states_of_shims() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = process.file_name();
        if !name.as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let Ok(place) = std::fs::read_link(process.path().join("cwd")) else {
            continue;
        };
        if let Some(state) = state_of(&place)
            && !found.iter().any(|known| known == state)
        {
            found.push(state.to_owned());
        }
    }
    found
}

/// Returns the state directory that a bundle is in.
fn state_of(bundle: &Path) -> Option<&Path> {
    let namespace = bundle.parent()?;
    let tasks = namespace.parent()?;
    let named = [bundle, namespace].into_iter().all(|path| {
        let name = path.file_name().map(std::ffi::OsStr::as_bytes);
        name.and_then(identifier).is_some()
    });
    (named && tasks.file_name()?.as_bytes() == TASKS.as_bytes())
        .then(|| tasks.parent())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_shim_works() {
        let of = |path: &str| state_of(Path::new(path)).map(|path| path.display().to_string());
        assert_eq!(
            of("/run/c/io.containerd.runtime.v2.task/k8s.io/a1").as_deref(),
            Some("/run/c")
        );
        for other in [
            "/",
            "/a/b",
            "/io.containerd.runtime.v2.task/a",
            "/x/tasks/a/b",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
