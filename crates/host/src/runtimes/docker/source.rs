//! Where Docker's data root is, and whether a daemon is there to be asked.

use std::cell::RefCell;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use plimsoll_core::model::{Bytes, Gap, escape};

use super::daemons::Hints;
use super::disk::{DataRoot, RecordError, parse};
use super::live::{Api, ApiError, Inspected};
use super::record::DaemonConfig;
use crate::fs::{Dir, RECORD_LIMIT, read_small_bytes};
use crate::runtimes::RuntimeError;
use crate::runtimes::find::Sources;

/// The daemon's socket unless told otherwise.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// The daemon's configuration, beneath `/` or the root of a mounted disk.
const DAEMON_CONFIG: &str = "etc/docker/daemon.json";

/// The data root unless configured otherwise, beneath `/` or the root of a mounted disk.
const DEFAULT_DATA_ROOT: &str = "var/lib/docker";

/// What containers are looked for with.
#[derive(Debug)]
pub(super) struct Source {
    /// The data roots: one, and those of remapped daemons in it.
    pub(super) roots: Vec<DataRoot>,
    /// The daemon that uses the first of them.
    pub(super) daemon: Option<Daemon>,
    /// Whether processes of the containers are on this machine.
    pub(super) local: bool,
    /// What could not be seen on the way.
    pub(super) gaps: Vec<Gap>,
}

/// A daemon that answers.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) api: Api,
    data_root: PathBuf,
    /// The storage driver in use: it knows containers of this one alone.
    pub(super) storage: String,
    /// What it said of one container, not used yet.
    pub(super) told: RefCell<Option<Inspected>>,
}

impl Daemon {
    /// Asks where the daemon keeps its data. Of a container that is asked about by name, the answer
    /// about it mostly tells that too, many times faster than the daemon can describe itself.
    fn ask(api: Api, name: Option<&str>) -> Result<Self, (Api, ApiError)> {
        match name.map(|name| api.inspect(name)) {
            Some(Ok(told)) => {
                if let Some(data_root) = told.data_root() {
                    return Ok(Self {
                        data_root: data_root.to_owned(),
                        storage: told.storage.clone(),
                        told: RefCell::new(Some(told)),
                        api,
                    });
                }
            }
            // Nobody answers: there is no sense in asking again.
            Some(Err(error @ ApiError::Io(_))) => return Err((api, error)),
            Some(Err(_)) | None => {}
        }
        match api.info() {
            Ok(info) => Ok(Self {
                api,
                data_root: info.data_root,
                storage: info.driver,
                told: RefCell::new(None),
            }),
            Err(error) => Err((api, error)),
        }
    }
}

/// Finds the data root and the daemon. With `name` a container of this name is all that is asked for.
///
/// A data root that is given is used alone, unless a socket is given as well. Else the daemon is
/// asked where its data root is; else the daemon's configuration says it; else it is the default.
///
/// # Errors
/// [`RuntimeError::Unavailable`] when what was asked for cannot be used, with the way out, and
/// [`RuntimeError::Absent`] when nothing says that Docker is here at all.
pub(super) fn find(sources: &Sources, name: Option<&str>) -> Result<Source, RuntimeError> {
    if let Some(disk) = &sources.root {
        return offline(disk, sources.data_root.as_deref());
    }
    let mut gaps = Vec::new();
    let daemon = match (&sources.docker_host, &sources.data_root) {
        (Some(socket), _) => {
            let daemon = Daemon::ask(Api::new(socket), name)
                .map_err(|(api, error)| RuntimeError::Unavailable(api.explain(&error)))?;
            Some(daemon)
        }
        (None, Some(_)) => None,
        (None, None) => ask_if_there(Path::new(DEFAULT_SOCKET), name, &mut gaps),
    };
    let path = match (&sources.data_root, &daemon) {
        (Some(path), _) => path.clone(),
        (None, Some(daemon)) => daemon.data_root.clone(),
        (None, None) => configured(Path::new("/"), Path::new(DAEMON_CONFIG))?.1,
    };
    let roots = match path == Path::new("/").join(DEFAULT_DATA_ROOT) && daemon.is_none() {
        true => DataRoot::open_all(&path)?,
        // Somebody said that it is there.
        false => DataRoot::open_all(&path).map_err(RuntimeError::of_what_must_be)?,
    };
    let daemon = daemon.filter(|daemon| {
        let same = roots
            .iter()
            .any(|root| same_place(root.path(), &daemon.data_root));
        if !same {
            gaps.push(Gap::new(
                Bytes::from(daemon.api.shown().as_str()),
                format!(
                    "the daemon keeps its data in {}, not in {}: it was not asked further",
                    escape(daemon.data_root.as_os_str().as_bytes()),
                    escape(path.as_os_str().as_bytes()),
                ),
            ));
        }
        same
    });
    Ok(Source {
        roots,
        daemon,
        local: true,
        gaps,
    })
}

/// Asks the daemon behind a socket that nobody named. Without a socket, or with nobody behind it, the disk
/// tells all there is; a daemon that does not answer well is something that could not be seen.
fn ask_if_there(socket: &Path, name: Option<&str>, gaps: &mut Vec<Gap>) -> Option<Daemon> {
    use std::io::ErrorKind;
    match Daemon::ask(Api::new(socket), name) {
        Ok(daemon) => Some(daemon),
        Err((_, ApiError::Io(e)))
            if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            None
        }
        Err((api, error)) => {
            gaps.push(Gap::new(api.shown().as_str(), api.explain(&error)));
            None
        }
    }
}

/// Finds the data root of a mounted disk: no socket, no process.
fn offline(disk: &Path, data_root: Option<&Path>) -> Result<Source, RuntimeError> {
    let roots = match data_root {
        Some(path) => DataRoot::open_all(path)?,
        None => {
            let (_, path) = configured(disk, Path::new(DAEMON_CONFIG))?;
            // Beneath the disk with no link followed: a link of the disk must not lead to this
            // machine's own data root.
            let beneath = path.strip_prefix(disk).unwrap_or(&path);
            let dir =
                Dir::open(disk).and_then(|disk| disk.open_beneath(beneath.as_os_str().as_bytes()));
            let roots = DataRoot::open_all_in(dir, &path);
            match beneath == Path::new(DEFAULT_DATA_ROOT) {
                true => roots?,
                false => roots.map_err(RuntimeError::of_what_must_be)?,
            }
        }
    };
    Ok(Source {
        roots,
        daemon: None,
        local: false,
        gaps: Vec::new(),
    })
}

/// Returns a daemon's configuration on `disk`, and the data root that it names, or the default.
fn configured(disk: &Path, file: &Path) -> Result<(DaemonConfig, PathBuf), RuntimeError> {
    let config = disk.join(file);
    let bytes = if disk == Path::new("/") {
        read_small_bytes(&config)
    } else {
        Dir::open(disk)
            .map_err(std::io::Error::from)
            .and_then(|dir| dir.read_file(file.as_os_str().as_bytes(), RECORD_LIMIT))
    };
    let config: DaemonConfig = match bytes {
        Ok(bytes) => parse(&bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(DaemonConfig::default()),
        Err(e) => Err(RecordError::from(e)),
    }
    .map_err(|error| {
        let why = match error {
            RecordError::Broken(why) => why,
            RecordError::Absent => "gone".into(),
        };
        RuntimeError::Unavailable(format!(
            "{}: {why}: give the data root with --data-root",
            escape(config.as_os_str().as_bytes())
        ))
    })?;
    let path = config.data_root().unwrap_or(DEFAULT_DATA_ROOT);
    let path = disk.join(path.trim_start_matches('/'));
    Ok((config, path))
}

/// A daemon that runs: where it listens and keeps its data, by its command line and its configuration.
#[derive(Debug)]
pub(super) struct Running {
    socket: PathBuf,
    data_root: PathBuf,
}

impl Running {
    /// Reads the configuration that a command line names.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when it cannot be read.
    pub(super) fn of(hints: &Hints) -> Result<Self, RuntimeError> {
        let file = hints.config.as_deref().unwrap_or(Path::new(DAEMON_CONFIG));
        let (config, configured) = configured(Path::new("/"), file)?;
        let hosts = hints.hosts.iter().map(String::as_str).chain(config.hosts());
        let socket = hosts
            .filter_map(|host| host.strip_prefix("unix://"))
            .find(|path| path.starts_with('/'))
            .unwrap_or(DEFAULT_SOCKET);
        Ok(Self {
            socket: socket.into(),
            data_root: hints.data_root.clone().unwrap_or(configured),
        })
    }

    /// Whether everything that it could tell is known by the Docker that the defaults lead to.
    pub(super) fn is(&self, first: &Source) -> bool {
        let mut roots = first.roots.iter();
        roots.any(|root| same_place(root.path(), &self.data_root))
            && (first.daemon.is_some() || same_place(&self.socket, Path::new(DEFAULT_SOCKET)))
    }

    /// Asks it.
    pub(super) fn ask(self) -> Asked {
        let mut gaps = Vec::new();
        Asked {
            daemon: ask_if_there(&self.socket, None, &mut gaps),
            data_root: self.data_root,
            gaps,
        }
    }
}

/// A daemon that runs, once it was asked.
#[derive(Debug)]
pub(super) struct Asked {
    daemon: Option<Daemon>,
    /// Its data root, unless it says otherwise itself.
    data_root: PathBuf,
    gaps: Vec<Gap>,
}

impl Asked {
    /// Opens its data root.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when there is none.
    pub(super) fn open(self) -> Result<Source, RuntimeError> {
        let told = self.daemon.as_ref().map(|daemon| &daemon.data_root);
        let roots = DataRoot::open_all(told.unwrap_or(&self.data_root))
            .map_err(RuntimeError::of_what_must_be)?;
        Ok(Source {
            roots,
            daemon: self.daemon,
            local: true,
            gaps: self.gaps,
        })
    }
}

/// Whether two paths lead to one place.
pub(super) fn same_place(a: &Path, b: &Path) -> bool {
    a == b
        || matches!(
            (std::fs::canonicalize(a), std::fs::canonicalize(b)),
            (Ok(a), Ok(b)) if a == b
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(config: Option<&str>) -> tempfile::TempDir {
        let disk = tempfile::tempdir().unwrap();
        for dir in [
            "var/lib/docker/containers",
            "srv/docker/containers",
            "etc/docker",
        ] {
            std::fs::create_dir_all(disk.path().join(dir)).unwrap();
        }
        if let Some(config) = config {
            std::fs::write(disk.path().join(DAEMON_CONFIG), config).unwrap();
        }
        disk
    }

    fn look(disk: &Path) -> Result<PathBuf, String> {
        let sources = Sources {
            root: Some(disk.to_owned()),
            // Never asked when a disk is given.
            docker_host: Some("/nonexistent/docker.sock".into()),
            ..Sources::default()
        };
        let source = find(&sources, None).map_err(|e| e.to_string())?;
        assert!(source.daemon.is_none() && !source.local);
        Ok(source.roots[0]
            .path()
            .strip_prefix(disk)
            .unwrap()
            .to_owned())
    }

    #[test]
    fn the_data_root_of_a_mounted_disk() {
        for (config, root) in [
            (None, "var/lib/docker"),
            (Some("{}"), "var/lib/docker"),
            (Some(r#"{"data-root": "/srv/docker"}"#), "srv/docker"),
            (
                Some(r#"{"graph": "/srv/docker", "debug": true}"#),
                "srv/docker",
            ),
        ] {
            let disk = disk(config);
            assert_eq!(look(disk.path()).unwrap(), Path::new(root), "{config:?}");
        }
    }

    #[test]
    fn a_disk_that_lies() {
        for (config, why) in [
            ("{", "not a record of Docker's"),
            (r#"{"data-root": 5}"#, "not a record of Docker's"),
            (
                r#"{"data-root": "/../../../var/lib/docker"}"#,
                "--data-root",
            ),
            (r#"{"data-root": "/none"}"#, "--data-root"),
        ] {
            let disk = disk(Some(config));
            let told = look(disk.path()).unwrap_err();
            assert!(told.contains(why), "{config}: {told}");
        }
        let disk = disk(None);
        std::fs::remove_dir_all(disk.path().join("var/lib")).unwrap();
        std::os::unix::fs::symlink("/var/lib", disk.path().join("var/lib")).unwrap();
        let told = look(disk.path()).unwrap_err();
        assert!(told.contains("--data-root"), "{told}");
    }

    #[test]
    fn a_socket_that_is_given_must_answer() {
        let dir = tempfile::tempdir().unwrap();
        let sources = |socket: &Path| Sources {
            docker_host: Some(socket.to_owned()),
            data_root: Some(dir.path().to_owned()),
            ..Sources::default()
        };
        let told = find(&sources(&dir.path().join("none")), None)
            .unwrap_err()
            .to_string();
        assert!(told.starts_with("there is no socket"), "{told}");
        let dead = dir.path().join("dead");
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        let told = find(&sources(&dead), Some("web")).unwrap_err().to_string();
        assert!(told.starts_with("nobody answers at"), "{told}");
    }
}
