//! What a container is doing: by the process table, which alone knows.
//!
//! Podman keeps states in a database, which says what was true when Podman ran last: nobody writes
//! down there that a monitor was killed. What counts is the process whose number the monitor wrote to
//! `pidfile` (conmon `src/conmon.c`), if it is the container's; without one, whether there is a
//! specification, which Podman and CRI-O write when a container is started.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use plimsoll_core::model::{ContainerId, Gap, State, escape};

use super::fuse;
use super::record::{ContainerRecord, Spec};
use super::store::Store;
use crate::fs::read_small_bytes;
use crate::proc::mountinfo::OverlayMount;
use crate::proc::{cgroup, life, root_mount};
use crate::runtimes::lower::last_two;

/// The file that holds the number of the first process.
const PID_FILE: &str = "pidfile";

/// Longest text in it.
const PID_LENGTH: usize = 64;

/// What is known of a container's state.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) state: State,
    /// Its first process, when it is on this machine and certainly the container's.
    pub(super) pid: Option<u32>,
    /// Why the state is not certain.
    pub(super) gap: Option<Gap>,
}

/// Returns the state of a container. With `local` its processes would be on this machine.
pub(super) fn known(
    store: &Store,
    record: &ContainerRecord,
    id: &ContainerId,
    spec: &Result<Option<Spec>, String>,
    local: bool,
) -> Known {
    let rests = |state| Known {
        state,
        pid: None,
        gap: None,
    };
    let unknown = |why: String| Known {
        state: State::Unknown,
        pid: None,
        gap: Some(Gap::new(id.as_str(), why)),
    };
    let resting = match spec {
        Ok(None) => State::Created,
        Ok(Some(_)) | Err(_) => State::Exited,
    };
    if !local {
        // The records of a machine that was switched off.
        return rests(resting);
    }
    let mut looked = false;
    for RunDir {
        path: dir,
        is_known,
    } in run_dirs(store, id, spec.as_ref().ok().and_then(Option::as_ref))
    {
        let opened = match store.graph.open_named(&dir) {
            Ok(opened) => opened,
            Err(rustix::io::Errno::NOENT) => {
                // Gone with the machine's last run, or never made.
                looked |= is_known;
                continue;
            }
            Err(errno) => {
                let why = std::io::Error::from(errno);
                return unknown(format!("{}: {why}", shown(&dir)));
            }
        };
        looked = true;
        let text = match opened.read_file(PID_FILE.as_bytes(), PID_LENGTH) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return unknown(format!("{}: {e}", shown(&dir.join(PID_FILE)))),
        };
        let Some(pid) = pid(&text) else {
            return unknown(format!("{}: not a number", shown(&dir.join(PID_FILE))));
        };
        let its = is_users(pid, store.graph.user)
            .and_then(|is_users| Ok(is_users && is_its(store, pid, id, record)?));
        match its {
            Ok(true) => {
                let frozen = cgroup::is_frozen(pid, id);
                return Known {
                    state: if frozen {
                        State::Paused
                    } else {
                        State::Running
                    },
                    pid: Some(pid),
                    gap: None,
                };
            }
            Ok(false) => {}
            Err(why) => return unknown(why),
        }
    }
    match (resting, looked) {
        (State::Exited, false) => unknown(
            "where its run directory lies is not known, so that it cannot be told whether it runs"
                .into(),
        ),
        (resting, _) => rests(resting),
    }
}

/// A directory that may hold the container's `pidfile`.
pub(super) struct RunDir {
    pub(super) path: PathBuf,
    /// Whether it is the one, as far as there is one: that of a user may be elsewhere.
    is_known: bool,
}

/// Returns them: where the specification says that Podman keeps the files that it mounts, and beneath
/// the run root.
pub(super) fn run_dirs(store: &Store, id: &ContainerId, spec: Option<&Spec>) -> Vec<RunDir> {
    let own = format!("{}-containers/{id}/userdata", store.driver);
    let mut dirs = Vec::new();
    let static_dir = store.show(&own);
    let mounts = spec.and_then(|spec| spec.mounts.as_deref());
    let mut sources = mounts.unwrap_or_default().iter().filter_map(|mount| {
        let dir = Path::new(&mount.source).parent()?;
        let is_run_dir = dir.is_absolute() && dir.ends_with(&own) && dir != static_dir;
        is_run_dir.then(|| dir.to_owned())
    });
    dirs.extend(sources.next().map(|path| RunDir {
        path,
        is_known: true,
    }));
    if let Some(run_root) = &store.graph.run_root {
        let path = run_root.join(&own);
        if dirs.iter().all(|known| known.path != path) {
            dirs.push(RunDir {
                path,
                is_known: store.graph.user.is_none(),
            });
        }
    }
    dirs
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).into_owned()
}

/// Returns the number that a `pidfile` holds.
pub(super) fn pid(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    text.parse().ok().filter(|pid| *pid != 0)
}

/// Whether a process is one that this user can have started, where the store is a user's: who could have
/// written down the number and the id of somebody else's.
fn is_users(pid: u32, user: Option<u32>) -> Result<bool, String> {
    let Some(user) = user else {
        return Ok(true);
    };
    let path = format!("/proc/{pid}/uid_map");
    match read_small_bytes(&path) {
        Ok(map) => Ok(is_users_map(&map, user)),
        Err(e) if life::is_gone(&e) => Ok(false),
        Err(e) => Err(format!("{path}: {e}")),
    }
}

/// Whether a `/proc/PID/uid_map` (user_namespaces(7)), as it is seen from outside, is of a namespace that a
/// user made, or of one in that: it maps the user, and never root.
pub(super) fn is_users_map(map: &[u8], user: u32) -> bool {
    let Ok(text) = std::str::from_utf8(map) else {
        return false;
    };
    let numbers = |line: &str| -> Option<(u32, u32)> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let mut number = || fields.next()?.parse().ok();
        Some((number()?, number()?))
    };
    let holds = |id: u32| {
        let mut ranges = text.lines().filter_map(numbers);
        ranges.any(|(first, length)| id.checked_sub(first).is_some_and(|n| n < length))
    };
    holds(user) && !holds(0)
}

/// Whether a process is the container's: by its control group, or where that is not named after the
/// container (`--cgroups=disabled`, cgroup v1 without root), by the rootfs that it runs on. Numbers of
/// processes are used again.
fn is_its(
    store: &Store,
    pid: u32,
    id: &ContainerId,
    record: &ContainerRecord,
) -> Result<bool, String> {
    match life::life(pid, id) {
        life::Life::Alive => return Ok(true),
        life::Life::Unknown(why) => return Err(why),
        life::Life::Gone => {}
    }
    let Some(mount) = root_mount::of(pid)? else {
        return Ok(false);
    };
    let layer = record.layer.as_bytes();
    Ok(match mount.fs_type.as_bytes() {
        _ if mount.is_fuse_overlay() => {
            fuse::is_of(store, &record.layer, pid, &mount) == Some(true)
        }
        b"overlay" => {
            let options = OverlayMount::decode(mount.super_options.as_bytes());
            options.upper.as_deref().and_then(last_two) == Some((layer, &b"diff"[..]))
        }
        _ => last_two(mount.root.as_bytes()).is_some_and(|(_, last)| last == layer),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_of_a_user() {
        for (map, is) in [
            (
                "         0       4242          1\n         1     100000      65536\n",
                true,
            ),
            ("0 100000 4242\n4242 4242 1\n", true),
            // The initial one, and one that root made.
            ("0 0 4294967295\n", false),
            ("0 0 1\n1 4242 1\n", false),
            ("0 100000 65536\n", false),
            ("", false),
            ("0\n0 4242\n", false),
        ] {
            assert_eq!(is_users_map(map.as_bytes(), 4242), is, "{map:?}");
        }
    }

    #[test]
    fn numbers_of_processes() {
        for (text, number) in [
            (&b"398"[..], Some(398)),
            (b"398\n", Some(398)),
            (b"0", None),
            (b"", None),
            (b"-1", None),
            (b"99999999999", None),
            (b"\xff", None),
        ] {
            assert_eq!(pid(text), number, "{text:?}");
        }
    }
}
