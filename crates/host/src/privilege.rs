//! What this process may see.

use std::os::fd::AsFd as _;

use plimsoll_core::model::Gap;
use plimsoll_syscall::pidfd;
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::thread::{CapabilitySet, capabilities};

/// Returns a gap for each privilege that is missing, with its consequence.
///
/// Without `CAP_SYS_ADMIN` in the initial user namespace the kernel does not refuse to list
/// `trusted.*` attributes, it leaves them out (`fs/xattr.c`, `simple_xattr_list` and
/// `xattr_permission`), and `BTRFS_IOC_TREE_SEARCH_V2` fails: a check would be wrong in silence.
#[must_use]
pub fn missing() -> Vec<Gap> {
    let mut gaps = Vec::new();
    let effective = capabilities(None)
        .map(|sets| sets.effective)
        .unwrap_or(CapabilitySet::empty());
    for (capability, name, consequence) in [
        (
            CapabilitySet::SYS_ADMIN,
            "CAP_SYS_ADMIN",
            "overlay marks and Btrfs trees are hidden from this process: run as root",
        ),
        (
            CapabilitySet::DAC_READ_SEARCH,
            "CAP_DAC_READ_SEARCH",
            "directories of other users cannot be read: run as root",
        ),
    ] {
        if !effective.contains(capability) {
            gaps.push(Gap::new(name, consequence));
        }
    }
    if gaps.is_empty() && !in_initial_user_namespace() {
        gaps.push(Gap::new(
            "user namespace",
            "overlay marks and Btrfs trees are hidden outside the initial user namespace: run on the host",
        ));
    }
    gaps
}

/// Whether this process is in the initial user namespace: the kernel gives that one a number of its own
/// (`PROC_USER_INIT_INO` in `include/linux/proc_ns.h`).
fn in_initial_user_namespace() -> bool {
    const INITIAL: u64 = 0xefff_fffd;
    let number = user_namespace().or_else(|_| user_namespace_listed());
    number.is_ok_and(|number| number == INITIAL)
}

/// Returns the number of the user namespace of this process. In `/proc` the kernel would first make everything
/// that leads to it, for each process anew.
fn user_namespace() -> rustix::io::Result<u64> {
    let process = pidfd_open(getpid(), PidfdFlags::empty())?;
    let namespace = pidfd::user_namespace(process.as_fd())?;
    Ok(rustix::fs::fstat(namespace)?.st_ino)
}

/// The same where the kernel is older than Linux 6.11.
fn user_namespace_listed() -> rustix::io::Result<u64> {
    Ok(rustix::fs::stat("/proc/self/ns/user")?.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways to ask give one answer.
    #[test]
    fn the_user_namespace_of_this_process() {
        let listed = user_namespace_listed().unwrap();
        assert!(user_namespace().is_err() || user_namespace() == Ok(listed));
    }
}
