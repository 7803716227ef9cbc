//! Holding a container's processes still while it is looked at. This writes to its cgroup.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plimsoll_core::model::{Container, State};

/// How long processes may take to stop. One inside a long write stops only after it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the two kinds of hierarchy are mounted.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const FREEZER: &str = "/sys/fs/cgroup/freezer";

/// A frozen cgroup, thawed on drop.
#[derive(Debug)]
pub(crate) struct Frozen {
    file: PathBuf,
    thaw: &'static str,
}

/// A hierarchy of cgroups that can be frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// That of version 2.
    Unified,
    /// That of the controller `freezer`, of version 1.
    Freezer,
}

/// Returns the groups in a `/proc/PID/cgroup` (cgroups(7)) that can be frozen and are a container's own:
/// their paths beneath the roots of their hierarchies.
pub(crate) fn own_groups(text: &[u8], id: &str) -> Vec<(Hierarchy, PathBuf)> {
    let own = |path: &[u8]| {
        // Freezing any other cgroup could stop the host.
        let named = path
            .windows(id.len().max(1))
            .any(|part| part == id.as_bytes());
        named && !path.split(|b| *b == b'/').any(|part| part == b"..")
    };
    text.split(|b| *b == b'\n')
        .filter_map(|line| {
            let mut fields = line.splitn(3, |b| *b == b':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let mut names = controllers.split(|b| *b == b',');
            let hierarchy = if controllers.is_empty() {
                Hierarchy::Unified
            } else if names.any(|name| name == b"freezer") {
                Hierarchy::Freezer
            } else {
                return None;
            };
            let leading = path.iter().take_while(|b| **b == b'/').count();
            let beneath = path.get(leading..).unwrap_or_default();
            let beneath = PathBuf::from(std::ffi::OsStr::from_bytes(beneath));
            own(path).then_some((hierarchy, beneath))
        })
        .collect()
}

/// Freezes the cgroup of a running container and waits until every process in it has stopped;
/// `None` when there is nothing to stop: it does not run, or is paused already.
///
/// # Errors
/// A sentence, when the container runs and cannot be held still.
pub(crate) fn freeze(container: &Container) -> Result<Option<Frozen>, String> {
    let Some(pid) = container.pid.filter(|_| container.state == State::Running) else {
        return match container.state {
            State::Running | State::Unknown => {
                Err("it has no process by which its cgroup could be found".into())
            }
            _ => Ok(None),
        };
    };
    let text = crate::fs::read_small_bytes(format!("/proc/{pid}/cgroup"))
        .map_err(|e| format!("its cgroup: {e}"))?;
    for (hierarchy, path) in own_groups(&text, container.id.as_str()) {
        let beneath = |root: &str| Path::new(root).join(&path);
        match hierarchy {
            Hierarchy::Unified => {
                for root in UNIFIED {
                    let dir = beneath(root);
                    if dir.join("cgroup.freeze").exists() {
                        let events = dir.join("cgroup.events");
                        let frozen = Frozen {
                            file: dir.join("cgroup.freeze"),
                            thaw: "0",
                        };
                        return frozen.stop("1", &events, "frozen 1").map(Some);
                    }
                }
            }
            Hierarchy::Freezer => {
                let file = beneath(FREEZER).join("freezer.state");
                if file.exists() {
                    let frozen = Frozen {
                        file: file.clone(),
                        thaw: "THAWED",
                    };
                    return frozen.stop("FROZEN", &file, "FROZEN").map(Some);
                }
            }
        }
    }
    Err(format!(
        "no cgroup of process {pid} is the container's own and can be frozen"
    ))
}

impl Frozen {
    /// Freezes, and waits until `state` says `reached`. When that does not come, dropping it thaws.
    fn stop(self, freeze: &str, state: &Path, reached: &str) -> Result<Self, String> {
        write(&self.file, freeze)?;
        let start = Instant::now();
        loop {
            let now =
                crate::fs::read_small(state).map_err(|e| format!("{}: {e}", state.display()))?;
            if now.lines().any(|line| line == reached) {
                return Ok(self);
            }
            if start.elapsed() > PATIENCE {
                return Err(format!(
                    "its processes did not stop within {} s",
                    PATIENCE.as_secs()
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        #[expect(
            clippy::let_underscore_must_use,
            reason = "the cgroup goes with the container; there is nobody to tell"
        )]
        let _ = write(&self.file, self.thaw);
    }
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))
}
