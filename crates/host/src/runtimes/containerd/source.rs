//! Where containerd keeps things: roots and state directories.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use plimsoll_core::model::escape;

use super::config::Config;
use super::store::Store;
use crate::fs::{Dir, RECORD_LIMIT, read_small_bytes};
use crate::runtimes::RuntimeError;
use crate::runtimes::find::Sources;

/// A containerd that may be on a machine, beneath `/` or the root of a mounted disk.
struct Place {
    config: &'static str,
    /// What stays, unless configured otherwise.
    root: &'static str,
    /// What runs, unless configured otherwise.
    state: &'static str,
}

/// The distribution's or Docker's package, and the one that k3s and RKE2 bring (k3s
/// `pkg/agent/config/config.go`).
const PLACES: [Place; 2] = [
    Place {
        config: "etc/containerd/config.toml",
        root: "var/lib/containerd",
        state: "run/containerd",
    },
    Place {
        config: "var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        root: "var/lib/rancher/k3s/agent/containerd",
        state: "run/k3s/containerd",
    },
];

/// State directories of the containerd that a Docker daemon starts itself, which it names after its own
/// (moby `cmd/dockerd`, `--exec-root`).
const OF_DOCKER: &str = "run/docker/containerd/daemon";

/// Finds the roots.
///
/// # Errors
/// [`RuntimeError::Absent`] when there is none where it was looked for, [`RuntimeError::Unavailable`]
/// when one cannot be used.
pub(in crate::runtimes) fn find(sources: &Sources) -> Result<Vec<Store>, RuntimeError> {
    let disk = sources.root.as_deref();
    if let Some(path) = &sources.data_root {
        return Ok(vec![at(path, disk)?]);
    }
    let mut found = Vec::new();
    let mut absent = Vec::new();
    for place in &PLACES {
        let config = configured(disk, place)?;
        let told = config.root.is_some();
        let (dir, path) = open(disk, config.root.as_deref().unwrap_or(place.root));
        let states = disk.is_none().then(|| states(Some(&config), place));
        match Store::of(dir, &path, disk, states, config.snapshotters) {
            Ok(store) => found.push(store),
            // Somebody said that it is there.
            Err(error) if told => return Err(error.of_what_must_be()),
            Err(RuntimeError::Absent(why)) => absent.push(why),
            Err(error) => return Err(error),
        }
    }
    match (found.is_empty(), absent.into_iter().next()) {
        (true, Some(why)) => Err(RuntimeError::Absent(why)),
        _ => Ok(found),
    }
}

/// Opens the root at a path that is given, with what is configured for it.
///
/// # Errors
/// Those of [`find`].
pub(in crate::runtimes) fn at(path: &Path, disk: Option<&Path>) -> Result<Store, RuntimeError> {
    open_at(Dir::open(path), path, disk)
}

/// The same for a directory that was opened, or could not be.
pub(in crate::runtimes) fn open_at(
    dir: rustix::io::Result<Dir>,
    path: &Path,
    disk: Option<&Path>,
) -> Result<Store, RuntimeError> {
    let place = &PLACES[0];
    // A configuration that is not about this root says nothing of it.
    let config = configured(disk, place).unwrap_or_default();
    let (_, root) = open(disk, config.root.as_deref().unwrap_or(place.root));
    let ours = root == path;
    let mut all = states(ours.then_some(&config), place);
    all.extend(
        PLACES
            .iter()
            .skip(1)
            .map(|place| Path::new("/").join(place.state)),
    );
    all.push(Path::new("/").join(OF_DOCKER));
    let snapshotters = match ours {
        true => config.snapshotters,
        false => Default::default(),
    };
    Store::of(dir, path, disk, disk.is_none().then_some(all), snapshotters)
}

fn states(config: Option<&Config>, place: &Place) -> Vec<PathBuf> {
    let told = config.and_then(|config| config.state.as_deref());
    vec![Path::new("/").join(told.unwrap_or(place.state))]
}

/// Opens a directory by a path of the machine that is looked at; returns it with its path on this one.
fn open(disk: Option<&Path>, path: &str) -> (rustix::io::Result<Dir>, PathBuf) {
    match disk {
        Some(disk) => beneath(disk, path),
        None => {
            let path = Path::new("/").join(path);
            (Dir::open(&path), path)
        }
    }
}

/// Opens a directory of a mounted disk, following no link: one of the disk must not lead to this
/// machine's own files.
pub(super) fn beneath(disk: &Path, path: &str) -> (rustix::io::Result<Dir>, PathBuf) {
    let relative = path.trim_start_matches('/');
    let opened = Dir::open(disk).and_then(|disk| disk.open_beneath(relative.as_bytes()));
    (opened, disk.join(relative))
}

/// Reads the configuration of a place; an empty one when there is none.
fn configured(disk: Option<&Path>, place: &Place) -> Result<Config, RuntimeError> {
    let bytes = match disk {
        None => read_small_bytes(Path::new("/").join(place.config)),
        Some(disk) => Dir::open(disk)
            .map_err(std::io::Error::from)
            .and_then(|dir| dir.read_file(place.config.as_bytes(), RECORD_LIMIT)),
    };
    match bytes {
        Ok(bytes) => Ok(Config::parse(&String::from_utf8_lossy(&bytes))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Config::default()),
        Err(e) => {
            let path = disk.unwrap_or(Path::new("/")).join(place.config);
            Err(RuntimeError::Unavailable(format!(
                "{}: {e}: give containerd's root with --data-root",
                escape(path.as_os_str().as_bytes())
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::METADATA;
    use super::*;

    fn disk(config: Option<&str>) -> tempfile::TempDir {
        let disk = tempfile::tempdir().unwrap();
        for root in ["var/lib/containerd", "srv/containerd"] {
            std::fs::create_dir_all(disk.path().join(root).join(METADATA)).unwrap();
        }
        std::fs::create_dir_all(disk.path().join("etc/containerd")).unwrap();
        if let Some(config) = config {
            std::fs::write(disk.path().join(PLACES[0].config), config).unwrap();
        }
        disk
    }

    fn look(disk: &Path) -> Result<Vec<PathBuf>, String> {
        let sources = Sources {
            root: Some(disk.to_owned()),
            ..Sources::default()
        };
        let found = find(&sources).map_err(|error| error.to_string())?;
        assert!(found.iter().all(|store| store.states.is_none()));
        let paths = found.iter().map(|store| store.path().strip_prefix(disk));
        Ok(paths.map(|path| path.unwrap().to_owned()).collect())
    }

    #[test]
    fn the_roots_of_a_mounted_disk() {
        for (config, root) in [
            (None, "var/lib/containerd"),
            (Some("version = 2"), "var/lib/containerd"),
            (Some("root = \"/srv/containerd\""), "srv/containerd"),
        ] {
            let disk = disk(config);
            assert_eq!(look(disk.path()).unwrap(), [Path::new(root)], "{config:?}");
        }
        let disk = disk(None);
        let k3s = PLACES[1].root;
        std::fs::create_dir_all(disk.path().join(k3s).join(METADATA)).unwrap();
        assert_eq!(
            look(disk.path()).unwrap(),
            [Path::new("var/lib/containerd"), Path::new(k3s)]
        );
    }

    #[test]
    fn a_disk_that_lies() {
        for config in [
            "root = \"/../../../var/lib/containerd\"",
            "root = \"/none\"",
        ] {
            let told = look(disk(Some(config)).path()).unwrap_err();
            assert!(told.contains("--data-root"), "{config}: {told}");
        }
        let disk = disk(None);
        std::fs::remove_dir_all(disk.path().join("var/lib")).unwrap();
        std::os::unix::fs::symlink("/var/lib", disk.path().join("var/lib")).unwrap();
        let told = look(disk.path()).unwrap_err();
        assert!(told.contains("--data-root"), "{told}");
    }

    #[test]
    fn what_is_no_root() {
        let dir = tempfile::tempdir().unwrap();
        let told = at(dir.path(), None).unwrap_err();
        assert!(matches!(told, RuntimeError::Absent(_)), "{told}");
        let told = at(&dir.path().join("none"), None).unwrap_err().to_string();
        assert!(told.contains("--data-root"), "{told}");
    }
}
