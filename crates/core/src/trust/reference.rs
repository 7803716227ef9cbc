//! Reference values: which digests images must have, as somebody says who is not the host.
//!
//! ```yaml
//! images:
//!   registry.example/acme/web:1:
//!     manifest: sha256:…       # of the manifest, or of the index that lists it
//!     config: sha256:…         # of the configuration: what Docker calls the image id
//! ```
//!
//! The output of `skopeo inspect` is taken as well, and what an OCI image layout says of itself.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::name::ImageName;
use super::signature::Signed;
use crate::model::{Digest, ImageId, ImageIdentity, escape};
use crate::yaml::{self, YamlError};

/// What an image must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its name; any image when absent.
    pub name: Option<ImageName>,
    /// Whether it is said by signatures, of which each adds a manifest.
    pub signed: bool,
    /// Digests that its manifest, or an index that lists it, may have; any when empty.
    pub manifests: Vec<Digest>,
    /// Digests that its configuration may have; any when empty.
    pub configs: Vec<ImageId>,
}

/// Which digests images must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReferenceValues {
    images: Vec<Expected>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    images: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    manifest: Option<Digest>,
    config: Option<ImageId>,
}

/// What `skopeo inspect` prints (containers/skopeo `cmd/skopeo/inspect/output.go`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(default)]
    name: String,
    digest: Digest,
}

impl ReferenceValues {
    /// Reads a text: YAML of the form above, or what `skopeo inspect` printed. `called` is the name of the
    /// image that the latter is about, where it does not say or should not.
    ///
    /// # Errors
    /// [`YamlError`] when it is neither, with the line.
    pub fn parse(text: &str, called: Option<ImageName>) -> Result<Self, YamlError> {
        let at_no_line = |why: String| YamlError { line: 0, why };
        if text.trim_start().starts_with('{')
            // JSON is YAML.
            && let Ok(inspected) = yaml::from_str::<Inspected>(text)
        {
            let name = match called {
                Some(name) => name,
                None => ImageName::parse(&inspected.name).map_err(|error| {
                    at_no_line(format!("{error}: give it one, with --reference NAME=FILE"))
                })?,
            };
            return Ok(Self {
                images: vec![Expected {
                    name: Some(name),
                    signed: false,
                    manifests: vec![inspected.digest],
                    configs: Vec::new(),
                }],
            });
        }
        let document: Document = yaml::from_str(text)?;
        if let Some(name) = called {
            return Err(at_no_line(format!(
                "it names its images itself, {name} must not"
            )));
        }
        let mut images = Vec::with_capacity(document.images.len());
        for (name, entry) in document.images {
            if entry.manifest.is_none() && entry.config.is_none() {
                let name = escape(name.as_bytes());
                return Err(at_no_line(format!(
                    "image \"{name}\" has no digest: it needs manifest or config"
                )));
            }
            images.push(Expected {
                name: Some(ImageName::parse(&name).map_err(|e| at_no_line(e.to_string()))?),
                signed: false,
                manifests: entry.manifest.into_iter().collect(),
                configs: entry.config.into_iter().collect(),
            });
        }
        Ok(Self { images })
    }

    /// Adds what an image must be.
    pub fn add(&mut self, expected: Expected) {
        self.images.push(expected);
    }

    /// Adds manifests that were signed: an image of this name must have one of all those that were.
    pub fn add_signed(&mut self, signed: Signed) {
        let is_same = |expected: &&mut Expected| expected.signed && expected.name == signed.name;
        match self.images.iter_mut().find(is_same) {
            Some(expected) => expected.manifests.extend(signed.manifests),
            None => self.images.push(Expected {
                name: signed.name,
                signed: true,
                manifests: signed.manifests,
                configs: Vec::new(),
            }),
        }
    }

    /// Adds those of `other`.
    pub fn extend(&mut self, other: Self) {
        self.images.extend(other.images);
    }

    /// Returns what these values say of an image that has this configuration and these manifests, each of
    /// them proved, and goes by these names. An image that goes by several of their names must be what all
    /// of them say.
    #[must_use]
    pub fn judge(
        &self,
        id: Option<&ImageId>,
        manifests: &[Digest],
        names: &[&str],
    ) -> ImageIdentity {
        let parsed: Vec<ImageName> = names
            .iter()
            .filter_map(|name| ImageName::parse(name).ok())
            .collect();
        let is_named = |expected: &&Expected| match &expected.name {
            None => true,
            Some(own) => parsed.iter().any(|name| own.names(name)),
        };
        let mut found: Vec<&Expected> = self.images.iter().filter(is_named).collect();
        if found.is_empty() && parsed.is_empty() {
            // Without a name it can only be one of them by its digest.
            let is_it = |expected: &&Expected| id.is_some_and(|id| expected.configs.contains(id));
            found = self.images.iter().filter(is_it).collect();
        }
        if found.is_empty() {
            let name = match (names.first(), id) {
                (Some(name), _) => escape(name.as_bytes()).into_owned(),
                (None, Some(id)) => id.to_string(),
                (None, None) => "that has neither name nor digest".into(),
            };
            return ImageIdentity::Unknown(format!(
                "the reference values say nothing of image {name}: add it to them, or leave it out of the check"
            ));
        }
        let mut unknown = None;
        for expected in found {
            match expected.judge(id, manifests) {
                ImageIdentity::Agrees => {}
                differs @ ImageIdentity::Differs(_) => return differs,
                ImageIdentity::Unknown(why) => unknown = Some(why),
            }
        }
        unknown.map_or(ImageIdentity::Agrees, ImageIdentity::Unknown)
    }
}

impl Expected {
    fn judge(&self, id: Option<&ImageId>, manifests: &[Digest]) -> ImageIdentity {
        let list = |digests: Vec<String>| digests.join(" or ");
        let mut held = false;
        if !self.configs.is_empty() {
            match id {
                Some(id) if self.configs.contains(id) => held = true,
                found => {
                    let must = list(self.configs.iter().map(ToString::to_string).collect());
                    let found = found.map_or("not known".into(), ToString::to_string);
                    return ImageIdentity::Differs(format!(
                        "the digest of its configuration is {found}, and must be {must}"
                    ));
                }
            }
        }
        if !self.manifests.is_empty() {
            let found = list(manifests.iter().map(ToString::to_string).collect());
            if manifests.iter().any(|of| self.manifests.contains(of)) {
                held = true;
            } else if !manifests.is_empty() && self.signed {
                return ImageIdentity::Differs(format!(
                    "the digest of its manifest is {found}, which none of the signatures is over"
                ));
            } else if !manifests.is_empty() {
                let must = list(self.manifests.iter().map(ToString::to_string).collect());
                return ImageIdentity::Differs(format!(
                    "the digest of its manifest is {found}, and must be {must}"
                ));
            }
        }
        match held {
            true => ImageIdentity::Agrees,
            false => ImageIdentity::Unknown(
                "its store keeps no manifest of it whose digest could be held against signatures or reference values: give these the digest of its configuration".into(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: &str) -> String {
        format!("sha256:{}", byte.repeat(32))
    }

    /// What values say of an image with these digests.
    fn judge(
        values: &ReferenceValues,
        id: Option<&str>,
        manifest: Option<&str>,
        names: &[&str],
    ) -> ImageIdentity {
        let id: Option<ImageId> = id.map(|byte| digest(byte).parse().unwrap());
        let manifests = manifest.map(|byte| digest(byte).parse().unwrap());
        values.judge(id.as_ref(), manifests.as_slice(), names)
    }

    fn values() -> ReferenceValues {
        let (a, b) = (digest("aa"), digest("bb"));
        ReferenceValues::parse(&format!(
            "images:\n  acme/web:1:\n    config: {a}\n    manifest: {b}\n  acme/db:\n    manifest: {b}\n"
        ), None)
        .unwrap()
    }

    #[test]
    fn an_image_is_what_it_must_be_or_is_told() {
        let web = |id, manifest| judge(&values(), id, manifest, &["docker.io/acme/web:1"]);
        assert_eq!(web(Some("aa"), Some("bb")), ImageIdentity::Agrees);
        assert_eq!(web(Some("aa"), None), ImageIdentity::Agrees);
        for (id, manifest, why) in [
            (Some("bb"), Some("bb"), "configuration is sha256:bbbb"),
            (None, Some("bb"), "configuration is not known"),
            (Some("aa"), Some("aa"), "manifest is sha256:aaaa"),
        ] {
            let ImageIdentity::Differs(told) = web(id, manifest) else {
                panic!("{id:?} {manifest:?}")
            };
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_not_agreed_to() {
        let judge = |id, manifest, name| judge(&values(), id, manifest, &[name]);
        let unknown = |identity| match identity {
            ImageIdentity::Unknown(why) => why,
            other => panic!("{other:?}"),
        };
        // Another tag, and one that is not named at all.
        for name in ["acme/web:2", "other"] {
            let why = unknown(judge(Some("aa"), Some("bb"), name));
            assert!(why.contains("say nothing of image"), "{why}");
        }
        // Pinned by its manifest alone, which the store does not keep. The name has no tag: any is meant.
        let why = unknown(judge(Some("aa"), None, "acme/db:7"));
        assert!(why.contains("keeps no manifest"), "{why}");
        assert_eq!(
            judge(Some("aa"), Some("bb"), "acme/db:7"),
            ImageIdentity::Agrees
        );
    }

    #[test]
    fn an_image_without_a_name_is_known_by_its_digest_alone() {
        assert_eq!(
            judge(&values(), Some("aa"), None, &[]),
            ImageIdentity::Agrees
        );
        let other = judge(&values(), Some("bb"), None, &[]);
        assert!(matches!(other, ImageIdentity::Unknown(_)));
    }

    #[test]
    fn an_image_has_one_of_the_manifests_that_were_signed() {
        let mut values = ReferenceValues::default();
        for (name, byte) in [
            (Some("acme/web"), "aa"),
            (Some("acme/web"), "bb"),
            (None, "aa"),
        ] {
            values.add_signed(Signed {
                name: name.map(|name| ImageName::parse(name).unwrap()),
                manifests: vec![digest(byte).parse().unwrap()],
            });
        }
        let judge = |name, manifest| judge(&values, Some("cc"), manifest, &[name]);
        assert_eq!(judge("acme/web:1", Some("aa")), ImageIdentity::Agrees);
        // Signed for that repository alone, and one signature is about any image.
        assert!(matches!(
            judge("acme/web:1", Some("bb")),
            ImageIdentity::Differs(_)
        ));
        assert_eq!(judge("other", Some("aa")), ImageIdentity::Agrees);
        assert!(matches!(
            judge("other", Some("bb")),
            ImageIdentity::Differs(_)
        ));
        assert!(matches!(judge("other", None), ImageIdentity::Unknown(_)));
    }

    #[test]
    fn skopeo_says_which_digest_a_name_has() {
        let text = format!(
            r#"{{"Name": "registry.example/acme/web", "Digest": "{}", "RepoTags": ["1"], "Layers": []}}"#,
            digest("cc")
        );
        let values = ReferenceValues::parse(&text, None).unwrap();
        let name = ["registry.example/acme/web:1"];
        assert_eq!(
            judge(&values, None, Some("cc"), &name),
            ImageIdentity::Agrees
        );
        assert!(matches!(
            judge(&values, None, Some("dd"), &name),
            ImageIdentity::Differs(_)
        ));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (text, line, why) in [
            ("images:\n  web:\n    config: sha256:12\n", 3, "sha256:12"),
            ("images:\n  web: {}\n", 0, "needs manifest or config"),
            ("image: {}\n", 1, "image"),
            (
                "images:\n  \"\":\n    config: CONFIG\n",
                0,
                "name of an image",
            ),
        ] {
            let text = text.replace("CONFIG", &digest("aa"));
            let error = ReferenceValues::parse(&text, None).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.why.contains(why), "{error}");
        }
    }
}
