//! A path inside a container's rootfs.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::bytes::{self, Bytes, escape};

/// A path inside a rootfs, as bytes.
///
/// Invariants: it starts with `/`, has no empty, `.` or `..` component, no NUL byte and, except for
/// the root itself, no trailing `/`. It is never a path on the host.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootPath(Box<[u8]>);

/// Why a string is not a [`RootPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not start with `/`.
    #[error(
        "\"{0}\" is not absolute: give the path as it is inside the container, starting with /"
    )]
    Relative(String),
    /// It has a `..` component or a NUL byte.
    #[error(
        "\"{0}\" has a .. component or a NUL byte: give the path as it is inside the container"
    )]
    Unclean(String),
}

impl RootPath {
    /// Returns the root of the rootfs, `/`.
    #[must_use]
    pub fn root() -> Self {
        Self(Box::from(&b"/"[..]))
    }

    /// Parses an absolute path, dropping `.` and repeated or trailing slashes.
    ///
    /// # Errors
    /// [`PathError`] when it is relative, or has a `..` component or a NUL byte.
    pub fn parse(path: &[u8]) -> Result<Self, PathError> {
        if path.first() != Some(&b'/') {
            return Err(PathError::Relative(escape(path).into_owned()));
        }
        let mut clean = Vec::with_capacity(path.len());
        for part in path.split(|b| *b == b'/') {
            if part == b".." || part.contains(&0) {
                return Err(PathError::Unclean(escape(path).into_owned()));
            }
            if !part.is_empty() && part != b"." {
                clean.push(b'/');
                clean.extend_from_slice(part);
            }
        }
        if clean.is_empty() {
            clean.push(b'/');
        }
        Ok(Self(clean.into()))
    }

    /// Returns this path with one more component.
    ///
    /// `name` comes from a directory, so it holds neither `/` nor NUL.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        debug_assert!(!name.is_empty() && !name.contains(&b'/') && !name.contains(&0));
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.len());
        if self.0.len() > 1 {
            path.extend_from_slice(&self.0);
        }
        path.push(b'/');
        path.extend_from_slice(name);
        Self(path.into())
    }

    /// Returns the bytes, `/` first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the components from the top down; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|part| !part.is_empty())
    }

    /// Returns the directory that holds this path; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let cut = self.0.iter().rposition(|b| *b == b'/')?;
        match (cut, self.0.len()) {
            (0, 1) => None,
            (0, _) => Some(Self::root()),
            _ => Some(Self(self.0[..cut].into())),
        }
    }

    /// Whether this path is `other` or lies beneath it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        other.0.len() == 1
            || self.0.starts_with(&other.0)
                && matches!(self.0.get(other.0.len()), None | Some(b'/'))
    }
}

impl fmt::Display for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for RootPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        bytes::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for RootPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Bytes::deserialize(deserializer)?;
        Self::parse(raw.as_bytes()).map_err(de::Error::custom)
    }
}

impl JsonSchema for RootPath {
    fn schema_name() -> Cow<'static, str> {
        "RootPath".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Bytes::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RootPath {
        RootPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn parsing_cleans_and_refuses() {
        assert_eq!(path("/usr//bin/./sh/").as_bytes(), b"/usr/bin/sh");
        assert_eq!(path("//").as_bytes(), b"/");
        assert!(RootPath::parse(b"usr/bin").is_err());
        assert!(RootPath::parse(b"/usr/../etc").is_err());
        assert!(RootPath::parse(b"").is_err());
    }

    #[test]
    fn relations() {
        assert_eq!(path("/etc/passwd").parent(), Some(path("/etc")));
        assert_eq!(path("/etc").parent(), Some(RootPath::root()));
        assert_eq!(RootPath::root().parent(), None);
        assert_eq!(RootPath::root().join(b"etc"), path("/etc"));
        assert!(path("/etc/passwd").is_within(&path("/etc")));
        assert!(!path("/etcetera").is_within(&path("/etc")));
        assert!(path("/etc").is_within(&RootPath::root()));
    }
}
