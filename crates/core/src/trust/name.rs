//! Names of images, as `distribution/reference` reads them (`normalize.go`): `web:1` and
//! `docker.io/library/web:1` are one name.

use std::fmt;

use crate::model::escape;

/// A name of an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageName {
    /// Registry and path.
    repository: String,
    /// The tag; a digest in a name is none.
    tag: Option<String>,
}

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no name of an image")]
pub struct NameError(String);

impl ImageName {
    /// Reads a name. The digest that may stand at its end is left out: what holds is what is there.
    ///
    /// # Errors
    /// [`NameError`] for what can be no name, such as an image id.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let bad = || NameError(escape(text.as_bytes()).into_owned());
        let name = text.split('@').next().unwrap_or_default();
        let (path, tag) = match name.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (name, None),
        };
        let is_good = |c: char| c.is_ascii_alphanumeric() || "-_./:[]".contains(c);
        let is_id = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if path.is_empty()
            || path == "sha256"
            || tag == Some("")
            || is_id(path)
            || !name.chars().all(is_good)
            || path.split('/').any(str::is_empty)
        {
            return Err(bad());
        }
        let (registry, rest) = match path.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (first, rest)
            }
            _ => ("docker.io", path),
        };
        let registry = match registry {
            "index.docker.io" => "docker.io",
            registry => registry,
        };
        let repository = match (registry, rest.contains('/')) {
            ("docker.io", false) => format!("docker.io/library/{rest}"),
            _ => format!("{registry}/{rest}"),
        };
        Ok(Self {
            repository,
            tag: tag.map(str::to_owned),
        })
    }

    /// Whether `other` is this name: one without a tag names every tag; where `other` has none, the tag that
    /// is meant then.
    #[must_use]
    pub fn names(&self, other: &Self) -> bool {
        let tag = other.tag.as_deref().unwrap_or("latest");
        self.repository == other.repository && self.tag.as_deref().is_none_or(|own| own == tag)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        match &self.tag {
            Some(tag) => write!(f, ":{tag}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_those_of_docker() {
        for (short, long) in [
            ("web", "docker.io/library/web"),
            ("web:1", "docker.io/library/web:1"),
            ("acme/web", "docker.io/acme/web"),
            ("index.docker.io/acme/web:1", "docker.io/acme/web:1"),
            ("localhost/acme/web:1", "localhost/acme/web:1"),
            ("localhost:5000/web", "localhost:5000/web"),
            ("registry.example/web@sha256:00", "registry.example/web"),
        ] {
            assert_eq!(ImageName::parse(short).unwrap().to_string(), long);
        }
        let id = "a".repeat(64);
        for bad in ["", ":1", "web:", "a//b", "web 1", &id, "sha256:12", "wéb"] {
            assert!(ImageName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_without_a_tag_names_all() {
        let names = |a: &str, b: &str| {
            let (a, b) = (ImageName::parse(a).unwrap(), ImageName::parse(b).unwrap());
            a.names(&b)
        };
        assert!(names("web", "docker.io/library/web:7"));
        assert!(names("web:latest", "web"));
        assert!(!names("web:1", "web:2"));
        assert!(!names("web:1", "web"));
        assert!(!names("acme/web", "web"));
    }
}
