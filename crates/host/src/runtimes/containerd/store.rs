//! One root of containerd: its databases, its content store and the directories of its snapshotters.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use plimsoll_core::model::{ChainId, Digest, Gap};
use rustix::io::Errno;

use super::content::{self, Found, Missing};
use super::metadata::{Metadata, Record, Snapshot};
use super::snapshots::{self, Stored};
use super::spec::Spec;
use super::{METADATA, SNAPSHOTTER, excerpt, pod};
use crate::fs::Dir;
use crate::fs::bolt::{self, BoltError};
use crate::runtimes::RuntimeError;

/// The directory of all blobs.
const BLOBS: &str = "io.containerd.content.v1.content/blobs";

/// Times that two databases are asked until they agree.
const TRIES: usize = 10;

/// A root of containerd.
#[derive(Debug)]
pub(in crate::runtimes) struct Store {
    pub(super) dir: Dir,
    path: PathBuf,
    /// Directories of snapshotters that have one outside of the root.
    snapshotters: BTreeMap<String, String>,
    /// The root of a mounted disk that it is on.
    disk: Option<PathBuf>,
    /// Where those of its containers that run have their state, as far as that is known; none when no
    /// process of theirs can be on this machine.
    pub(super) states: Option<Vec<PathBuf>>,
    /// The same, as the processes of containerd tell.
    pub(super) told_states: OnceCell<Vec<PathBuf>>,
    images: RefCell<HashMap<ImageKey, Image>>,
}

/// What an image is looked for by: namespace, name, digest that a record says, snapshotter and chain.
type ImageKey = (String, Vec<u8>, String, String, Digest);

/// The snapshots that a container lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtimes) struct Chain {
    pub(in crate::runtimes) snapshotter: String,
    /// The container's own, then those beneath, with how the snapshotter keeps each.
    pub(super) snapshots: Vec<(Snapshot, Stored)>,
}

/// An image, or why there is none.
#[derive(Debug, Clone, Default)]
pub(in crate::runtimes) struct Image {
    pub(in crate::runtimes) found: Option<Found>,
    pub(super) gap: Option<Gap>,
}

impl Store {
    /// Takes a directory for a root of containerd. `path` is to show.
    ///
    /// # Errors
    /// [`RuntimeError::Absent`] when it is not there or is none; [`RuntimeError::Unavailable`] when it
    /// cannot be looked at.
    pub(in crate::runtimes) fn of(
        dir: rustix::io::Result<Dir>,
        path: &Path,
        disk: Option<&Path>,
        states: Option<Vec<PathBuf>>,
        snapshotters: BTreeMap<String, String>,
    ) -> Result<Self, RuntimeError> {
        let shown = plimsoll_core::model::escape(path.as_os_str().as_bytes()).into_owned();
        let unreadable = |errno: Errno| {
            let way_out = match errno {
                Errno::ACCESS | Errno::PERM => "run as root",
                Errno::IO => "see that the disk is sound",
                _ => {
                    "give the directory itself with --data-root: \"root\" in containerd's configuration"
                }
            };
            let why = std::io::Error::from(errno);
            let why = format!("containerd's root {shown}: {why}: {way_out}");
            match errno {
                Errno::NOENT => RuntimeError::Absent(why),
                _ => RuntimeError::Unavailable(why),
            }
        };
        let dir = dir.map_err(unreadable)?;
        match dir.stat(METADATA.as_bytes()) {
            Ok(_) => {}
            Err(Errno::NOENT) => {
                return Err(RuntimeError::Absent(format!(
                    "{shown} is not a root of containerd, it holds no directory \"{METADATA}\": give the right one with --data-root, \"root\" in containerd's configuration"
                )));
            }
            Err(errno) => return Err(unreadable(errno)),
        }
        Ok(Self {
            dir,
            path: path.to_owned(),
            snapshotters,
            disk: disk.map(Path::to_owned),
            states,
            told_states: OnceCell::new(),
            images: RefCell::default(),
        })
    }

    /// Returns its path, to show.
    pub(in crate::runtimes) fn path(&self) -> &Path {
        &self.path
    }

    /// Answers a question by one state of containerd's database.
    pub(super) fn ask<T>(
        &self,
        question: impl Fn(&Metadata<'_>) -> Result<T, BoltError>,
    ) -> Result<T, RuntimeError> {
        let path = format!("{METADATA}/meta.db");
        let failed = |why: String| {
            let path = self.path.join(&path);
            let path = plimsoll_core::model::escape(path.as_os_str().as_bytes()).into_owned();
            format!("{path}: {why}")
        };
        let (file, _) = self.dir.open_file(path.as_bytes()).map_err(|e| {
            let way_out = match e.kind() {
                std::io::ErrorKind::PermissionDenied => ": run as root",
                _ => "",
            };
            RuntimeError::Unavailable(failed(format!("{e}{way_out}")))
        })?;
        bolt::read(&file, |view| question(&Metadata::of(view)?)).map_err(|error| match error {
            BoltError::Damaged(why) => RuntimeError::Inconsistent(failed(why)),
            BoltError::Io(_) | BoltError::Busy => {
                RuntimeError::Unavailable(failed(error.to_string()))
            }
        })
    }

    /// Returns the snapshots that the one of this key lies on, itself first.
    ///
    /// # Errors
    /// [`RuntimeError::Gone`] when there is none of this key (any more); else what is wrong.
    pub(in crate::runtimes) fn chain(
        &self,
        namespace: &str,
        snapshotter: &str,
        key: &[u8],
    ) -> Result<Chain, RuntimeError> {
        self.chain_of(namespace, snapshotter, key, false)
    }

    /// The same; with `is_image` for a snapshot of an image's layer.
    pub(super) fn chain_of(
        &self,
        namespace: &str,
        snapshotter: &str,
        key: &[u8],
        is_image: bool,
    ) -> Result<Chain, RuntimeError> {
        let mut outcome = Err(RuntimeError::Gone);
        for _ in 0..TRIES {
            let chain = self.ask(|metadata| metadata.chain(namespace, snapshotter, key))?;
            if chain.is_empty() {
                return Err(RuntimeError::Gone);
            }
            outcome = match self.stored(snapshotter, &chain, is_image) {
                Ok(stored) => {
                    return Ok(Chain {
                        snapshotter: snapshotter.to_owned(),
                        snapshots: chain.into_iter().zip(stored).collect(),
                    });
                }
                // The two databases are written one after the other: they may agree the next time.
                Err(error @ (RuntimeError::Inconsistent(_) | RuntimeError::Gone)) => Err(error),
                Err(error) => return Err(error),
            };
        }
        outcome
    }

    fn stored(
        &self,
        snapshotter: &str,
        chain: &[Snapshot],
        is_image: bool,
    ) -> Result<Vec<Stored>, RuntimeError> {
        let failed =
            |why: String| format!("the snapshotter {}: {why}", excerpt(snapshotter.as_bytes()));
        let dir = self.snapshotter(snapshotter)?.0;
        let file = match dir.open_file(b"metadata.db") {
            Ok((file, _)) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(RuntimeError::UnsupportedDriver {
                    driver: excerpt(snapshotter.as_bytes()),
                });
            }
            Err(e) => {
                return Err(RuntimeError::Unavailable(failed(format!(
                    "metadata.db: {e}"
                ))));
            }
        };
        bolt::read(&file, |view| snapshots::stored(view, chain, is_image))
            .map_err(|error| match error {
                BoltError::Damaged(why) => RuntimeError::Inconsistent(failed(why)),
                error => RuntimeError::Unavailable(failed(error.to_string())),
            })?
            .ok_or(RuntimeError::Gone)
    }

    /// Opens the directory of a snapshotter; returns it with its path.
    pub(super) fn snapshotter(&self, name: &str) -> Result<(Dir, PathBuf), RuntimeError> {
        let unsupported = || RuntimeError::UnsupportedDriver {
            driver: excerpt(name.as_bytes()),
        };
        if super::metadata::identifier(name.as_bytes()).is_none() {
            return Err(unsupported());
        }
        let (opened, path) = match (self.snapshotters.get(name), &self.disk) {
            (None, _) => {
                let relative = format!("{SNAPSHOTTER}{name}");
                let opened = self.dir.open_beneath(relative.as_bytes());
                (opened, self.path.join(relative))
            }
            (Some(path), None) => (Dir::open(Path::new(path)), PathBuf::from(path)),
            (Some(path), Some(disk)) => super::source::beneath(disk, path),
        };
        match opened {
            Ok(dir) => Ok((dir, path)),
            // One that is a program of its own has its snapshots elsewhere.
            Err(Errno::NOENT) => Err(unsupported()),
            Err(errno) => Err(RuntimeError::Unavailable(format!(
                "{}: {}",
                plimsoll_core::model::escape(path.as_os_str().as_bytes()),
                std::io::Error::from(errno)
            ))),
        }
    }

    /// Reads a blob of the content store, which is not proved to be the one of its name.
    ///
    /// # Errors
    /// Those of opening and reading; `InvalidData` when it is longer than `limit` bytes.
    pub(super) fn blob(&self, digest: &Digest, limit: usize) -> std::io::Result<Vec<u8>> {
        let path = format!("{BLOBS}/{}/{}", digest.algorithm().as_str(), digest.hex());
        self.dir.read_file(path.as_bytes(), limit)
    }

    /// Opens the directory of the blobs that are called by their SHA-256.
    pub(super) fn blobs(&self) -> rustix::io::Result<Dir> {
        self.dir.open_beneath(format!("{BLOBS}/sha256").as_bytes())
    }

    /// Returns the image whose unpacked layers are a chain of snapshots.
    ///
    /// The record has a name, which may stand for another image by now: what is found by it is taken only
    /// when its layers are those of the chain, which chainIDs prove.
    pub(super) fn image_of(&self, record: &Record, chain: &Chain) -> Image {
        let Some(top) = chain.image_top() else {
            return Image::default();
        };
        let told = pod::of_container(record).map(|metadata| metadata.image);
        let told = told.unwrap_or_default();
        let of = |top| {
            let (namespace, name) = (&record.namespace, &record.image);
            self.image(namespace, name, &told, &chain.snapshotter, top)
        };
        let image = of(top);
        if image.found.is_some() {
            return image;
        }
        // A copy of the image for a user namespace is called by a digest too.
        match chain.below_image_top() {
            Some(below) if self.is_remapped_for(record, &top, &below) => of(below),
            _ => image,
        }
    }

    /// Whether a snapshot is called as the copy of the one beneath it that is made for the user namespace of
    /// a container.
    fn is_remapped_for(&self, record: &Record, top: &ChainId, below: &ChainId) -> bool {
        let spec = self.ask(|metadata| metadata.spec(&record.namespace, &record.id));
        let spec = spec
            .ok()
            .flatten()
            .and_then(|spec| Spec::decode(&spec).ok());
        let named = spec.and_then(|spec| spec.remapped(below));
        named.as_ref() == Some(top.digest())
    }

    /// The same by the name of an image and a digest that a record says: that of a configuration, or of
    /// a manifest or an index.
    pub(in crate::runtimes) fn image(
        &self,
        namespace: &str,
        name: &[u8],
        told: &str,
        snapshotter: &str,
        top: ChainId,
    ) -> Image {
        let key = (
            namespace.to_owned(),
            name.to_vec(),
            told.to_owned(),
            snapshotter.to_owned(),
            *top.digest(),
        );
        if let Some(image) = self.images.borrow().get(&key) {
            return image.clone();
        }
        let image = self.search_image(namespace, name, told, snapshotter, top);
        self.images.borrow_mut().insert(key, image.clone());
        image
    }

    fn search_image(
        &self,
        namespace: &str,
        name: &[u8],
        told: &str,
        snapshotter: &str,
        top: ChainId,
    ) -> Image {
        let mut missing = Missing::default();
        let found = |found| Image {
            found: Some(found),
            gap: None,
        };
        let named = self.ask(|metadata| metadata.image(namespace, name));
        let named = named.ok().flatten();
        if let Ok(digest) = told.parse::<Digest>() {
            // With a manifest, if that can be had, else by the configuration alone.
            let mut ignored = Missing::default();
            let by_name =
                named.and_then(|named| content::search(self, named, false, &top, &mut ignored));
            if let Some(by_name) = by_name.filter(|found| found.id == Some(digest.into())) {
                return found(by_name);
            }
            for is_config in [true, false] {
                if let Some(image) = content::search(self, digest, is_config, &top, &mut missing) {
                    return found(image);
                }
            }
        } else if let Some(named) = named
            && let Some(image) = content::search(self, named, false, &top, &mut missing)
        {
            return found(image);
        }
        // The name stands for something else now, or for nothing.
        let key = top.to_string();
        let unpacked = self
            .ask(|metadata| metadata.unpacked_as(namespace, snapshotter, key.as_bytes()))
            .unwrap_or_default();
        let mut images = unpacked
            .into_iter()
            .filter_map(|digest| content::search(self, digest, true, &top, &mut missing));
        if let Some(mut image) = images.next() {
            if images.next().is_some() {
                image.id = None;
            }
            return found(image);
        }
        missing.why.dedup();
        let why = match missing.why.as_slice() {
            [] => "nothing in the content store has its layers".to_owned(),
            [first, ..] => first.clone(),
        };
        Image {
            found: None,
            gap: Some(unidentified(name, &why)),
        }
    }
}

fn unidentified(name: &[u8], why: &str) -> Gap {
    let what = match name {
        [] => &b"image"[..],
        name => name,
    };
    Gap::new(
        what,
        format!("the image cannot be proved, {why}: its layers are those that the snapshots name"),
    )
}

impl Chain {
    /// Returns how many snapshots stand between the container's own and those of its image. A copy of the
    /// image that belongs to other users, made for a user namespace, is the image.
    pub(super) fn between(&self) -> usize {
        let keys = || {
            self.snapshots
                .iter()
                .skip(1)
                .map(|(snapshot, _)| snapshot.key.as_slice())
        };
        let below = keys().skip(1).map(Some).chain([None]);
        let mut pairs = keys().zip(below);
        let is_image = |(key, below): (&[u8], Option<&[u8]>)| {
            chain_id(key).is_some() || below.is_some_and(|below| is_remapped(key, below))
        };
        pairs.position(is_image).unwrap_or_else(|| keys().count())
    }

    /// Returns how those are called.
    pub(in crate::runtimes) fn between_keys(&self) -> impl Iterator<Item = &[u8]> {
        let beneath = self.snapshots.iter().skip(1);
        let between = beneath.take(self.between());
        between.map(|(snapshot, _)| snapshot.key.as_slice())
    }

    /// Returns the snapshots of the image, the topmost first.
    pub(super) fn image(&self) -> impl Iterator<Item = &(Snapshot, Stored)> {
        self.snapshots.iter().skip(1 + self.between())
    }

    /// Returns the chainID of the image's topmost layer.
    pub(in crate::runtimes) fn image_top(&self) -> Option<ChainId> {
        self.image()
            .find_map(|(snapshot, _)| chain_id(&snapshot.key))
    }

    /// Returns the chainID that the snapshot beneath that layer is called by.
    fn below_image_top(&self) -> Option<ChainId> {
        let mut called = self
            .image()
            .filter_map(|(snapshot, _)| chain_id(&snapshot.key));
        called.nth(1)
    }

    /// Returns how the snapshotter calls the container's own snapshot: no other one is ever called so.
    pub(in crate::runtimes) fn name(&self) -> &[u8] {
        self.snapshots
            .first()
            .map_or(&[], |(snapshot, _)| &snapshot.name)
    }
}

/// Whether a snapshot is called as a copy of the one beneath it whose files belong to other users: by the
/// name of that one, and the user and the group that root became (containerd `client/container_opts_unix.go`,
/// `withRemappedSnapshotBase`).
fn is_remapped(key: &[u8], below: &[u8]) -> bool {
    let rest = key
        .strip_prefix(below)
        .and_then(|rest| rest.strip_prefix(b"-"));
    let mut parts = rest.unwrap_or_default().split(|b| *b == b'-');
    let mut number = || {
        let part = parts.next().unwrap_or_default();
        !part.is_empty() && part.iter().all(u8::is_ascii_digit)
    };
    number() && number() && parts.next().is_none()
}

/// Returns the chainID that a snapshot of an image's layer is called by.
pub(super) fn chain_id(key: &[u8]) -> Option<ChainId> {
    let digest: Digest = std::str::from_utf8(key).ok()?.parse().ok()?;
    Some(digest.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::containerd::snapshots::Kind;

    fn chain(keys: &[&str]) -> Chain {
        let snapshot = |key: &&str| Snapshot {
            key: key.as_bytes().to_vec(),
            name: Vec::new(),
        };
        let stored = Stored {
            id: 1,
            kind: Kind::Committed,
            size: 0,
        };
        Chain {
            snapshotter: "overlayfs".into(),
            snapshots: keys.iter().map(|key| (snapshot(key), stored)).collect(),
        }
    }

    #[test]
    fn where_the_image_begins() {
        let a = format!("sha256:{}", "aa".repeat(32));
        let b = format!("sha256:{}", "bb".repeat(32));
        let mapped = format!("{b}-100000-100000");
        for (keys, between) in [
            (vec!["c"], 0),
            (vec!["c", &b, &a], 0),
            (vec!["c", "c-init", &b, "x-init", &a], 1),
            (vec!["c", "x", "y"], 2),
            (vec!["c", &mapped, &b, &a], 0),
            (vec!["c", "x", &mapped, &b, &a], 1),
            (vec!["c", &mapped, &a], 1),
            (vec!["c", &mapped], 1),
        ] {
            let chain = chain(&keys);
            assert_eq!(chain.between(), between, "{keys:?}");
            assert_eq!(
                chain.image_top().is_some(),
                keys.contains(&a.as_str()),
                "{keys:?}"
            );
        }
    }
}
