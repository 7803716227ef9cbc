//! What containerd's own database says of containers, images and snapshots, in all namespaces.
//!
//! The schema is containerd's `core/metadata/buckets.go` (before version 2 `metadata/buckets.go`).

use std::cell::Cell;
use std::collections::BTreeMap;

use plimsoll_core::model::Digest;

use crate::fs::bolt::{BoltError, Bucket, Entry, Slice, View};

/// Version of the schema: the name of the bucket that everything is in.
const VERSION: &[u8] = b"v1";

/// Most snapshots that lie on each other: overlayfs itself takes 500 (`OVL_MAX_STACK` in the kernel's
/// `fs/overlayfs/params.h`).
const CHAIN_MAX: usize = 512;

/// Longest identifier of a container or a namespace (containerd `pkg/identifiers/validate.go`).
const IDENTIFIER_MAX: usize = 76;

/// Bytes of records that are kept for one question, and what a record is reckoned at besides its texts.
const KEPT_MAX: usize = 48 << 20;
const RECORD_SIZE: usize = 512;
const LABEL_SIZE: usize = 64;

/// A container as it is recorded, but for what it is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) namespace: String,
    pub(super) id: String,
    /// The name of its image.
    pub(super) image: Vec<u8>,
    pub(super) snapshotter: String,
    pub(super) snapshot: Vec<u8>,
    pub(super) labels: BTreeMap<String, String>,
    /// What the CRI plugin keeps of it: [`super::pod::EXTENSIONS`].
    pub(super) extensions: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A name of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) namespace: String,
    pub(super) name: Vec<u8>,
    /// The index or the manifest that it stands for.
    pub(super) target: Digest,
}

/// A snapshot and those that it lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// How the namespace calls it.
    pub(super) key: Vec<u8>,
    /// How the snapshotter calls it.
    pub(super) name: Vec<u8>,
}

/// One state of the database.
#[derive(Debug)]
pub(super) struct Metadata<'v> {
    view: &'v View<'v>,
    root: Option<Bucket>,
    /// Bytes of what was read and is kept.
    kept: Cell<usize>,
}

impl<'v> Metadata<'v> {
    pub(super) fn of(view: &'v View<'_>) -> Result<Self, BoltError> {
        let root = view.bucket(&view.root(), &[VERSION])?;
        let kept = Cell::new(0);
        Ok(Self { view, root, kept })
    }

    fn bucket(&self, path: &[&[u8]]) -> Result<Option<Bucket>, BoltError> {
        match &self.root {
            Some(root) => self.view.bucket(root, path),
            None => Ok(None),
        }
    }

    /// Returns all containers, and the names of what is recorded as one and has no name that one can have.
    pub(super) fn containers(&self) -> Result<(Vec<Record>, Vec<Vec<u8>>), BoltError> {
        let mut found = Vec::new();
        let mut strays = Vec::new();
        let Some(root) = &self.root else {
            return Ok((found, strays));
        };
        self.view.each(root, &mut |namespace, entry| {
            // What is beside the namespaces is the version.
            let Entry::Bucket(bucket) = entry else {
                return Ok(());
            };
            let Some(containers) = self.view.bucket(&bucket, &[b"containers"])? else {
                return Ok(());
            };
            self.view.each(&containers, &mut |id, entry| {
                let name = || [namespace.bytes(), b"/", id.bytes()].concat();
                match (identifier(namespace.bytes()), identifier(id.bytes()), entry) {
                    (Some(namespace), Some(id), Entry::Bucket(bucket)) => {
                        found.push(self.record(namespace, id, &bucket)?);
                    }
                    _ => {
                        let name = name();
                        self.keep(RECORD_SIZE + name.len())?;
                        strays.push(name);
                    }
                }
                Ok(())
            })
        })?;
        Ok((found, strays))
    }

    /// Returns a container's record; `None` when there is none (any more).
    pub(super) fn container(&self, namespace: &str, id: &str) -> Result<Option<Record>, BoltError> {
        match self.container_bucket(namespace, id)? {
            Some(bucket) => self.record(namespace, id, &bucket).map(Some),
            None => Ok(None),
        }
    }

    /// Returns what a container is to run: an OCI runtime specification as it is recorded.
    pub(super) fn spec(&self, namespace: &str, id: &str) -> Result<Option<Vec<u8>>, BoltError> {
        match self.container_bucket(namespace, id)? {
            Some(bucket) => {
                let spec = self.view.value(&bucket, b"spec")?;
                Ok(spec.map(|spec| spec.bytes().to_vec()))
            }
            None => Ok(None),
        }
    }

    fn container_bucket(&self, namespace: &str, id: &str) -> Result<Option<Bucket>, BoltError> {
        self.bucket(&[namespace.as_bytes(), b"containers", id.as_bytes()])
    }

    fn record(&self, namespace: &str, id: &str, bucket: &Bucket) -> Result<Record, BoltError> {
        self.keep(RECORD_SIZE)?;
        let value = |key: &[u8]| self.view.value(bucket, key);
        let bytes = |key: &[u8]| -> Result<Vec<u8>, BoltError> {
            let value = value(key)?;
            let bytes = value.as_ref().map_or(&b""[..], Slice::bytes);
            self.keep(bytes.len())?;
            Ok(bytes.to_vec())
        };
        let mut extensions = BTreeMap::new();
        if let Some(bucket) = self.view.bucket(bucket, &[b"extensions"])? {
            for key in super::pod::EXTENSIONS {
                if let Some(value) = self.view.value(&bucket, key)? {
                    self.keep(value.bytes().len())?;
                    extensions.insert(key.to_vec(), value.bytes().to_vec());
                }
            }
        }
        Ok(Record {
            namespace: namespace.to_owned(),
            id: id.to_owned(),
            image: bytes(b"image")?,
            snapshotter: String::from_utf8_lossy(&bytes(b"snapshotter")?).into_owned(),
            snapshot: bytes(b"snapshotKey")?,
            labels: self.labels(bucket)?,
            extensions,
        })
    }

    /// Returns the labels of something. Keys and values that are no text cannot have been given.
    fn labels(&self, of: &Bucket) -> Result<BTreeMap<String, String>, BoltError> {
        let mut labels = BTreeMap::new();
        if let Some(bucket) = self.view.bucket(of, &[b"labels"])? {
            self.view.each(&bucket, &mut |key, entry| {
                if let Entry::Value(value) = entry {
                    self.keep(LABEL_SIZE + key.bytes().len() + value.bytes().len())?;
                    labels.insert(text(Some(&key)), text(Some(&value)));
                }
                Ok(())
            })?;
        }
        Ok(labels)
    }

    /// Takes note of so many bytes more that are kept.
    fn keep(&self, bytes: usize) -> Result<(), BoltError> {
        self.kept.set(self.kept.get().saturating_add(bytes));
        match self.kept.get() <= KEPT_MAX {
            true => Ok(()),
            false => Err(BoltError::Damaged(
                "more is recorded of containers than can be looked at".into(),
            )),
        }
    }

    /// Returns a snapshot and those beneath it, the topmost first; none when it does not exist.
    pub(super) fn chain(
        &self,
        namespace: &str,
        snapshotter: &str,
        key: &[u8],
    ) -> Result<Vec<Snapshot>, BoltError> {
        let mut chain: Vec<Snapshot> = Vec::new();
        let path = [namespace.as_bytes(), b"snapshots", snapshotter.as_bytes()];
        let Some(snapshots) = self.bucket(&path)? else {
            return Ok(chain);
        };
        let mut next = Some(key.to_vec());
        while let Some(key) = next {
            let Some(bucket) = self.view.bucket(&snapshots, &[&key])? else {
                return match chain.is_empty() {
                    true => Ok(chain),
                    false => Err(BoltError::Damaged(format!(
                        "the snapshot \"{}\" that another one lies on is missing",
                        super::excerpt(&key)
                    ))),
                };
            };
            if chain.len() == CHAIN_MAX {
                return Err(BoltError::Damaged(format!(
                    "more than {CHAIN_MAX} snapshots lie on each other"
                )));
            }
            let name = self.view.value(&bucket, b"name")?;
            let name = name.map_or_else(Vec::new, |name| name.bytes().to_vec());
            let parent = self.view.value(&bucket, b"parent")?;
            next = parent
                .map(|parent| parent.bytes().to_vec())
                .filter(|parent| !parent.is_empty());
            chain.push(Snapshot { key, name });
        }
        Ok(chain)
    }

    /// Returns the names of images in all namespaces, and what is recorded as one and is none.
    pub(super) fn images(&self) -> Result<(Vec<Named>, Vec<Vec<u8>>), BoltError> {
        let (mut found, mut strays) = (Vec::new(), Vec::new());
        let Some(root) = &self.root else {
            return Ok((found, strays));
        };
        self.view.each(root, &mut |namespace, entry| {
            let Entry::Bucket(bucket) = entry else {
                return Ok(());
            };
            let Some(images) = self.view.bucket(&bucket, &[b"images"])? else {
                return Ok(());
            };
            self.view.each(&images, &mut |name, entry| {
                self.keep(RECORD_SIZE + name.bytes().len())?;
                let target = match entry {
                    Entry::Bucket(bucket) => self.target(&bucket)?,
                    Entry::Value(_) => None,
                };
                match (identifier(namespace.bytes()), target) {
                    (Some(namespace), Some(target)) => found.push(Named {
                        namespace: namespace.to_owned(),
                        name: name.bytes().to_vec(),
                        target,
                    }),
                    _ => strays.push([namespace.bytes(), b"/", name.bytes()].concat()),
                }
                Ok(())
            })
        })?;
        Ok((found, strays))
    }

    /// Returns the digest that an image's record has.
    fn target(&self, image: &Bucket) -> Result<Option<Digest>, BoltError> {
        let Some(target) = self.view.bucket(image, &[b"target"])? else {
            return Ok(None);
        };
        let digest = self.view.value(&target, b"digest")?;
        Ok(text(digest.as_ref()).parse().ok())
    }

    /// Returns the snapshotters that a namespace has a snapshot of this key in.
    pub(super) fn snapshotters_with(
        &self,
        namespace: &str,
        key: &[u8],
    ) -> Result<Vec<String>, BoltError> {
        const MOST: usize = 64;
        let mut found = Vec::new();
        if let Some(all) = self.bucket(&[namespace.as_bytes(), b"snapshots"])? {
            self.view.each(&all, &mut |name, entry| {
                if let Some(snapshots) = entry.into_bucket()
                    && found.len() < MOST
                    && self.view.bucket(&snapshots, &[key])?.is_some()
                {
                    found.push(text(Some(&name)));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// Returns the digest that the name of an image stands for now.
    pub(super) fn image(&self, namespace: &str, name: &[u8]) -> Result<Option<Digest>, BoltError> {
        if name.is_empty() {
            return Ok(None);
        }
        match self.bucket(&[namespace.as_bytes(), b"images", name])? {
            Some(image) => self.target(&image),
            None => Ok(None),
        }
    }

    /// Returns the digests of the image configurations of which containerd wrote down that their layers
    /// were unpacked as this snapshot (label `containerd.io/gc.ref.snapshot.<snapshotter>`).
    pub(super) fn unpacked_as(
        &self,
        namespace: &str,
        snapshotter: &str,
        key: &[u8],
    ) -> Result<Vec<Digest>, BoltError> {
        const MOST: usize = 64;
        let mut found = Vec::new();
        let label = [b"containerd.io/gc.ref.snapshot.", snapshotter.as_bytes()].concat();
        if let Some(blobs) = self.bucket(&[namespace.as_bytes(), b"content", b"blob"])? {
            self.view.each(&blobs, &mut |digest, entry| {
                let Some(bucket) = entry.into_bucket() else {
                    return Ok(());
                };
                if let Some(labels) = self.view.bucket(&bucket, &[b"labels"])?
                    && let Some(value) = self.view.value(&labels, &label)?
                    && value.bytes() == key
                    && found.len() < MOST
                {
                    found.extend(text(Some(&digest)).parse::<Digest>().ok());
                }
                Ok(())
            })?;
        }
        Ok(found)
    }
}

fn text(value: Option<&Slice>) -> String {
    value.map_or_else(String::new, |value| {
        String::from_utf8_lossy(value.bytes()).into_owned()
    })
}

/// Returns a name if it is an identifier by containerd's rules: safe as one component of a path.
pub(super) fn identifier(name: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(name).ok()?;
    let parts = |text: &str| {
        text.split(['.', '_', '-'])
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    (text.len() <= IDENTIFIER_MAX && parts(text)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_identifiers_become_path_components() {
        for good in ["default", "k8s.io", "a_b-c.1", &"a".repeat(76)] {
            assert_eq!(identifier(good.as_bytes()), Some(good));
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "-a",
            "a..b",
            "a b",
            "a\0",
            "\u{e9}",
            &"a".repeat(77),
        ] {
            assert_eq!(identifier(bad.as_bytes()), None, "{bad}");
        }
    }
}
