//! What is mounted over the rootfs of a container, by the specification that it was started with.

use std::path::Path;

use plimsoll_core::model::{ExpectedMount, ExpectedSource, MountOrigin, RootPath};

use super::record::{Spec, SpecMount};

/// File systems that a specification names by their types.
const TYPES: [&str; 8] = [
    "tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay",
];

/// Returns the mounts that a container is expected to have. `own` are the directories in which Podman or
/// CRI-O keep files of this container: what comes from there is the runtime's. Paths in another form
/// than a clean one are left out: what is not named here is held against the container.
pub(super) fn expected(spec: &Spec, own: &[&Path]) -> Vec<ExpectedMount> {
    let mounts = spec.mounts.iter().flatten().filter_map(|mount| {
        Some(ExpectedMount {
            path: RootPath::parse(mount.destination.as_bytes()).ok()?,
            origin: origin(mount, own),
            what: source(mount),
        })
    });
    // A file is hidden by a device: by the machine's own where the container may make none.
    let masked = spec.linux.iter().flat_map(|linux| &linux.masked_paths);
    let masked = masked.flatten().filter_map(|path| {
        Some(ExpectedMount {
            path: RootPath::parse(path.as_bytes()).ok()?,
            origin: MountOrigin::Runtime,
            what: ExpectedSource::HostPath("/dev/null".into()),
        })
    });
    mounts.chain(masked).collect()
}

fn origin(mount: &SpecMount, own: &[&Path]) -> MountOrigin {
    let source = Path::new(&mount.source);
    let is_own = mount.is_bind() && own.iter().any(|dir| source.starts_with(dir));
    // Podman's init program, from wherever the distribution has it.
    let is_init = mount.destination == "/run/podman-init";
    match is_own || is_init {
        true => MountOrigin::Runtime,
        false => MountOrigin::Declared,
    }
}

fn source(mount: &SpecMount) -> ExpectedSource {
    if mount.is_bind() {
        // A sub-directory of a volume is opened first and mounted by its descriptor.
        return match mount.source.starts_with("/proc/") || !mount.source.starts_with('/') {
            true => ExpectedSource::Unknown,
            false => ExpectedSource::HostPath(mount.source.as_str().into()),
        };
    }
    match TYPES.iter().find(|kind| **kind == mount.kind) {
        Some(kind) => ExpectedSource::FileSystem(kind),
        None => ExpectedSource::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::storage::record;

    #[test]
    fn whose_they_are_and_what_they_show() {
        let spec: Spec = record::parse(
            br#"{"mounts":[
                {"destination":"/etc/hosts","type":"bind","source":"/run/x/hosts","options":["bind"]},
                {"destination":"/data","type":"bind","source":"/run/xy","options":["rbind"]},
                {"destination":"/sub","type":"bind","source":"/proc/self/fd/7"},
                {"destination":"/t","type":"tmpfs","source":"tmpfs"},
                {"destination":"/z","type":"zfs","source":"pool"},
                {"destination":"relative","type":"tmpfs"}],
                "linux":{"maskedPaths":["/proc/keys"]}}"#,
        )
        .unwrap();
        let told = expected(&spec, &[Path::new("/run/x")]);
        let told: Vec<_> = told
            .iter()
            .map(|mount| (mount.path.to_string(), mount.origin, mount.what.clone()))
            .collect();
        let host = |path: &str| ExpectedSource::HostPath(path.into());
        let declared = MountOrigin::Declared;
        assert_eq!(
            told,
            [
                (
                    "/etc/hosts".into(),
                    MountOrigin::Runtime,
                    host("/run/x/hosts")
                ),
                ("/data".into(), declared, host("/run/xy")),
                ("/sub".into(), declared, ExpectedSource::Unknown),
                ("/t".into(), declared, ExpectedSource::FileSystem("tmpfs")),
                ("/z".into(), declared, ExpectedSource::Unknown),
                ("/proc/keys".into(), MountOrigin::Runtime, host("/dev/null")),
            ]
        );
    }
}
