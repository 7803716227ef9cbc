//! What Docker mounts over the rootfs of a container, by the container's own record.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use plimsoll_core::model::{Bytes, ExpectedMount, ExpectedSource, MountOrigin, RootPath};

use super::injected::INIT_PROGRAM;
use super::record::{HostConfig, MountPoint, Record, Reference};

/// Where distributions and Docker's own packages put the init program (moby
/// `dockerversion.DefaultInitBinary`, looked up on the daemon's `PATH` and in its library
/// directories).
const INIT_PROGRAMS: [&str; 7] = [
    "/usr/bin/docker-init",
    "/usr/sbin/docker-init",
    "/usr/local/bin/docker-init",
    "/usr/libexec/docker/docker-init",
    "/usr/local/libexec/docker/docker-init",
    "/usr/lib/docker/docker-init",
    "/usr/local/lib/docker/docker-init",
];

/// Returns the mounts that a container is expected to have, but for [`init_program`]. Paths in another form than Docker's own
/// are left out: what is not named here is held against the container.
pub(super) fn expected(root: &Path, record: &Record, host: &HostConfig) -> Vec<ExpectedMount> {
    let mut mounts = Vec::new();
    let mut add = |path: &str, origin, what| {
        if let Ok(path) = RootPath::parse(path.as_bytes()) {
            mounts.push(ExpectedMount { path, origin, what });
        }
    };
    for (path, file) in [
        ("/etc/resolv.conf", &record.resolv_conf_path),
        ("/etc/hostname", &record.hostname_path),
        ("/etc/hosts", &record.hosts_path),
    ] {
        let file = ExpectedSource::HostPath(file.as_str().into());
        add(path, MountOrigin::Runtime, file);
    }
    // Swarm's secrets and configurations, which the daemon writes to memory of its own.
    for (base, references) in [("/run/secrets/", &record.secrets), ("/", &record.configs)] {
        for file in references.iter().flatten().filter_map(Reference::file) {
            let path = match file.starts_with('/') {
                true => file.to_owned(),
                false => format!("{base}{file}"),
            };
            add(&path, MountOrigin::Declared, ExpectedSource::Unknown);
        }
    }
    for (path, point) in record.mount_points.iter().flatten() {
        let what = match point {
            Some(point) => source(root, point),
            None => ExpectedSource::Unknown,
        };
        add(path, MountOrigin::Declared, what);
    }
    let asked = host.mounts.iter().flatten();
    let tmpfs = asked
        .filter(|mount| mount.kind == "tmpfs")
        .map(|m| m.target.as_str());
    let paths = host.tmpfs.iter().flatten().map(|(path, _)| path.as_str());
    for path in tmpfs.chain(paths) {
        let what = ExpectedSource::FileSystem("tmpfs");
        add(path, MountOrigin::Declared, what);
    }
    mounts
}

/// Returns the mounts of the program that Docker puts before a container's own: the daemon may have been
/// told so for all of them, of which no record of a container tells.
pub(super) fn init_program(host: &HostConfig) -> Vec<ExpectedMount> {
    let (Ok(path), true) = (
        RootPath::parse(INIT_PROGRAM.as_bytes()),
        host.init != Some(false),
    ) else {
        return Vec::new();
    };
    let of = |program: &str| ExpectedMount {
        path: path.clone(),
        origin: MountOrigin::Runtime,
        what: ExpectedSource::HostPath(program.into()),
    };
    INIT_PROGRAMS.into_iter().map(of).collect()
}

fn source(root: &Path, point: &MountPoint) -> ExpectedSource {
    match point.kind.as_str() {
        "tmpfs" => ExpectedSource::FileSystem("tmpfs"),
        "bind" => ExpectedSource::HostPath(point.source.as_str().into()),
        // A volume's path is written down only once it was used.
        "volume" | "" if point.driver == "local" && !point.name.contains('/') => {
            let path = root.join("volumes").join(&point.name).join("_data");
            ExpectedSource::HostPath(Bytes::from(path.as_os_str().as_bytes()))
        }
        _ if !point.source.is_empty() => ExpectedSource::HostPath(point.source.as_str().into()),
        _ => ExpectedSource::Unknown,
    }
}
