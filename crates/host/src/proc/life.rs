//! What the process table says about a container: only on the machine that it runs on.

use std::io::ErrorKind;

use plimsoll_core::model::ContainerId;
use rustix::io::Errno;

use super::cgroup::own_part;
use crate::fs::read_small_bytes;

/// Whether a process id that was written down is still the container's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It is, by its control group.
    Alive,
    /// There is no such process, or it is somebody else's.
    Gone,
    /// That cannot be known, and why.
    Unknown(String),
}

/// Looks whether process `pid` belongs to the container.
///
/// Runtimes name a container's control group after its id: see [`super::cgroup`].
pub(crate) fn life(pid: u32, id: &ContainerId) -> Life {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        match read_small_bytes(&path) {
            Ok(bytes) => Ok(bytes),
            Err(e) if is_gone(&e) => Err(Life::Gone),
            Err(e) => Err(Life::Unknown(format!("{path}: {e}"))),
        }
    };
    let (groups, stat) = match (read("cgroup"), read("stat")) {
        (Ok(groups), Ok(stat)) => (groups, stat),
        (Err(life), _) | (_, Err(life)) => return life,
    };
    if is_in_group_of(&groups, id) && !has_ended(&stat) {
        Life::Alive
    } else {
        Life::Gone
    }
}

/// Whether a `/proc/PID/cgroup` (cgroups(7)) names a container.
pub(super) fn is_in_group_of(groups: &[u8], id: &ContainerId) -> bool {
    let lines = groups.split(|b| *b == b'\n');
    let mut paths = lines.filter_map(|line| line.splitn(3, |b| *b == b':').nth(2));
    paths.any(|path| own_part(path, id.as_str().as_bytes()).is_some())
}

/// Whether `/proc/PID/stat` (proc_pid_stat(5)) is that of a process that ended and that nobody has
/// waited for yet. One whose first thread alone ended has more threads.
pub(super) fn has_ended(stat: &[u8]) -> bool {
    // The name before the last parenthesis can hold anything.
    let Some(end) = stat.iter().rposition(|b| *b == b')') else {
        return false;
    };
    let mut fields = stat[end + 1..].split(|b| *b == b' ').skip(1);
    let is_zombie = matches!(fields.next(), Some(b"Z" | b"X"));
    // `state` is the third field, `num_threads` the twentieth.
    is_zombie && matches!(fields.nth(16), Some(b"0" | b"1"))
}

/// Whether there is a process of this number, also one that has ended and was not waited for.
pub(crate) fn exists(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether an error of reading in `/proc/PID` says that the process is gone or going.
pub(crate) fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
        // Of a process that is ending (proc_pid_mountinfo(5)).
        || error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_no_container() {
        let id = ContainerId::new(
            "48c94983d096b04e83d4a31c44763b2a70396ff0a1f5b186d7f524c2ed21b694".into(),
        );
        assert_eq!(life(std::process::id(), &id), Life::Gone);
        assert_eq!(life(u32::MAX, &id), Life::Gone);
        let stat = read_small_bytes("/proc/self/stat").unwrap();
        assert!(!has_ended(&stat));
    }

    #[test]
    fn a_process_that_nobody_waited_for() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let path = format!("/proc/{}/stat", child.id());
        let ended = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            has_ended(&read_small_bytes(&path).unwrap())
        });
        child.wait().unwrap();
        assert!(ended);
        assert!(!has_ended(b""));
        assert!(!has_ended(b"1 (x) Z) S 0"));
    }
}
