//! What Docker itself makes in a rootfs: the layer between image and container, and the targets of
//! mounts.

use plimsoll_core::model::{RootPath, RuntimePath, RuntimePathKind};

use super::record::{HostConfig, Record};
use crate::runtimes::made::{Made, clean};

/// Empty files of the init layer (moby `daemon/initlayer/setup_unix.go`). What an image has at these
/// paths is replaced.
const INIT_FILES: [&str; 5] = [
    "/.dockerenv",
    "/dev/console",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
];

/// Directories of the init layer, those above its files included.
const INIT_DIRECTORIES: [&str; 6] = ["/dev", "/dev/pts", "/dev/shm", "/etc", "/proc", "/sys"];

/// Symbolic links of the init layer.
const INIT_LINKS: [(&str, &str); 1] = [("/etc/mtab", "/proc/mounts")];

/// Where Docker mounts its own init program (moby `daemon/oci_linux.go`, `inContainerInitPath`).
pub(super) const INIT_PROGRAM: &str = "/sbin/docker-init";

/// Returns what the layer between image and container may hold: the same for every storage driver.
pub(super) fn init_layer() -> Vec<RuntimePath> {
    let files = INIT_FILES.map(|path| (path, RuntimePathKind::EmptyFile));
    let directories = INIT_DIRECTORIES.map(|path| (path, RuntimePathKind::Directory));
    let links = INIT_LINKS.map(|(path, to)| (path, RuntimePathKind::Symlink(to.into())));
    files
        .into_iter()
        .chain(directories)
        .chain(links)
        .filter_map(|(path, kind)| {
            let path = RootPath::parse(path.as_bytes()).ok()?;
            Some(RuntimePath { path, kind })
        })
        .collect()
}

/// Returns what Docker makes in the writable layer where the image does not have it: the working
/// directory, made with the container, and the targets of mounts, made when it starts.
///
/// Whether a target becomes a file or a directory depends on what is mounted there, so both are
/// named. Paths that the record gives in another form than Docker's own are left out, and so is what
/// goes beyond [`MADE_MAX`](crate::runtimes::made::MADE_MAX): what is not named here is held against the container.
pub(super) fn made_by_runtime(record: &Record, host: &HostConfig) -> Vec<RuntimePath> {
    let mut made = Made::default();
    let working_dir = record
        .config
        .as_ref()
        .map(|config| config.working_dir.as_str());
    if let Some(path) = working_dir.and_then(clean) {
        made.directory(path);
    }
    for path in targets(record, host).filter_map(clean) {
        made.directory(path.clone());
        made.file(path);
    }
    made.paths()
}

/// The targets of all mounts that the container was asked for with.
fn targets<'a>(record: &'a Record, host: &'a HostConfig) -> impl Iterator<Item = &'a str> {
    let mount_points = record
        .mount_points
        .iter()
        .flatten()
        .map(|(path, _)| path.as_str());
    let tmpfs = host.tmpfs.iter().flatten().map(|(path, _)| path.as_str());
    let mounts = host
        .mounts
        .iter()
        .flatten()
        .map(|mount| mount.target.as_str());
    let binds = host
        .binds
        .iter()
        .flatten()
        .filter_map(|bind| bind.split(':').nth(1));
    // Without a word in the record the daemon's own setting decides, which may be either.
    let init = (host.init != Some(false)).then_some(INIT_PROGRAM);
    mount_points
        .chain(tmpfs)
        .chain(mounts)
        .chain(binds)
        .chain(init)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::made::MADE_MAX;

    /// `config.v2.json` and `hostconfig.json` as dockerd 20.10.24 wrote them for
    /// `docker run -v file:/x/y/file -v dir:/p/q/dir --tmpfs /t/u --mount type=volume,dst=/m/v ..`.
    const RECORD: &[u8] = include_bytes!("testdata/mounts.config.v2.json");
    const HOST: &[u8] = include_bytes!("testdata/mounts.hostconfig.json");

    #[test]
    fn what_a_real_record_lets_docker_make() {
        let record: Record = serde_json::from_slice(RECORD).unwrap();
        let host: HostConfig = serde_json::from_slice(HOST).unwrap();
        let made = made_by_runtime(&record, &host);
        let has = |path: &str, kind: RuntimePathKind| {
            made.iter()
                .any(|p| p.path.as_bytes() == path.as_bytes() && p.kind == kind)
        };
        // The list that `find` printed of the writable layer of that container, but that names were changed.
        for directory in [
            "/app/dir",
            "/app",
            "/x",
            "/x/y",
            "/p",
            "/p/q",
            "/p/q/dir",
            "/t",
            "/t/u",
            "/m",
            "/m/v",
            "/anon/vol",
            "/vol",
            "/vol/data",
            "/etc",
            "/sbin",
        ] {
            assert!(has(directory, RuntimePathKind::Directory), "{directory}");
        }
        for file in ["/x/y/file", "/etc/hosts2", "/sbin/docker-init"] {
            assert!(has(file, RuntimePathKind::EmptyFile), "{file}");
        }
        assert!(!has("/x", RuntimePathKind::EmptyFile));
        assert!(!made.iter().any(|p| p.path.as_bytes() == b"/"));
    }

    #[test]
    fn paths_in_a_strange_form_are_left_out() {
        let record: Record = serde_json::from_str(
            r#"{"ID":"x","Config":{"WorkingDir":"/a/../../etc"},"MountPoints":{"relative":{},"/":{},"/ok":null}}"#,
        )
        .unwrap();
        let host: HostConfig = serde_json::from_str(
            r#"{"Binds":["nocolon","a:","b:/b:ro"],"Mounts":null,"Init":false}"#,
        )
        .unwrap();
        let made = made_by_runtime(&record, &host);
        let paths: Vec<_> = made.iter().map(|p| p.path.to_string()).collect();
        assert_eq!(paths, ["/b", "/ok", "/b", "/ok"]);
    }

    #[test]
    fn many_deep_paths_stay_within_bounds() {
        let deep = |n: u32| format!("\"/{n}{}\":{{}}", "/a".repeat(2000));
        let points: Vec<String> = (0..100).map(deep).collect();
        let text = format!("{{\"ID\":\"x\",\"MountPoints\":{{{}}}}}", points.join(","));
        let record: Record = serde_json::from_str(&text).unwrap();
        let made = made_by_runtime(&record, &HostConfig::default());
        let bytes: usize = made.iter().map(|made| made.path.as_bytes().len()).sum();
        assert!((MADE_MAX / 2..=MADE_MAX).contains(&bytes), "{bytes}");
    }

    #[test]
    fn the_init_layer_is_complete() {
        assert_eq!(init_layer().len(), 12);
    }
}
