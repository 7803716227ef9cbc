//! The data root on disk: the primary source, because it covers both classic drivers and every
//! state, with the daemon alive or dead.

use std::num::NonZero;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_core::model::{Algorithm, ContainerId, DiffId, Digest, ImageId, escape};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::memo::{Chain, Memo, Overlays};
use super::record::{HostConfig, Record};
use crate::fs::{Dir, RECORD_LIMIT, Stat};
use crate::layers::btrfs::Home;
use crate::parallel::{self, thread_count};
use crate::runtimes::RuntimeError;
use crate::runtimes::image_config::ImageConfig;

/// The directory of the overlay layers.
pub(super) const OVERLAYS: &str = "overlay2";

/// The directory of the subvolumes of layers.
pub(super) const SUBVOLUMES: &str = "btrfs/subvolumes";

/// Containers from which on threads read their records, these at most, and how many records one takes at a
/// time: starting a thread costs as much as reading five.
const MANY: usize = 64;
const THREADS_MAX: usize = 4;
const BUNDLE: usize = 16;

/// One data root of Docker.
#[derive(Debug)]
pub(super) struct DataRoot {
    dir: Dir,
    path: PathBuf,
    /// The directory that it is in, when it is that of a remapped daemon.
    beside: Option<Dir>,
    /// What of it holds for many containers.
    pub(super) memo: Memo,
}

/// Why a record cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RecordError {
    /// There is no such record (any more).
    Absent,
    /// It is there, and this is wrong with it: one clause.
    Broken(String),
}

impl RecordError {
    /// Says of which file or directory it is, which must exist.
    pub(super) fn of(self, path: &str) -> Self {
        match self {
            Self::Absent => Self::Broken(format!("{path} is missing")),
            Self::Broken(why) => Self::Broken(format!("{path}: {why}")),
        }
    }
}

impl From<std::io::Error> for RecordError {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => Self::Absent,
            Some(Errno::LOOP | Errno::XDEV) => {
                Self::Broken("a link stands in its path, which Docker never makes".into())
            }
            Some(Errno::NOTDIR) => {
                Self::Broken("not a directory, a link or a file stands there".into())
            }
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl From<Errno> for RecordError {
    fn from(errno: Errno) -> Self {
        std::io::Error::from(errno).into()
    }
}

impl DataRoot {
    /// Opens the data root at `path`, and those of remapped daemons in it.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when it cannot be read, [`RuntimeError::Absent`] when it is none.
    pub(super) fn open_all(path: &Path) -> Result<Vec<Self>, RuntimeError> {
        Self::open_all_in(Dir::open(path), path)
    }

    /// The same for a directory that was opened, or could not be; `path` is to show.
    ///
    /// With `userns-remap` Docker keeps everything in `<root>/<uid>.<gid>` (moby
    /// `daemon/daemon_unix.go`, `setupDaemonRoot`), and both can hold containers.
    pub(super) fn open_all_in(
        dir: rustix::io::Result<Dir>,
        path: &Path,
    ) -> Result<Vec<Self>, RuntimeError> {
        let shown = escape(path.as_os_str().as_bytes()).into_owned();
        let unreadable = |errno: Errno| {
            let way_out = match errno {
                Errno::ACCESS | Errno::PERM => "run as root",
                Errno::IO => "see that the disk is sound",
                _ => {
                    "give the directory itself with --data-root, as docker info tells it under \"Docker Root Dir\""
                }
            };
            let why = format!(
                "Docker's data root {shown}: {}: {way_out}",
                std::io::Error::from(errno)
            );
            match errno {
                Errno::NOENT => RuntimeError::Absent(why),
                _ => RuntimeError::Unavailable(why),
            }
        };
        let root = Self {
            dir: dir.map_err(unreadable)?,
            path: path.to_owned(),
            beside: None,
            memo: Memo::default(),
        };
        let mut roots = Vec::new();
        for name in root.names(b".").map_err(unreadable)? {
            if is_remapped(&name) {
                roots.push(Self {
                    dir: root.dir.child(&name).map_err(unreadable)?,
                    path: root.path.join(std::ffi::OsStr::from_bytes(&name)),
                    beside: Some(root.open(".").map_err(unreadable)?),
                    memo: Memo::default(),
                });
            }
        }
        roots.insert(0, root);
        let mut found = Vec::with_capacity(roots.len());
        for root in roots {
            match root.dir.stat(b"containers") {
                Ok(_) => found.push(root),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(unreadable(errno)),
            }
        }
        if found.is_empty() {
            return Err(RuntimeError::Absent(format!(
                "{shown} is not a data root of Docker, it holds no directory \"containers\": give the right one with --data-root, as docker info tells it under \"Docker Root Dir\""
            )));
        }
        Ok(found)
    }

    /// Returns its path, to show.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the host path of something in it, to show.
    pub(super) fn show(&self, relative: &str) -> PathBuf {
        self.path.join(relative)
    }

    /// Opens a directory in it, without following a link.
    pub(super) fn open(&self, relative: &str) -> Result<Dir, Errno> {
        self.dir.open_beneath(relative.as_bytes())
    }

    /// Opens a directory of an overlay layer. All of them are seen through one view, in which reading
    /// leaves no access time behind: for a link that takes a view, and there is one in every container's
    /// init layer.
    pub(super) fn overlay_dir(&self, relative: &str) -> Result<Dir, RecordError> {
        let overlays = self.overlays()?;
        let whole = |error: Errno| RecordError::from(error).of(&format!("{OVERLAYS}/{relative}"));
        if let Some((view, mount)) = &overlays.view {
            let dir = view.open_beneath(relative.as_bytes()).map_err(whole)?;
            // What is mounted over it is not in the view.
            if overlays.dir.is_on_mount(relative.as_bytes(), *mount) {
                return Ok(dir);
            }
        }
        let dir = overlays.dir.open_beneath(relative.as_bytes());
        dir.map_err(whole)
    }

    /// Returns the directory that holds the overlay layers.
    pub(super) fn overlays(&self) -> Result<&Overlays, RecordError> {
        if let Some(known) = self.memo.overlays.get() {
            return Ok(known);
        }
        let dir = self.need(OVERLAYS)?;
        // Without a view, what needs it says so.
        let view = dir.view().unwrap_or_default();
        let view = view.and_then(|view| Some((view, dir.known_identity().ok()?.mount)));
        Ok(self.memo.overlays.get_or_init(|| Overlays { dir, view }))
    }

    /// Returns the directory of the subvolumes of layers, and where that is.
    pub(super) fn subvolumes(&self) -> Result<&(Arc<Dir>, Home), RecordError> {
        if let Some(known) = self.memo.subvolumes.get() {
            return Ok(known);
        }
        let dir = self.need(SUBVOLUMES)?;
        let home = Home::of(&dir)
            .map_err(|error| RecordError::Broken(format!("{SUBVOLUMES}: {error}")))?;
        Ok(self.memo.subvolumes.get_or_init(|| (Arc::new(dir), home)))
    }

    /// Returns the directory of the records of containers.
    fn containers(&self) -> Result<&Dir, Errno> {
        if let Some(known) = self.memo.containers.get() {
            return Ok(known);
        }
        let dir = self.open("containers")?;
        Ok(self.memo.containers.get_or_init(|| dir))
    }

    /// Returns the directory of a storage driver's layer database that has containers.
    pub(super) fn mounts(&self, driver: &str) -> Result<Rc<Dir>, Errno> {
        self.database(&format!("image/{driver}/layerdb/mounts"))
    }

    /// Returns the directory of a storage driver's layer database that has the layers of images.
    pub(super) fn layers(&self, driver: &str) -> Result<Rc<Dir>, Errno> {
        self.database(&format!("image/{driver}/layerdb/sha256"))
    }

    fn database(&self, relative: &str) -> Result<Rc<Dir>, Errno> {
        self.memo.database(relative, || self.open(relative))
    }

    /// Opens the directory in it that is at a path of the host, as [`DataRoot::show`] gives it.
    pub(super) fn open_shown(&self, path: &Path) -> Option<Dir> {
        let relative = path.strip_prefix(&self.path).ok()?;
        self.dir.open_beneath(relative.as_os_str().as_bytes()).ok()
    }

    /// Reads a small record in it, without following a link.
    pub(super) fn read(&self, relative: &str) -> Result<Vec<u8>, RecordError> {
        Ok(self.dir.read_file(relative.as_bytes(), RECORD_LIMIT)?)
    }

    /// Opens a directory that a container must have.
    ///
    /// # Errors
    /// [`RecordError::Broken`] with the path, also when it is missing.
    pub(super) fn need(&self, relative: &str) -> Result<Dir, RecordError> {
        self.open(relative)
            .map_err(|errno| RecordError::from(errno).of(relative))
    }

    /// Opens a directory in the one that it is in, without following a link.
    pub(super) fn open_beside(&self, relative: &str) -> Result<Dir, Errno> {
        match &self.beside {
            Some(beside) => beside.open_beneath(relative.as_bytes()),
            None => Err(Errno::NOENT),
        }
    }

    /// Returns what a directory at its top is.
    pub(super) fn stat(&self, name: &str) -> Result<Stat, RecordError> {
        Ok(self.dir.stat(name.as_bytes())?)
    }

    /// Whether it is the data root of a remapped daemon.
    pub(super) fn is_remapped(&self) -> bool {
        self.path
            .file_name()
            .is_some_and(|name| is_remapped(name.as_bytes()))
    }

    /// Returns the names in one of its directories.
    fn names(&self, relative: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        names_in(&self.dir.open_beneath(relative)?)
    }

    /// Returns what lies in `containers`: names of the form of a container id, and other names.
    pub(super) fn container_ids(&self) -> Result<(Vec<ContainerId>, Vec<Vec<u8>>), RecordError> {
        let mut ids = Vec::new();
        let mut others = Vec::new();
        for name in names_in(self.containers()?)? {
            match container_id(&name) {
                Some(id) => ids.push(id),
                None => others.push(name),
            }
        }
        Ok((ids, others))
    }

    /// Whether a container of this id has a record here.
    ///
    /// # Errors
    /// [`RecordError::Broken`] when that cannot be known.
    pub(super) fn has(&self, id: &ContainerId) -> Result<bool, RecordError> {
        match self.containers()?.stat(id.as_str().as_bytes()) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads a container's record, or returns the one that was read from the very file that is there.
    /// Docker writes a record by renaming a new file over the old one (moby `daemon/container`,
    /// `CheckpointTo`), so that one file is one record.
    pub(super) fn record(&self, id: &ContainerId) -> Result<Rc<Record>, RecordError> {
        if let Some(record) = self.record_as_read(id) {
            return Ok(record);
        }
        self.parse_record(id, read_record(self.containers()?, id)?)
    }

    /// Reads the records of containers, in several threads where there are many: it is the only thing about
    /// them that is done before the first of them, by its name, can be compared.
    pub(super) fn records(
        &self,
        ids: &[ContainerId],
        jobs: Option<NonZero<usize>>,
    ) -> Vec<Result<Rc<Record>, RecordError>> {
        let threads = match ids.len() < MANY {
            true => 1,
            false => thread_count(jobs).min(THREADS_MAX),
        };
        let containers = match self.containers() {
            Ok(containers) if threads > 1 => containers,
            _ => return ids.iter().map(|id| self.record(id)).collect(),
        };
        let order: Vec<usize> = (0..ids.len().div_ceil(BUNDLE)).collect();
        let threads = NonZero::new(threads).unwrap_or(NonZero::<usize>::MIN);
        let bundles = parallel::each(&order, order.len(), threads, |bundle| {
            let ids = ids.iter().skip(bundle * BUNDLE).take(BUNDLE);
            ids.map(|id| decoded(id, read_record(containers, id)?))
                .collect::<Vec<_>>()
        });
        // What a thread that ended has left is read here.
        let read = bundles.into_iter().flat_map(|bundle| match bundle {
            Some(bundle) => bundle.into_iter().map(Some).collect::<Vec<_>>(),
            None => std::iter::repeat_with(|| None).take(BUNDLE).collect(),
        });
        let records = ids.iter().zip(read).map(|(id, read)| match read {
            Some(read) => read.map(|(record, file)| self.memo.keep_record(id, file, record)),
            None => self.record(id),
        });
        records.collect()
    }

    fn parse_record(
        &self,
        id: &ContainerId,
        read: (Vec<u8>, Stat),
    ) -> Result<Rc<Record>, RecordError> {
        let (record, file) = decoded(id, read)?;
        Ok(self.memo.keep_record(id, file, record))
    }

    /// Returns a container's record if it can have this name.
    ///
    /// Docker's names are made of characters that stand for themselves in JSON (moby
    /// `daemon/names/names.go`), so that most records need not be parsed to know.
    pub(super) fn record_named(
        &self,
        id: &ContainerId,
        name: &str,
    ) -> Result<Option<Rc<Record>>, RecordError> {
        let (bytes, file) = read_record(self.containers()?, id)?;
        let mut texts = bytes.split(|b| *b == b'"');
        if !texts.any(|text| text.strip_prefix(b"/").unwrap_or(text) == name.as_bytes()) {
            return Ok(None);
        }
        self.parse_record(id, (bytes, file)).map(Some)
    }

    /// Returns a container's record if it was read before and the file is still the one that it was
    /// read from.
    pub(super) fn record_as_read(&self, id: &ContainerId) -> Option<Rc<Record>> {
        let containers = self.containers().ok()?;
        let is_still = |file: &Stat| containers.is_still(record_path(id).as_bytes(), file);
        self.memo.record(id, is_still)
    }

    /// Reads what the host was asked to do for a container.
    pub(super) fn host_config(&self, id: &ContainerId) -> Result<HostConfig, RecordError> {
        let path = format!("{id}/hostconfig.json");
        let bytes = self
            .containers()?
            .read_file(path.as_bytes(), RECORD_LIMIT)?;
        parse(&bytes)
    }

    /// Returns an image's layers, the base first, from its configuration, which is proved to be the
    /// one that the id names.
    pub(super) fn image_layers(
        &self,
        driver: &str,
        image: &ImageId,
    ) -> Result<Rc<Chain>, RecordError> {
        let read = || self.read_image_layers(driver, image);
        self.memo.image(image, read)
    }

    /// Returns the ids of the images whose configurations are here, and ignores other names.
    pub(super) fn image_ids(&self, driver: &str) -> Result<Vec<ImageId>, RecordError> {
        let names = self.names(format!("image/{driver}/imagedb/content/sha256").as_bytes())?;
        let id = |name: Vec<u8>| {
            format!("sha256:{}", String::from_utf8(name).ok()?)
                .parse()
                .ok()
        };
        let mut ids: Vec<ImageId> = names.into_iter().filter_map(id).collect();
        ids.sort_by_key(|id| id.digest().hex());
        Ok(ids)
    }

    fn read_image_layers(&self, driver: &str, image: &ImageId) -> Result<Vec<DiffId>, RecordError> {
        let hex = image.digest().hex();
        let bytes = self.read(&format!("image/{driver}/imagedb/content/sha256/{hex}"))?;
        let actual = Digest::new(Algorithm::Sha256, &Sha256::digest(&bytes));
        if actual.as_ref() != Some(image.digest()) {
            return Err(RecordError::Broken(
                "its SHA-256 is not the image id: the configuration was altered".into(),
            ));
        }
        let config: ImageConfig = parse(&bytes)?;
        Ok(config.into_layers())
    }
}

/// Reads the record of a container among those of all.
fn read_record(containers: &Dir, id: &ContainerId) -> Result<(Vec<u8>, Stat), RecordError> {
    Ok(containers.read_file_of(record_path(id).as_bytes(), RECORD_LIMIT)?)
}

/// Decodes the record of a container, read from this file.
fn decoded(
    id: &ContainerId,
    (bytes, file): (Vec<u8>, Stat),
) -> Result<(Record, Stat), RecordError> {
    let record: Record = parse(&bytes)?;
    if record.id != id.as_str() {
        return Err(RecordError::Broken(format!(
            "it is the record of another container, \"{}\"",
            escape(record.id.as_bytes())
        )));
    }
    Ok((record, file))
}

/// Returns the names in a directory.
fn names_in(dir: &Dir) -> Result<Vec<Vec<u8>>, Errno> {
    let mut reader = dir.reader(0)?;
    let mut names = Vec::new();
    while reader.next_portion(|name| names.push(name.to_vec()))? {}
    Ok(names)
}

/// Returns where the record of a container lies among those of all.
fn record_path(id: &ContainerId) -> String {
    format!("{id}/config.v2.json")
}

/// Parses a record of Docker's.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    serde_json::from_slice(bytes).map_err(|e| {
        RecordError::Broken(format!(
            "not a record of Docker's: {}",
            escape(e.to_string().as_bytes())
        ))
    })
}

/// Returns a container id if the name has the form of one: 64 lower-case hexadecimal digits.
pub(super) fn container_id(name: &[u8]) -> Option<ContainerId> {
    let text = std::str::from_utf8(name).ok()?;
    let is_id = text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    is_id.then(|| ContainerId::new(text.to_owned()))
}

/// Whether a name has the form `<uid>.<gid>`.
pub(super) fn is_remapped(name: &[u8]) -> bool {
    let mut parts = name.split(|b| *b == b'.');
    let mut number = || {
        parts
            .next()
            .is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit))
    };
    number() && number() && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "48c94983d096b04e83d4a31c44763b2a70396ff0a1f5b186d7f524c2ed21b694";

    #[test]
    fn only_ids_become_path_components() {
        assert!(container_id(ID.as_bytes()).is_some());
        for bad in [
            "",
            "..",
            "a/b",
            "48c9",
            &ID.to_uppercase(),
            &format!("{}g", &ID[1..]),
            &format!("{ID}0"),
        ] {
            assert!(container_id(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(container_id(b"\xff").is_none());
    }

    #[test]
    fn remapped_roots() {
        for (name, expected) in [
            ("100000.100000", true),
            ("1.2.3", false),
            ("1.", false),
            (".1", false),
            ("overlay2", false),
            ("", false),
        ] {
            assert_eq!(is_remapped(name.as_bytes()), expected, "{name}");
        }
    }

    /// A data root with one record of these bytes.
    fn root_with(record: &[u8]) -> (tempfile::TempDir, DataRoot) {
        let dir = tempfile::tempdir().unwrap();
        let container = dir.path().join("containers").join(ID);
        std::fs::create_dir_all(&container).unwrap();
        std::fs::write(container.join("config.v2.json"), record).unwrap();
        let root = DataRoot::open_all(dir.path()).unwrap().remove(0);
        (dir, root)
    }

    fn complaint(record: &[u8]) -> String {
        let (_dir, root) = root_with(record);
        match root.record(&ContainerId::new(ID.into())) {
            Err(RecordError::Broken(why)) => why,
            other => panic!("{}: {other:?}", escape(record)),
        }
    }

    #[test]
    fn hostile_records_are_refused_with_a_reason() {
        let deep = format!("{{\"x\":{}", "[".repeat(1 << 20)).into_bytes();
        let other = format!("{{\"ID\":\"{}\"}}", ID.replace('4', "5"));
        let huge_pid = format!("{{\"ID\":\"{ID}\",\"State\":{{\"Pid\":1e99}}}}");
        for (record, why) in [
            (&b""[..], "EOF while parsing"),
            (b"null", "invalid type: null"),
            (b"[]", "invalid length 0"),
            (b"{}", "missing field `ID`"),
            (b"{\"ID\":", "EOF while parsing"),
            (b"\xff\xfe", "expected value"),
            (
                b"{\"ID\":\"../../../etc\"}",
                "the record of another container, \"../../../etc\"",
            ),
            (
                b"{\"ID\":\"a\\u001b[2J\"}",
                "another container, \"a\\x1b[2J\"",
            ),
            (&deep, "EOF while parsing"),
            (other.as_bytes(), "the record of another container"),
            (huge_pid.as_bytes(), "invalid"),
        ] {
            let told = complaint(record);
            assert!(
                told.contains(why),
                "{:?}: {told}",
                escape(&record[..record.len().min(80)])
            );
        }
    }

    #[test]
    fn a_record_that_is_no_file_or_too_long_is_refused() {
        let (dir, root) = root_with(b"{}");
        let id = ContainerId::new(ID.into());
        let file = dir
            .path()
            .join("containers")
            .join(ID)
            .join("config.v2.json");
        let replace = |make: &dyn Fn()| {
            std::fs::remove_file(&file).unwrap();
            make();
            match root.record(&id) {
                Err(RecordError::Broken(why)) => why,
                other => panic!("{other:?}"),
            }
        };
        let told = replace(&|| std::os::unix::fs::symlink("/etc/passwd", &file).unwrap());
        assert!(told.contains("link"), "{told}");
        let told = replace(&|| {
            std::fs::File::create(&file)
                .unwrap()
                .set_len(RECORD_LIMIT as u64 + 1)
                .unwrap();
        });
        assert!(told.contains("longer than"), "{told}");
        let told = replace(&|| {
            rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR).unwrap();
        });
        assert!(told.contains("not a regular file"), "{told}");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(root.record(&id).unwrap_err(), RecordError::Absent);
    }

    #[test]
    fn directories_that_are_no_data_root() {
        let dir = tempfile::tempdir().unwrap();
        let told = DataRoot::open_all(dir.path()).unwrap_err().to_string();
        assert!(told.contains("holds no directory \"containers\""), "{told}");
        let told = DataRoot::open_all(&dir.path().join("none"))
            .unwrap_err()
            .to_string();
        assert!(told.contains("--data-root"), "{told}");
    }

    #[test]
    fn a_remapped_root_is_found_beside_the_plain_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("100000.100000/containers")).unwrap();
        let roots = DataRoot::open_all(dir.path()).unwrap();
        assert_eq!(roots.len(), 1);
        assert_eq!(roots[0].path(), dir.path().join("100000.100000"));
        std::fs::create_dir(dir.path().join("containers")).unwrap();
        assert_eq!(DataRoot::open_all(dir.path()).unwrap().len(), 2);
    }
}
