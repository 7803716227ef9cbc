//! What a container is doing: what Docker wrote down, corrected by the process table.

use plimsoll_core::model::{Container, ContainerId, Gap, State};

use super::record::Record;
use crate::proc::life::{self, Life};

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
///
/// A daemon that was killed leaves a record that says "running" for ever, and process ids are used
/// again: so a process that is not in the container's control group is not the container's.
pub(super) fn known(record: &Record, id: &ContainerId, local: bool) -> Known {
    let state = record.state.state();
    let resting = |state| Known {
        state,
        pid: None,
        gap: None,
    };
    if !may_have_process(state) {
        return resting(state);
    }
    if !local {
        // The record of a machine that was switched off.
        return resting(State::Exited);
    }
    let Some(pid) = record.state.pid() else {
        // Between two runs there is no process.
        return resting(if state == State::Restarting {
            state
        } else {
            State::Exited
        });
    };
    match life::life(pid, id) {
        Life::Alive => Known {
            state,
            pid: Some(pid),
            gap: None,
        },
        Life::Gone => resting(State::Exited),
        Life::Unknown(why) => Known {
            state: State::Unknown,
            pid: None,
            gap: Some(Gap::new(id.as_str(), why)),
        },
    }
}

/// Returns the first process of a container that was found: while its record says what it said then, that is
/// not asked of the process table again. Where its processes are looked at, it is asked whose they are.
pub(super) fn process(record: &Record, container: &Container, local: bool) -> Option<u32> {
    let recorded = record.state.pid();
    if container.pid.is_some()
        && container.pid == recorded
        && may_have_process(record.state.state())
    {
        return recorded;
    }
    known(record, &container.id, local).pid
}

fn may_have_process(state: State) -> bool {
    matches!(state, State::Running | State::Paused | State::Restarting)
}
