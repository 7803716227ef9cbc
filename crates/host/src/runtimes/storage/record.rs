//! Records of containers/storage and of those that use it: only the fields that are used.
//!
//! `storage/containers.go`, `layers.go` and `images.go` of containers/container-libs write arrays of
//! these; the metadata of a container is that of Podman (`libpod/storage.go`) or CRI-O
//! (`internal/storage/runtime.go`); the specification is OCI's `config.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use crate::fs::{IdRange, Owners};
use plimsoll_core::model::{DiffId, escape};
use serde::de::{DeserializeOwned, Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Most records that one file is read for.
pub(super) const RECORDS_MAX: usize = 100_000;

/// An array of records, no longer than [`RECORDS_MAX`].
#[derive(Debug)]
pub(super) struct Records<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Records<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
            type Value = Records<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of records")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Records<T>, A::Error> {
                let mut records = Vec::new();
                while let Some(record) = array.next_element()? {
                    if records.len() == RECORDS_MAX {
                        return Err(A::Error::custom(format!("more than {RECORDS_MAX} records")));
                    }
                    records.push(record);
                }
                Ok(Records(records))
            }

            // An empty list, as Go may write it.
            fn visit_unit<E: Error>(self) -> Result<Records<T>, E> {
                Ok(Records(Vec::new()))
            }
        }
        deserializer.deserialize_any(Bounded(PhantomData))
    }
}

/// Parses a record.
///
/// # Errors
/// One clause that says why it is none.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|e| {
        format!(
            "not a record of containers/storage: {}",
            escape(e.to_string().as_bytes())
        )
    })
}

/// One of `containers.json` and `volatile-containers.json`.
#[derive(Debug, Deserialize)]
pub(super) struct ContainerRecord {
    pub(super) id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    /// The id of the image; empty for a container that was made from none.
    #[serde(default)]
    pub(super) image: String,
    /// The id of the writable layer.
    #[serde(default)]
    pub(super) layer: String,
    /// What the one who made it noted: JSON in a string.
    #[serde(default)]
    metadata: String,
    #[serde(default)]
    uidmap: Option<Vec<IdMapping>>,
    #[serde(default)]
    gidmap: Option<Vec<IdMapping>>,
}

/// A range of ids of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct IdMapping {
    pub(super) container_id: u32,
    pub(super) host_id: u32,
    pub(super) size: u32,
}

/// Returns the map from ids of a user namespace to those outside of it.
pub(super) fn owners(users: &[IdMapping], groups: &[IdMapping]) -> Owners {
    let ranges = |map: &[IdMapping]| {
        let range = |map: &IdMapping| IdRange {
            from: map.container_id,
            to: map.host_id,
            length: map.size,
        };
        map.iter().map(range).collect()
    };
    Owners {
        users: ranges(users),
        groups: ranges(groups),
    }
}

impl ContainerRecord {
    /// Returns its names, that by which it is shown first.
    pub(super) fn names(&self) -> &[String] {
        self.names.as_deref().unwrap_or_default()
    }

    /// Returns what was noted with it; nothing where that is no such note.
    pub(super) fn metadata(&self) -> Metadata {
        serde_json::from_str(&self.metadata).unwrap_or_default()
    }

    /// Returns the maps of users and groups of its user namespace, where it has one.
    pub(super) fn id_maps(&self) -> Option<(&[IdMapping], &[IdMapping])> {
        let maps = [&self.uidmap, &self.gidmap].map(|map| map.as_deref().unwrap_or_default());
        let [users, groups] = maps;
        (!users.is_empty() || !groups.is_empty()).then_some((users, groups))
    }
}

/// What Podman or CRI-O notes with a container.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Metadata {
    /// What the image was asked for by.
    #[serde(rename = "image-name", default)]
    pub(super) image_name: String,
    /// CRI-O: the name that Kubernetes gave, of a container in its pod or of the pod.
    #[serde(rename = "metadata-name", default)]
    pub(super) metadata_name: String,
    /// CRI-O: the name of the sandbox, `k8s_<pod>_<namespace>_<uid>_<attempt>`.
    #[serde(rename = "pod-name", default)]
    pub(super) pod_name: String,
    /// CRI-O: the id of the sandbox.
    #[serde(rename = "pod-id", default)]
    pub(super) pod_id: String,
    /// CRI-O: the pod's namespace, with its sandbox.
    #[serde(default)]
    pub(super) namespace: String,
    /// CRI-O: the pod's identifier, with its sandbox.
    #[serde(default)]
    pub(super) uid: String,
    /// CRI-O: whether it is the sandbox.
    #[serde(default)]
    pub(super) pod: bool,
}

impl Metadata {
    /// Whether CRI-O made it: it names a pod's sandbox, which Podman's never does.
    pub(super) fn is_of_crio(&self) -> bool {
        !self.pod_id.is_empty()
    }
}

/// One of `layers.json` and `volatile-layers.json`.
#[derive(Debug, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) id: String,
    /// Empty for the first layer of an image.
    #[serde(default)]
    pub(super) parent: String,
    #[serde(rename = "diff-digest", default)]
    diff_digest: Option<String>,
    /// The length of its stream, -1 where that is not known.
    #[serde(rename = "diff-size", default)]
    diff_size: Option<i64>,
    #[serde(default)]
    flags: Option<LayerFlags>,
    #[serde(default)]
    uidmap: Option<Vec<IdMapping>>,
    #[serde(default)]
    gidmap: Option<Vec<IdMapping>>,
}

#[derive(Debug, Deserialize)]
struct LayerFlags {
    #[serde(default)]
    incomplete: Option<bool>,
}

impl LayerRecord {
    /// Returns its diffID; `None` where the record has none, as a container's layer and one that was
    /// proved by its table of contents alone.
    ///
    /// # Errors
    /// What it has in its place.
    pub(super) fn diff_id(&self) -> Result<Option<DiffId>, &str> {
        match self.diff_digest.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| text),
        }
    }

    /// Returns how many bytes its stream has, by the record; 0 where it does not say.
    pub(super) fn size(&self) -> u64 {
        u64::try_from(self.diff_size.unwrap_or(0)).unwrap_or(0)
    }

    /// Whether it is being made, or being removed.
    pub(super) fn is_incomplete(&self) -> bool {
        let flags = self.flags.as_ref();
        flags.and_then(|flags| flags.incomplete) == Some(true)
    }

    /// Whether its files have the owners of a user namespace.
    pub(super) fn is_mapped(&self) -> bool {
        let (users, groups) = self.id_maps();
        !users.is_empty() || !groups.is_empty()
    }

    /// Returns the maps of users and groups that its files were written by.
    pub(super) fn id_maps(&self) -> (&[IdMapping], &[IdMapping]) {
        let [users, groups] =
            [&self.uidmap, &self.gidmap].map(|map| map.as_deref().unwrap_or_default());
        (users, groups)
    }
}

/// One of `images.json`.
#[derive(Debug, Deserialize)]
pub(super) struct ImageRecord {
    pub(super) id: String,
    /// The digest of its manifest.
    #[serde(default)]
    pub(super) digest: Option<String>,
    /// The id of its topmost layer.
    #[serde(default)]
    pub(super) layer: String,
    /// Copies of the topmost layer with the owners of user namespaces.
    #[serde(rename = "mapped-layers", default)]
    mapped_layers: Option<Vec<String>>,
    /// Keys of what is kept with it.
    #[serde(rename = "big-data-names", default)]
    big_data_names: Option<Vec<String>>,
    /// The digests of that.
    #[serde(rename = "big-data-digests", default)]
    big_data_digests: Option<BTreeMap<String, String>>,
    #[serde(default)]
    names: Option<Vec<String>>,
}

impl ImageRecord {
    /// Returns the names that lead to it.
    pub(super) fn names(&self) -> &[String] {
        self.names.as_deref().unwrap_or_default()
    }

    /// Returns the keys of what is kept with it.
    pub(super) fn big_data_names(&self) -> &[String] {
        self.big_data_names.as_deref().unwrap_or_default()
    }

    /// Returns the digest of what is kept with it by a key.
    pub(super) fn big_data_digest(&self, key: &str) -> Option<&str> {
        let digests = self.big_data_digests.as_ref()?;
        digests.get(key).map(String::as_str)
    }

    /// Returns the copies of its topmost layer.
    pub(super) fn copies(&self) -> &[String] {
        self.mapped_layers.as_deref().unwrap_or_default()
    }

    /// Whether a layer is its topmost one, or a copy of that.
    pub(super) fn ends_with(&self, layer: &str) -> bool {
        let mut copies = self.mapped_layers.iter().flatten();
        self.layer == layer || copies.any(|copy| copy == layer)
    }
}

/// What an OCI runtime is to do (OCI runtime specification, `config.md`).
#[derive(Debug, Default, Deserialize)]
pub(super) struct Spec {
    #[serde(default)]
    pub(super) mounts: Option<Vec<SpecMount>>,
    #[serde(default)]
    pub(super) process: Option<SpecProcess>,
    #[serde(default)]
    pub(super) linux: Option<SpecLinux>,
    #[serde(default)]
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

/// What is special to Linux.
#[derive(Debug, Deserialize)]
pub(super) struct SpecLinux {
    /// Files and directories that are hidden.
    #[serde(rename = "maskedPaths", default)]
    pub(super) masked_paths: Option<Vec<String>>,
}

/// A mount.
#[derive(Debug, Deserialize)]
pub(super) struct SpecMount {
    #[serde(default)]
    pub(super) destination: String,
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) source: String,
    #[serde(default)]
    pub(super) options: Option<Vec<String>>,
}

impl SpecMount {
    /// Whether it shows a path of the host.
    pub(super) fn is_bind(&self) -> bool {
        let options = self.options.iter().flatten();
        self.kind == "bind" || options.into_iter().any(|o| o == "bind" || o == "rbind")
    }
}

/// The first process.
#[derive(Debug, Deserialize)]
pub(super) struct SpecProcess {
    #[serde(default)]
    pub(super) cwd: String,
    #[serde(default)]
    pub(super) user: SpecUser,
}

/// Whom it runs as, in the container.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct SpecUser {
    #[serde(default)]
    pub(super) uid: u32,
    #[serde(default)]
    pub(super) gid: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_podman_writes_them() {
        let containers: Records<ContainerRecord> = parse(
            br#"[{"id":"07","names":["map"],"image":"6a","layer":"da",
                "metadata":"{\"image-name\":\"localhost/base:latest\",\"name\":\"map\",\"created-at\":1}",
                "uidmap":[{"container_id":0,"host_id":100000,"size":65536}],
                "flags":{"MountLabel":"","Volatile":true}}]"#,
        )
        .unwrap();
        let record = &containers.0[0];
        assert_eq!(record.names(), ["map"]);
        assert_eq!(record.metadata().image_name, "localhost/base:latest");
        assert!(!record.metadata().is_of_crio());
        assert_eq!(record.id_maps().unwrap().0[0].host_id, 100_000);
        let layers: Records<LayerRecord> = parse(
            br#"[{"id":"a","diff-digest":"sha256:710196350167cd0215efed47262d9b2a25fd7e5318fd6f7b77fd13f20fecc14a","uidset":[0]},
                {"id":"b","parent":"a","flags":{"incomplete":true,"x":1}},{"id":"c","diff-digest":"md4:1"}]"#,
        )
        .unwrap();
        assert!(layers.0[0].diff_id().unwrap().is_some() && !layers.0[0].is_mapped());
        assert!(layers.0[1].is_incomplete() && layers.0[1].diff_id() == Ok(None));
        assert_eq!(layers.0[2].diff_id(), Err("md4:1"));
        assert!(parse::<Records<LayerRecord>>(b"null").unwrap().0.is_empty());
    }

    #[test]
    fn what_is_none_says_so() {
        let many = format!("[{}]", vec![r#"{"id":""}"#; RECORDS_MAX + 1].join(","));
        for (text, why) in [
            ("{}", "an array of records"),
            ("[{}]", "missing field `id`"),
            ("[", "EOF"),
            (many.as_str(), "more than 100000 records"),
        ] {
            let told = parse::<Records<LayerRecord>>(text.as_bytes()).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
