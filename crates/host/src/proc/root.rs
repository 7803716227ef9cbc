//! What a process has as its root directory, and who may have mounted it.

use std::collections::HashSet;
use std::path::PathBuf;

use super::life::{has_ended, is_gone};
use super::mountinfo::{self, Mount};
use crate::fs::{Dir, Identity, known_identity, read_small_bytes};

/// Most ancestors of a process that are looked at.
const ANCESTORS_MAX: usize = 64;

/// The root directory of a process, where that is the root of a mount.
#[derive(Debug)]
pub(crate) struct Root {
    /// What is mounted there.
    pub(crate) mount: Mount,
    /// The directory, to look through.
    pub(crate) dir: Dir,
}

/// Why the root of a process cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RootError {
    /// There is no such process, or it has ended.
    Gone,
    /// Its root is a directory somewhere in what is mounted, as chroot(2) makes it, or was unmounted.
    Beneath,
    /// It cannot be looked at: one clause.
    Unreadable(String),
}

/// Returns which directory the root of a process is. One system call.
///
/// # Errors
/// Those of statx(2).
pub(crate) fn identity(process: &str) -> rustix::io::Result<Identity> {
    known_identity(format!("/proc/{process}/root").as_ref())
}

/// Returns the root directory of a process and what is mounted there.
///
/// # Errors
/// [`RootError`] when the process is gone, or its root is not that of a mount.
pub(crate) fn of(pid: u32) -> Result<Root, RootError> {
    let process = pid.to_string();
    let path = format!("/proc/{pid}/root");
    let failed = |what: &str, error: std::io::Error| match is_gone(&error) {
        true => RootError::Gone,
        false => RootError::Unreadable(format!("{what}: {error}")),
    };
    let dir = Dir::look(path.as_ref()).map_err(|errno| failed(&path, errno.into()))?;
    let identity = identity(&process).map_err(|errno| failed(&path, errno.into()))?;
    let list = format!("/proc/{pid}/mountinfo");
    let text = read_small_bytes(&list).map_err(|error| failed(&list, error))?;
    // Of a process that is ending nothing is listed; nor where no mount is at or beneath the root.
    let stat = format!("/proc/{pid}/stat");
    if text.is_empty() && read_small_bytes(stat).is_ok_and(|stat| !has_ended(&stat)) {
        return Err(RootError::Beneath);
    } else if text.is_empty() {
        return Err(RootError::Gone);
    }
    if !mountinfo::is_whole(&text) {
        return Err(RootError::Unreadable(format!("{list} is cut short")));
    }
    let mount = mountinfo::parse(&text)
        .into_iter()
        .find(|mount| mount.id == identity.mount)
        .filter(|mount| mount.mount_point.as_bytes() == b"/")
        .ok_or(RootError::Beneath)?;
    // The directory may have become another one since it was opened.
    let same = dir.known_identity().is_ok_and(|its| its == identity);
    match same {
        true => Ok(Root { mount, dir }),
        false => Err(RootError::Unreadable(format!("{path} changed meanwhile"))),
    }
}

/// Returns the roots of the ancestors of a process that see another tree than this process does: who
/// mounted the root of a container is mostly among them.
pub(crate) fn of_ancestors(pid: u32) -> Vec<(Dir, PathBuf)> {
    let mut seen: HashSet<Identity> = ["self", &pid.to_string()]
        .into_iter()
        .filter_map(|process| identity(process).ok())
        .collect();
    let mut found = Vec::new();
    let mut process = pid;
    for _ in 0..ANCESTORS_MAX {
        let Some(parent) = parent(process).filter(|parent| *parent > 0) else {
            break;
        };
        process = parent;
        let Ok(identity) = identity(&process.to_string()) else {
            continue;
        };
        if seen.insert(identity) {
            let path = PathBuf::from(format!("/proc/{process}/root"));
            found.extend(Dir::look(&path).ok().map(|dir| (dir, path)));
        }
    }
    found
}

/// Returns what this process has mounted, and then what the ancestors of a process have in other mount
/// namespaces than its own. What cannot be read is left out.
pub(crate) fn mounts_of_ancestors(pid: u32) -> Vec<Vec<Mount>> {
    let namespace = |process: &str| {
        let link = format!("/proc/{process}/ns/mnt");
        Some(
            rustix::fs::readlinkat(rustix::fs::CWD, link, Vec::new())
                .ok()?
                .into_bytes(),
        )
    };
    let mut seen: HashSet<Vec<u8>> = namespace(&pid.to_string()).into_iter().collect();
    let mut ancestors = vec!["self".to_owned()];
    let mut process = pid;
    for _ in 0..ANCESTORS_MAX {
        let Some(parent) = parent(process).filter(|parent| *parent > 0) else {
            break;
        };
        process = parent;
        ancestors.push(process.to_string());
    }
    let mut mounts = Vec::new();
    for process in ancestors {
        if namespace(&process).is_some_and(|its| seen.insert(its))
            && let Ok(text) = read_small_bytes(format!("/proc/{process}/mountinfo"))
        {
            mounts.push(mountinfo::parse(&text));
        }
    }
    mounts
}

fn parent(pid: u32) -> Option<u32> {
    parent_in(&read_small_bytes(format!("/proc/{pid}/stat")).ok()?)
}

/// Returns the parent by a `/proc/PID/stat` (proc_pid_stat(5)): the second field after the name, which can
/// hold anything.
pub(super) fn parent_in(stat: &[u8]) -> Option<u32> {
    let end = stat.iter().rposition(|b| *b == b')')?;
    let field = stat.get(end + 1..)?.split(|b| *b == b' ').nth(2)?;
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_process() {
        let pid = std::process::id();
        let own = identity("self").unwrap();
        assert_eq!(own, identity(&pid.to_string()).unwrap());
        assert!(own.is_directory_of(identity("self").unwrap()));
        assert_eq!(
            parent(pid),
            Some(rustix::process::getppid().unwrap().as_raw_nonzero().get() as u32)
        );
        assert_eq!(of(u32::MAX).unwrap_err(), RootError::Gone);
        assert_eq!(parent_in(b"1 (a) b) S 77 0"), Some(77));
        assert_eq!(parent_in(b"1 (a S"), None);
    }
}
