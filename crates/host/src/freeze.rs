//! Holding a container's processes still while it is looked at. This writes to its cgroup.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plimsoll_core::model::{Container, State};

use crate::proc::cgroup;

/// How long processes may take to stop. One inside a long write stops only after it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A frozen cgroup, thawed on drop.
#[derive(Debug)]
pub(crate) struct Frozen {
    file: PathBuf,
    thaw: &'static str,
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
    for group in cgroup::own(pid, &container.id)? {
        if group.controllers.is_empty() {
            let file = group.dir.join("cgroup.freeze");
            if file.exists() {
                let events = group.dir.join("cgroup.events");
                let frozen = Frozen { file, thaw: "0" };
                return frozen.stop("1", &events, "frozen 1").map(Some);
            }
        } else if group
            .controllers
            .split(|b| *b == b',')
            .any(|name| name == b"freezer")
        {
            let file = group.dir.join("freezer.state");
            if file.exists() {
                let frozen = Frozen {
                    file: file.clone(),
                    thaw: "THAWED",
                };
                return frozen.stop("FROZEN", &file, "FROZEN").map(Some);
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
