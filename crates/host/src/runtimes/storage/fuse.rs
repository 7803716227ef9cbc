//! Containers that fuse-overlayfs mounts (`storage/drivers/overlay/overlay.go`, `mountProgram`).
//!
//! Its mount tells no layers. That it is a container's follows from where it is mounted: at `merged` beside
//! the container's own layer, in the mount namespace of whoever started the container.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use plimsoll_core::model::{ContainerId, Gap, escape};

use super::chain;
use super::locate::inconsistent;
use super::record::ContainerRecord;
use super::store::{Store, clause};
use crate::fs::Dir;
use crate::layers::{Held, Layer};
use crate::proc::root_mount::RootMount;
use crate::proc::{root, writers};
use crate::runtimes::RuntimeError;

/// The attributes on the root of a layer by which the program takes owners and modes of all its files from
/// attributes (`direct_load_data_source` in its `direct.c`): with `force_mask`.
const OVERRIDES: [&[u8]; 3] = [
    b"security.fuseoverlayfs.override_stat",
    b"user.containers.override_stat",
    b"user.fuseoverlayfs.override_stat",
];

/// Whether a program mounts the containers of a store that are not mounted now (overlay.go,
/// `getMountProgramFlagFile`). The program of Podman, Buildah and CRI-O is fuse-overlayfs.
///
/// Each of them writes the flag anew when it begins, in place: for a moment it is empty.
pub(super) fn mounts(store: &Store) -> Result<bool, RuntimeError> {
    const FLAG: &str = "overlay/.has-mount-program";
    const LOOKS: usize = 50;
    const BETWEEN: Duration = Duration::from_millis(10);
    for _ in 0..LOOKS {
        match store.graph.dir.read_file(FLAG.as_bytes(), 64) {
            Ok(content) => match content.trim_ascii() {
                b"true" => return Ok(true),
                b"false" => return Ok(false),
                _ => sleep(BETWEEN),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(inconsistent(format!("{FLAG}: {}", clause(&e)))),
        }
    }
    Err(inconsistent(format!(
        "{FLAG} says neither true nor false: whether fuse-overlayfs mounts its containers cannot be told"
    )))
}

/// Whether the program maps the owners of a container with ids of its own: then those of all its layers are as
/// the container sees them. It does where neither the container's layer nor the image's were changed to them.
pub(super) fn maps(store: &Store, record: &ContainerRecord) -> bool {
    let is_changed = || -> Option<bool> {
        let chain = chain::chain(&*store.layers().ok()?, record).ok()?;
        let top = chain.image.first();
        Some(chain.own.is_mapped || top.is_some_and(|top| top.is_mapped))
    };
    matches!(mounts(store), Ok(true)) && is_changed() == Some(false)
}

/// Requires of a layer that owners and modes of its files are what the file system says.
///
/// # Errors
/// [`RuntimeError::Unavailable`] for one where they are in attributes, or where that cannot be known.
pub(super) fn require_plain(layer: &Layer) -> Result<(), RuntimeError> {
    let shown = escape(layer.path.as_os_str().as_bytes());
    let mut buffer = Vec::new();
    let names = layer.dir.xattr_names(b"", &mut buffer).map_err(|errno| {
        inconsistent(format!("{shown}: {}", clause(&std::io::Error::from(errno))))
    })?;
    match names
        .split(|b| *b == 0)
        .find(|name| OVERRIDES.contains(name))
    {
        None => Ok(()),
        Some(name) => Err(RuntimeError::Unavailable(format!(
            "layer {shown} keeps owners and modes of its files in the attribute {} (force_mask), which Plimsoll cannot read",
            escape(name)
        ))),
    }
}

/// Whether the program mounted what is at the root of a process for the container whose own layer this is;
/// `None` where nothing is seen mounted for that.
pub(super) fn is_of(store: &Store, layer: &str, pid: u32, mounted: &RootMount) -> Option<bool> {
    let at = place(&store.graph.dir)?.join(format!("overlay/{layer}/merged"));
    let its = root::mounts_of_ancestors(pid)
        .into_iter()
        .filter_map(|mounts| {
            let mut there = mounts.into_iter().rev();
            there.find(|mount| mount.mount_point.as_bytes() == at.as_os_str().as_bytes())
        });
    let devices: Vec<_> = its.map(|mount| mount.device).collect();
    (!devices.is_empty()).then(|| devices.contains(&mounted.device))
}

/// Holds what a container runs on against the records.
pub(super) fn running(
    store: &Store,
    layer: &str,
    pid: Option<u32>,
    mounted: &RootMount,
) -> Option<Gap> {
    let why = match is_of(store, layer, pid?, mounted) {
        Some(true) => return None,
        Some(false) => {
            "the container runs on another mount of fuse-overlayfs than that of its layer"
        }
        None => {
            "the container runs on a mount of fuse-overlayfs, and none is seen that was made for its layer"
        }
    };
    Some(Gap::new("mountinfo", format!("{why} {layer}")))
}

/// Returns the files of a container's layer that its processes may have written to without the program's
/// having been told: unless told otherwise it lets the kernel keep writes back (`writeback`).
pub(super) fn held(upper: &Dir, pid: u32, record: &ContainerRecord, gaps: &mut Vec<Gap>) -> Held {
    let mut held = Held::default();
    let writers = match writers::of(pid, &ContainerId::new(record.id.clone())) {
        Ok(writers) => writers,
        Err(why) => {
            gaps.push(Gap::new("processes", why));
            held.any = true;
            return held;
        }
    };
    held.any = writers.nameless;
    for path in writers.paths {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let parent = path.get(1..path.len() - name.len()).unwrap_or_default();
        let parent = match parent {
            b"" => upper.open_beneath(b"."),
            parent => upper.open_beneath(parent),
        };
        match parent.and_then(|parent| parent.stat(name)) {
            Ok(stat) => {
                held.files.insert((stat.dev, stat.ino));
            }
            // By another path, through a mount in the container.
            Err(_) => held.any = true,
        }
    }
    held
}

/// Returns where a directory is now.
fn place(dir: &Dir) -> Option<PathBuf> {
    let link = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    let target = rustix::fs::readlinkat(rustix::fs::CWD, link, Vec::new()).ok()?;
    Some(OsString::from_vec(target.into_bytes()).into())
}
