//! What the processes of a container that runs see and execute beside its rootfs.
//!
//! A rootfs that equals its image proves little where something is mounted over it, or where code
//! runs that is in no file of it. Only the process table tells of that, so only on the machine that
//! the container runs on, and only while it runs.

mod code;
mod host;
mod mounts;
mod namespaces;

use std::collections::BTreeSet;
use std::time::Duration;

use plimsoll_core::model::{Container, ExpectedMount, Gap, Measurement, RootPath};

pub use self::host::HostMounts;
use self::namespaces::Namespaces;
use crate::proc::{cgroup, life};

/// Mounts and pieces of code that are listed for one container at most.
const LISTED_MAX: usize = 10_000;

/// How long a runtime's own program may take on its way into a container: it runs from memory, or
/// from a copy of a mount, until it becomes the container's (runc `libcontainer/exeseal`,
/// `nsenter/cloned_binary.c`).
const ENTRY: Duration = Duration::from_secs(1);

/// How often is looked meanwhile.
const ENTRY_ROUNDS: u32 = 10;

/// What is known of the mounts of a container before they are looked at.
pub struct Known<'k> {
    /// Those that runtime and configuration account for.
    pub expected: &'k [ExpectedMount],
    /// Returns those that a runtime makes only when it was told so elsewhere than in its records: asked for
    /// when there are any that nothing else accounts for.
    pub further: &'k dyn Fn(&Container) -> Vec<ExpectedMount>,
}

/// Adds what covers or bypasses the rootfs to the measurement of a container that runs. With `only`, the
/// mounts over these paths.
pub fn look(
    measurement: &mut Measurement,
    known: &Known<'_>,
    only: &[RootPath],
    host: &HostMounts,
) {
    let Some(pid) = measurement.container.pid else {
        return;
    };
    // Processes whose program is hidden, in every round so far.
    let mut staying: Option<BTreeSet<u32>> = None;
    for round in 0..=ENTRY_ROUNDS {
        let members = match cgroup::members(pid, &measurement.container.id) {
            Ok(members) => members,
            Err(_) if !life::exists(pid) => return,
            Err(why) => {
                measurement.gaps.push(Gap::new("processes", why));
                return;
            }
        };
        let mut gaps = Vec::new();
        let namespaces = Namespaces::read(pid, &members.threads, &mut gaps);
        let mut strange = Vec::new();
        let mut over = mounts::over(&namespaces, known.expected, host, &mut strange);
        if over.unaccounted {
            let mut expected = known.expected.to_vec();
            expected.extend((known.further)(&measurement.container));
            strange.clear();
            over = mounts::over(&namespaces, &expected, host, &mut strange);
        }
        gaps.extend(strange);
        let mut found = match only {
            [] => code::look(&members.processes, &measurement.changes, &namespaces, &over),
            _ => code::Found::default(),
        };
        let hidden = found.hidden_programs();
        let still: BTreeSet<u32> = match &staying {
            Some(before) => before.intersection(&hidden).copied().collect(),
            None => hidden.clone(),
        };
        if !still.is_empty() && round < ENTRY_ROUNDS {
            staying = Some(still);
            std::thread::sleep(ENTRY / ENTRY_ROUNDS);
            continue;
        }
        // One that came in the last round may be on its way as well.
        found.leave_out(&hidden.difference(&still).copied().collect());
        let (code, more) = found.finish();
        measurement.mounts = over.mounts;
        measurement.code = code;
        measurement.gaps.extend(gaps);
        measurement.gaps.extend(more);
        break;
    }
    if !only.is_empty() {
        let above = |mount: &RootPath| only.iter().any(|path| path.is_within(mount));
        measurement.mounts.retain(|mount| above(&mount.path));
    }
}
