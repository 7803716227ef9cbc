//! Running containers that no runtime accounts for: overlays that are the root of a process in another
//! mount namespace.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use plimsoll_core::model::{Bytes, Container, Gap};
use rustix::io::Errno;

use super::overlay_mount::OverlayMount;
use super::process::{Process, Unknown};
use crate::proc::cgroup;
use crate::proc::root::{self, RootError};
use crate::proc::table::Table;

/// Most overlays that are told: whoever may make a user namespace can mount one after the other.
const FOUND_MAX: usize = 1000;

/// Returns the overlays that are roots of processes and of none of these containers.
///
/// # Cost
/// One system call for each process, and two for each container that is `known`. One more for each process
/// in a mount namespace of its own, unless it is that of a known container. The list of mounts is read once
/// for each root in each of those namespaces, and those of the known containers once, if there is any other
/// overlay.
pub(super) fn find(known: &[Container]) -> (Vec<Rc<OverlayMount>>, Vec<Gap>) {
    let unreadable = |why: String| (Vec::new(), vec![Gap::new("processes", why)]);
    let table = match Table::open() {
        Ok(table) => table,
        Err(errno) => return unreadable(format!("/proc: {}", std::io::Error::from(errno))),
    };
    let (pids, own) = match (table.pids(), root::identity("self")) {
        (Ok(pids), Ok(own)) => (pids, own),
        (Err(errno), _) | (_, Err(errno)) => {
            return unreadable(format!("/proc: {}", std::io::Error::from(errno)));
        }
    };
    let namespace = |pid: u32| table.link(pid, "ns/mnt");
    // Namespaces in which everything is accounted for.
    let mut settled: HashSet<Vec<u8>> = known
        .iter()
        .filter_map(|container| namespace(container.pid?).ok())
        .chain(namespace(std::process::id()))
        .collect();
    // Those of which it is not known which process is theirs.
    let vague = |id: &str| {
        known
            .iter()
            .any(|one| one.id.as_str() == id && one.pid.is_none())
    };
    let mut hidden = BTreeMap::new();
    let mut roots = HashSet::new();
    let mut devices: Option<HashSet<Bytes>> = None;
    let mut found = Vec::new();
    let mut gaps = Vec::new();
    for pid in pids {
        let namespace = match namespace(pid) {
            Ok(namespace) if settled.contains(&namespace) => continue,
            Ok(namespace) => namespace,
            Err(Errno::ACCESS | Errno::PERM) => {
                if let Some(id) = cgroup::hexadecimal_id(pid) {
                    hidden.entry(id).or_insert(pid);
                }
                continue;
            }
            // It has ended.
            Err(_) => continue,
        };
        let Ok(identity) = root::identity(&pid.to_string()) else {
            continue;
        };
        if identity.is_directory_of(own) || roots.contains(&(namespace.clone(), identity)) {
            continue;
        }
        let root = match root::of(pid) {
            // Another process of the namespace will tell.
            Err(RootError::Gone) => continue,
            Err(RootError::Unreadable(why)) => {
                settled.insert(namespace);
                gaps.push(Gap::new("processes", why));
                continue;
            }
            other => other,
        };
        roots.insert((namespace, identity));
        let Some(root) = root.ok().filter(|root| is_overlay(&root.mount)) else {
            continue;
        };
        let devices = devices.get_or_insert_with(|| devices_of(known));
        let is_vague = cgroup::hexadecimal_id(pid).is_some_and(|id| vague(&id));
        if is_vague || !devices.insert(root.mount.device.clone()) {
            continue;
        }
        if found.len() == FOUND_MAX {
            let why = format!("there are more than {FOUND_MAX} overlays that no runtime tells");
            gaps.push(Gap::new("processes", why));
            break;
        }
        match Process::of(pid, root).unknown() {
            // Nothing can change in one that nothing can be written to.
            Ok(Unknown::Overlay(overlay)) if overlay.is_writable() => found.push(overlay),
            Ok(_) => {}
            Err(error) => gaps.push(Gap::new(format!("pid:{pid}").as_str(), error.to_string())),
        }
    }
    for (id, pid) in hidden {
        if !known.iter().any(|one| one.id.as_str() == id) {
            let why = format!(
                "it is in the control group of container {id} and may not be looked at: run as root"
            );
            gaps.push(Gap::new(format!("pid:{pid}").as_str(), why));
        }
    }
    (found, gaps)
}

/// Whether a mount is an overlay; of one that a program mounted it is told that nothing can be told.
fn is_overlay(mount: &crate::proc::mountinfo::Mount) -> bool {
    mount.fs_type.as_bytes() == b"overlay" || mount.is_fuse_overlay()
}

/// Returns the device numbers of the overlays that known containers run on, and the host itself.
fn devices_of(known: &[Container]) -> HashSet<Bytes> {
    let pids = known.iter().filter_map(|container| container.pid);
    let roots = pids.chain([std::process::id()]).map(root::of);
    roots
        .filter_map(Result::ok)
        .filter(|root| is_overlay(&root.mount))
        .map(|root| root.mount.device)
        .collect()
}
