//! How records and mounts name the directories of layers.
//!
//! Docker's `overlay2` and the `overlay` of containers/storage share the layout: `<layer>/diff`, and
//! short links `l/<link>` to it, by which the kernel gets to know them.

use plimsoll_core::model::escape;
use rustix::io::Errno;

/// The name of a directory of a storage driver: safe as one component of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtimes) struct LayerName(String);

impl LayerName {
    /// Parses what a record holds: 64 hexadecimal digits, with `-init` for an init layer; records of
    /// old versions have other names of the same characters.
    pub(in crate::runtimes) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let good = !text.is_empty()
            && text.len() <= 128
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        good.then(|| Self(text.to_owned()))
    }

    /// Returns the name.
    pub(in crate::runtimes) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for LayerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether lower directories, as `l/<link>` or `<layer>/diff` after any prefix, are the expected ones
/// in their order, the top one first. `record` is what expects them; `read_link` reads a short link.
///
/// # Errors
/// One clause that says where they differ.
pub(in crate::runtimes) fn agree(
    lowers: &[&[u8]],
    expected: &[&str],
    record: &str,
    read_link: impl Fn(&[u8]) -> Result<Vec<u8>, Errno>,
) -> Result<(), String> {
    for (n, lower) in lowers.iter().enumerate() {
        let name = layer_of(lower, &read_link)?;
        match expected.get(n) {
            Some(expected) if expected.as_bytes() == name => {}
            expected => {
                return Err(format!(
                    "lower layer {} is {}, {record} says {}",
                    n + 1,
                    excerpt(&name),
                    expected.unwrap_or(&"that there is none"),
                ));
            }
        }
    }
    if lowers.len() != expected.len() {
        return Err(format!(
            "there are {} lower layers, {record} says {}",
            lowers.len(),
            expected.len()
        ));
    }
    Ok(())
}

/// Returns the name of the layer that a path of a lower directory means; `read_link` reads a short link.
pub(in crate::runtimes) fn layer_of(
    lower: &[u8],
    read_link: impl FnOnce(&[u8]) -> Result<Vec<u8>, Errno>,
) -> Result<Vec<u8>, String> {
    let strange = || format!("\"{}\" is not the path of a lower layer", excerpt(lower));
    match last_two(lower).ok_or_else(strange)? {
        (b"l", link) if link.iter().all(u8::is_ascii_alphanumeric) && !link.is_empty() => {
            let target = read_link(link)
                .map_err(|errno| format!("short link {}: {errno}", excerpt(link)))?;
            layer_at(&target)
                .filter(|name| LayerName::parse(name).is_some())
                .map(<[u8]>::to_vec)
                .ok_or_else(|| {
                    format!(
                        "short link {} leads to \"{}\"",
                        excerpt(link),
                        excerpt(&target)
                    )
                })
        }
        (name, b"diff") => Ok(name.to_vec()),
        _ => Err(strange()),
    }
}

/// Returns the name of the layer that a short link with this target means.
pub(in crate::runtimes) fn layer_at(target: &[u8]) -> Option<&[u8]> {
    target.strip_prefix(b"../")?.strip_suffix(b"/diff")
}

/// Returns the last two components of a path.
pub(in crate::runtimes) fn last_two(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = path.rsplit(|b| *b == b'/');
    let last = parts.next()?;
    Some((parts.next()?, last))
}

/// The beginning of what a record holds, to show.
pub(in crate::runtimes) fn excerpt(bytes: &[u8]) -> String {
    escape(bytes.get(..100).unwrap_or(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_layers() {
        let id = "a6816992a2ac4b52adec6c84da7326f3458e1a09378d3af025fb5ab6c0730a47";
        for good in [id, &format!("{id}-init")] {
            assert_eq!(LayerName::parse(good.as_bytes()).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "..",
            ".",
            "a/b",
            "/etc",
            "a\n",
            "A",
            "a b",
            "a\0",
            &"a".repeat(129),
        ] {
            assert!(
                LayerName::parse(bad.as_bytes()).is_none(),
                "{}",
                escape(bad.as_bytes())
            );
        }
    }
}
