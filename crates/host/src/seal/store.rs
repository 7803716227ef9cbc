//! Where seals are kept: a file each, which appears whole or not at all.
//!
//! A seal is there once [`Store::put`] has returned, whatever happens to this process or to the machine
//! then: the file and the directory that names it were written out. What is found in the place of a store
//! and could have been written by somebody else than this user is never read.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use plimsoll_core::model::escape;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::record::{LENGTH_MAX, Record};

/// Where Plimsoll keeps what it remembers, when nothing else is said.
const STATE: &str = "/var/lib/plimsoll";

/// The directory in it that holds the seals.
const SEALS: &str = "seals";

/// The name of a seal that is being written.
const UNFINISHED: &str = ".new";

/// Why seals cannot be kept or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else could have written it.
    #[error(
        "{path} is not trusted: {why}. Remove it, or name another directory with --state, and run plimsoll image seal again"
    )]
    NotTrusted {
        /// The file or directory, escaped.
        path: String,
        /// Why.
        why: String,
    },
    /// It is no seal, or not of this layer.
    #[error(
        "{0} is damaged, or belongs to another layer: remove it, and run plimsoll image seal again"
    )]
    Damaged(String),
    /// It cannot be read or written.
    #[error("{path}: {}", std::io::Error::from(*.errno))]
    Io {
        /// The file or directory, escaped.
        path: String,
        /// Why.
        errno: Errno,
    },
}

/// The place where seals are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    state: PathBuf,
}

impl Default for Store {
    fn default() -> Self {
        Self::at(Path::new(STATE))
    }
}

impl Store {
    /// Returns the store in a directory, which need not be there.
    #[must_use]
    pub fn at(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
        }
    }

    /// Returns the directory that holds the seals.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.state.join(SEALS)
    }

    /// Whether there is none: nothing was sealed yet.
    pub(super) fn is_absent(&self) -> bool {
        let found = std::fs::symlink_metadata(self.directory());
        found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    }

    /// Returns the seal of the layer at `layer`; `None` when it has none.
    pub(super) fn get(&self, layer: &Path) -> Result<Option<Record>, StoreError> {
        if self.is_absent() {
            return Ok(None);
        }
        self.trusted()?;
        let directory = self.directory();
        let path = directory.join(name(layer));
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => std::fs::File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(io(&path, errno)),
        };
        let metadata = file.metadata().map_err(|error| failed(&path, &error))?;
        is_ours(&path, &metadata)?;
        let mut bytes = vec![0; LENGTH_MAX + 1];
        let length = match metadata.is_file() {
            true => crate::fs::read_at(&file, &mut bytes, 0).map_err(|errno| io(&path, errno))?,
            false => 0,
        };
        let bytes = bytes.get(..length).unwrap_or_default();
        match Record::decode(bytes, layer) {
            Some(record) => Ok(Some(record)),
            None => Err(StoreError::Damaged(shown(&path))),
        }
    }

    /// Keeps the seal of the layer at `layer`, in the place of the one that it may have.
    pub(super) fn put(&self, layer: &Path, record: &Record) -> Result<(), StoreError> {
        let directory = self.directory();
        let unfinished = directory.join(UNFINISHED);
        let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle =
            rustix::fs::open(&directory, open, Mode::empty()).map_err(|e| io(&directory, e))?;
        // One writes at a time: the name of what is not finished is the same for all.
        rustix::fs::flock(&handle, FlockOperation::LockExclusive)
            .map_err(|errno| io(&directory, errno))?;
        let write = || -> std::io::Result<()> {
            let flags = OFlags::WRONLY
                | OFlags::CREATE
                | OFlags::TRUNC
                | OFlags::NOFOLLOW
                | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            let mut file =
                std::fs::File::from(rustix::fs::openat(&handle, UNFINISHED, flags, mode)?);
            file.write_all(&record.encode(layer))?;
            file.sync_all()?;
            rustix::fs::renameat(&handle, UNFINISHED, &handle, name(layer))?;
            rustix::fs::fsync(&handle)?;
            Ok(())
        };
        write().map_err(|error| failed(&unfinished, &error))
    }

    /// Makes the store where there is none.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be made, or what is there is not trusted.
    pub fn make(&self) -> Result<(), StoreError> {
        let directory = self.directory();
        for (path, all) in [(&self.state, true), (&directory, false)] {
            let made = std::fs::DirBuilder::new()
                .recursive(all)
                .mode(0o700)
                .create(path);
            match made {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(failed(path, &error));
                }
                _ => {}
            }
        }
        self.trusted()?;
        // Both names are to be there after a fall of the machine as well.
        for path in [Some(&*self.state), self.state.parent()]
            .into_iter()
            .flatten()
        {
            let dir = match path.as_os_str().is_empty() {
                true => Path::new("."),
                false => path,
            };
            std::fs::File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(|error| failed(dir, &error))?;
        }
        Ok(())
    }

    /// Whether nobody else could have written what lies in the store.
    fn trusted(&self) -> Result<(), StoreError> {
        for path in [&self.state, &self.directory()] {
            let metadata = std::fs::symlink_metadata(path).map_err(|error| failed(path, &error))?;
            if !metadata.is_dir() {
                let why = "it is no directory".into();
                let path = shown(path);
                return Err(StoreError::NotTrusted { path, why });
            }
            is_ours(path, &metadata)?;
        }
        Ok(())
    }
}

/// Whether a file or directory belongs to this user, and nobody else may write to it.
fn is_ours(path: &Path, metadata: &std::fs::Metadata) -> Result<(), StoreError> {
    let me = rustix::process::geteuid().as_raw();
    let why = if metadata.uid() != me {
        format!("it belongs to user {}, not to {me}", metadata.uid())
    } else if metadata.mode() & 0o022 != 0 {
        format!(
            "others may write to it, by its mode {:04o}",
            metadata.mode() & 0o7777
        )
    } else {
        return Ok(());
    };
    let path = shown(path);
    Err(StoreError::NotTrusted { path, why })
}

/// Returns the name of the file that holds a layer's seal.
fn name(layer: &Path) -> String {
    let hash = Sha256::digest(layer.as_os_str().as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).into_owned()
}

fn io(path: &Path, errno: Errno) -> StoreError {
    let path = shown(path);
    StoreError::Io { path, errno }
}

fn failed(path: &Path, error: &std::io::Error) -> StoreError {
    io(path, Errno::from_io_error(error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::seal::mark::Mark;

    fn record(byte: u8) -> Record {
        Record {
            identity: [byte; 32],
            mark: Mark::Entries([byte; 32]),
        }
    }

    #[test]
    fn seals_are_kept_and_replaced() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::at(&state.path().join("deep/state"));
        let (a, b) = (Path::new("/a"), Path::new("/b"));
        assert_eq!(store.get(a).unwrap(), None);
        store.make().unwrap();
        store.make().unwrap();
        assert_eq!(store.get(a).unwrap(), None);
        store.put(a, &record(1)).unwrap();
        store.put(b, &record(2)).unwrap();
        store.put(a, &record(3)).unwrap();
        assert_eq!(store.get(a).unwrap(), Some(record(3)));
        assert_eq!(store.get(b).unwrap(), Some(record(2)));
        let names = std::fs::read_dir(store.directory()).unwrap().count();
        assert_eq!(names, 2);
    }

    #[test]
    fn what_was_left_unfinished_is_no_seal_and_in_nobodys_way() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::at(state.path());
        store.make().unwrap();
        let a = Path::new("/a");
        let bytes = record(1).encode(a);
        std::fs::write(store.directory().join(UNFINISHED), &bytes[..50]).unwrap();
        assert_eq!(store.get(a).unwrap(), None);
        store.put(a, &record(1)).unwrap();
        assert_eq!(store.get(a).unwrap(), Some(record(1)));
    }

    #[test]
    fn what_is_damaged_or_anothers_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::at(state.path());
        store.make().unwrap();
        let a = Path::new("/a");
        store.put(a, &record(1)).unwrap();
        let seal = store.directory().join(name(a));
        let good = std::fs::read(&seal).unwrap();
        let refused = |why: &str| {
            let error = store.get(a).unwrap_err().to_string();
            assert!(
                error.contains(why) && error.contains("image seal"),
                "{error}"
            );
        };

        std::fs::write(&seal, &good[..good.len() - 1]).unwrap();
        refused("is damaged");
        std::fs::write(&seal, []).unwrap();
        refused("is damaged");
        std::fs::write(&seal, record(1).encode(Path::new("/b"))).unwrap();
        refused("is damaged");
        std::fs::write(&seal, &good).unwrap();

        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for path in [&seal, &store.directory(), &store.state] {
            mode(path, 0o770);
            refused("others may write to it");
            assert_eq!(path == &seal, store.make().is_ok());
            mode(path, 0o700);
        }
        assert_eq!(store.get(a).unwrap(), Some(record(1)));

        let elsewhere = state.path().join("elsewhere");
        std::fs::rename(store.directory(), &elsewhere).unwrap();
        symlink(&elsewhere, store.directory()).unwrap();
        refused("it is no directory");
        std::fs::remove_file(store.directory()).unwrap();
        std::fs::rename(&elsewhere, store.directory()).unwrap();

        std::fs::remove_file(&seal).unwrap();
        symlink("/etc/passwd", &seal).unwrap();
        assert!(matches!(store.get(a), Err(StoreError::Io { .. })));
    }
}
