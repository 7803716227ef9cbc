//! Whether a container runs on what its record says.

use plimsoll_core::model::Gap;

use crate::proc::mountinfo::subvolume_option;
use crate::proc::root_mount::{self, RootMount};

/// Returns what is mounted at the root of the first process of a container that runs.
pub(in crate::runtimes) fn mounted(pid: Option<u32>, gaps: &mut Vec<Gap>) -> Option<RootMount> {
    match root_mount::of(pid?) {
        Ok(mount) => mount,
        Err(why) => {
            gaps.push(Gap::new("mountinfo", why));
            None
        }
    }
}

/// The gap for a rootfs of another file system than the storage driver's.
pub(in crate::runtimes) fn not_the_driver(mounted: &RootMount, expected: &str) -> Gap {
    Gap::new(
        "mountinfo",
        format!(
            "the container runs on a file system of type {}, its record says {expected}",
            mounted.fs_type
        ),
    )
}

/// Returns what is wrong where a rootfs should be the subvolume of this id.
pub(in crate::runtimes) fn not_the_subvolume(mounted: &RootMount, expected: u64) -> Option<Gap> {
    if mounted.fs_type.as_bytes() != b"btrfs" {
        return Some(not_the_driver(mounted, "btrfs"));
    }
    let id = subvolume_option(mounted.super_options.as_bytes());
    (id != Some(expected)).then(|| {
        let id = id.map_or_else(|| "unknown".into(), |id| id.to_string());
        let why = format!("the container runs on subvolume {id}, its record says {expected}");
        Gap::new("mountinfo", why)
    })
}
