//! Reference values of an OCI image layout (OCI image specification, `image-layout.md`): the configurations
//! that its index leads to, each blob on the way proved to be what its name says.
//!
//! Of the manifests nothing is expected: what their digests are depends on how the layers were compressed on
//! the way to where they lie. The configuration has the layers' own digests.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::chain::sha256;
use super::name::ImageName;
use super::reference::{Expected, ReferenceValues};
use crate::model::{Digest, ImageId, escape};
use crate::yaml;

/// Where a descriptor has the name of its image (OCI image specification, `annotations.md`; containerd and
/// BuildKit write the second one, which is always a whole name).
const NAMES: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

/// Most indexes and manifests that are read.
const NODES_MAX: usize = 1024;

/// Why a layout gives no reference values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A blob cannot be read, or is none that could be used.
    #[error("{0}: {1}")]
    Blob(String, String),
    /// A blob was altered.
    #[error("{0} was altered: its SHA-256 is not its name")]
    Altered(Digest),
    /// Nothing says which image it is.
    #[error("an image in it has no whole name: give it one, with --reference NAME=DIRECTORY")]
    NoName,
    /// There is no image in it, or there are more than can be looked at.
    #[error("it has {0} images")]
    Images(usize),
}

/// An index or a manifest.
#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    config: Option<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl ReferenceValues {
    /// Returns those of a layout with this `index.json`, of which `blob` reads one. `name` is what its image
    /// is called, where its index does not say or should not.
    ///
    /// # Errors
    /// [`LayoutError`] when not everything is there that the index leads to.
    pub fn of_layout(
        index: &[u8],
        name: Option<&ImageName>,
        blob: &mut dyn FnMut(&Digest) -> Result<Vec<u8>, String>,
    ) -> Result<Self, LayoutError> {
        let mut values = Self::default();
        let top: Node = parse("index.json", index)?;
        if top.manifests.is_empty() || top.manifests.len() > NODES_MAX {
            return Err(LayoutError::Images(top.manifests.len()));
        }
        for descriptor in top.manifests {
            let named = NAMES.iter().find_map(|key| {
                // A tag alone is no name; a name has a path.
                let told = descriptor.annotations.get(*key)?;
                ImageName::parse(told).ok().filter(|_| told.contains('/'))
            });
            let mut expected = Expected {
                name: Some(name.cloned().or(named).ok_or(LayoutError::NoName)?),
                signed: false,
                manifests: Vec::new(),
                configs: Vec::new(),
            };
            follow(descriptor.digest, &mut expected, blob)?;
            values.add(expected);
        }
        Ok(values)
    }
}

/// Takes in the manifest, or the index and all that it lists.
fn follow(
    digest: Digest,
    expected: &mut Expected,
    blob: &mut dyn FnMut(&Digest) -> Result<Vec<u8>, String>,
) -> Result<(), LayoutError> {
    let mut todo = vec![digest];
    let mut nodes = 0;
    while let Some(digest) = todo.pop() {
        let bytes = blob(&digest).map_err(|why| LayoutError::Blob(digest.to_string(), why))?;
        if sha256(&bytes) != digest {
            return Err(LayoutError::Altered(digest));
        }
        let node: Node = parse(&digest.to_string(), &bytes)?;
        nodes += 1;
        if nodes > NODES_MAX {
            return Err(LayoutError::Images(nodes));
        }
        match node.config {
            Some(config) => expected.configs.push(ImageId::from(config.digest)),
            None => todo.extend(node.manifests.iter().map(|manifest| manifest.digest)),
        }
    }
    match expected.configs.is_empty() {
        true => Err(LayoutError::Images(0)),
        false => Ok(()),
    }
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, LayoutError> {
    let failed = |why: String| LayoutError::Blob(name.to_owned(), why);
    let text = std::str::from_utf8(bytes).map_err(|_| failed("not UTF-8".into()))?;
    // JSON is YAML.
    yaml::from_str(text).map_err(|error| failed(escape(error.why.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::model::ImageIdentity;

    /// A layout with one image of two platforms.
    fn layout(annotations: &str) -> (String, HashMap<Digest, Vec<u8>>, [Digest; 2]) {
        let mut blobs = HashMap::new();
        let mut add = |text: String| {
            let digest = sha256(text.as_bytes());
            blobs.insert(digest, text.into_bytes());
            digest
        };
        let configs = [1, 2].map(|n| sha256(&[n]));
        let manifests = configs.map(|config| {
            add(format!(
                r#"{{"schemaVersion": 2, "config": {{"digest": "{config}", "size": 1}}, "layers": []}}"#
            ))
        });
        let list: Vec<String> = manifests
            .iter()
            .map(|digest| format!(r#"{{"digest": "{digest}", "platform": {{"os": "linux"}}}}"#))
            .collect();
        let index = add(format!(r#"{{"manifests": [{}]}}"#, list.join(", ")));
        let top = format!(
            r#"{{"manifests": [{{"digest": "{index}", "annotations": {{{annotations}}}}}]}}"#
        );
        (top, blobs, configs)
    }

    fn values(
        annotations: &str,
        name: Option<&str>,
        break_it: impl FnOnce(&mut HashMap<Digest, Vec<u8>>),
    ) -> (Result<ReferenceValues, LayoutError>, [Digest; 2]) {
        let (top, mut blobs, configs) = layout(annotations);
        break_it(&mut blobs);
        let name = name.map(|name| ImageName::parse(name).unwrap());
        let mut read = |digest: &Digest| blobs.get(digest).cloned().ok_or("gone".to_owned());
        let values = ReferenceValues::of_layout(top.as_bytes(), name.as_ref(), &mut read);
        (values, configs)
    }

    const NAMED: &str = r#""org.opencontainers.image.ref.name": "registry.example/web:1""#;

    #[test]
    fn an_image_may_be_that_of_any_platform() {
        for (annotations, name) in [(NAMED, None), ("", Some("registry.example/web:1"))] {
            let (values, configs) = values(annotations, name, |_| {});
            let values = values.unwrap();
            let judge =
                |id: Digest| values.judge(Some(&id.into()), &[], &["registry.example/web:1"]);
            for config in configs {
                assert_eq!(judge(config), ImageIdentity::Agrees);
            }
            assert!(matches!(judge(sha256(b"x")), ImageIdentity::Differs(_)));
        }
    }

    #[test]
    fn a_layout_that_lacks_something_is_refused() {
        let tag = r#""org.opencontainers.image.ref.name": "1""#;
        let error = |annotations, break_it: fn(&mut HashMap<Digest, Vec<u8>>)| {
            values(annotations, None, break_it)
                .0
                .unwrap_err()
                .to_string()
        };
        assert!(error(tag, |_| {}).contains("has no whole name"));
        assert!(error(NAMED, |blobs| blobs.clear()).contains("gone"));
        let altered = error(NAMED, |blobs| {
            for bytes in blobs.values_mut() {
                bytes.push(b' ');
            }
        });
        assert!(altered.contains("was altered"), "{altered}");
        let none = ReferenceValues::of_layout(b"{}", None, &mut |_| Err(String::new()));
        assert_eq!(none, Err(LayoutError::Images(0)));
        let bad = ReferenceValues::of_layout(b"[", None, &mut |_| Err(String::new()));
        assert!(bad.unwrap_err().to_string().starts_with("index.json: "));
    }
}
