//! The few settings of containerd's own configuration that say where things lie.
//!
//! It is TOML (toml.io, v1.0). Of it only keys with strings on one line are understood, at the top and in
//! tables: the form in which `containerd config default` writes them, and everybody else.

use std::collections::BTreeMap;

/// Where containerd was told to keep things.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    /// What stays: images, snapshots, records.
    pub(super) root: Option<String>,
    /// What is gone after a restart of the machine: what runs.
    pub(super) state: Option<String>,
    /// Directories of snapshotters, by the names of these, where they have one of their own.
    pub(super) snapshotters: BTreeMap<String, String>,
}

impl Config {
    /// Parses a configuration. What is not understood says nothing.
    pub(super) fn parse(text: &str) -> Self {
        let mut config = Self::default();
        let mut table = Vec::new();
        let mut long = None;
        for line in text.lines() {
            // Strings of several lines can hold anything that looks like a setting.
            if let Some(end) = long {
                if line.contains(end) {
                    long = None;
                }
                continue;
            }
            let line = line.trim();
            if let Some(name) = line.strip_prefix('[') {
                table = match name.starts_with('[') {
                    true => vec![String::new()],
                    false => keys(name.split_once(']').map_or(name, |(name, _)| name)),
                };
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let value = value.trim();
            for quotes in ["\"\"\"", "'''"] {
                let opened = value.strip_prefix(quotes);
                if opened.is_some_and(|rest| !rest.contains(quotes)) {
                    long = Some(quotes);
                }
            }
            let path: Vec<String> = table.iter().cloned().chain(keys(key)).collect();
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let Some(value) = string(value).filter(|value| !value.is_empty()) else {
                continue;
            };
            match path.as_slice() {
                ["root"] => config.root = Some(value),
                ["state"] => config.state = Some(value),
                ["plugins", plugin, "root_path"] => {
                    if let Some(name) = snapshotter(plugin) {
                        config.snapshotters.insert(name.to_owned(), value);
                    }
                }
                _ => {}
            }
        }
        config
    }
}

/// Returns the name of a snapshotter that is configured under this name: the whole one of the plugin, or
/// in a configuration of version 1 the short one.
fn snapshotter(plugin: &str) -> Option<&str> {
    match plugin.strip_prefix(super::SNAPSHOTTER) {
        Some(name) => Some(name),
        None => (!plugin.contains('.')).then_some(plugin),
    }
}

/// Splits a dotted key; a quoted part of it is one.
fn keys(text: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut key = String::new();
    let mut quote = None;
    for c in text.trim().chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => key.push(c),
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '.' => keys.push(std::mem::take(&mut key)),
            None if c.is_whitespace() => {}
            None => key.push(c),
        }
    }
    keys.push(key);
    keys
}

/// Parses a string on one line, and what may come after it; `None` for anything else.
fn string(text: &str) -> Option<String> {
    let mut chars = text.chars();
    let quote = chars.next().filter(|c| *c == '"' || *c == '\'')?;
    let mut value = String::new();
    loop {
        match chars.next()? {
            c if c == quote => break,
            '\\' if quote == '"' => match chars.next()? {
                c @ ('"' | '\\') => value.push(c),
                // No path is written with another one.
                _ => return None,
            },
            c => value.push(c),
        }
    }
    let rest = chars.as_str().trim_start();
    (rest.is_empty() || rest.starts_with('#')).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_places() {
        let config = Config::parse(
            r#"
version = 2
root = "/srv/containerd" # here
state = '/run/c"d'
imports = ["/etc/containerd/conf.d/*.toml"]
[grpc]
  address = "/run/x.sock"
  root = "/not/this"
[plugins]
  [plugins."io.containerd.snapshotter.v1.overlayfs"]
    root_path = "/fast/overlay"
  [plugins."io.containerd.snapshotter.v1.btrfs"]
    root_path = ""
[plugins.native]
root_path = "/old/native"
  [plugins."io.containerd.grpc.v1.cri"]
    root_path = "/nothing"
"#,
        );
        assert_eq!(config.root.as_deref(), Some("/srv/containerd"));
        assert_eq!(config.state.as_deref(), Some("/run/c\"d"));
        let snapshotters: Vec<_> = config.snapshotters.iter().collect();
        assert_eq!(snapshotters.len(), 2, "{snapshotters:?}");
        assert_eq!(config.snapshotters["overlayfs"], "/fast/overlay");
        assert_eq!(config.snapshotters["native"], "/old/native");
    }

    #[test]
    fn what_is_no_string_says_nothing() {
        for text in [
            "root = 5",
            "root = \"/a",
            "root = \"/a\" b",
            "root = \"\"",
            "root",
            "root = \"\\u0041\"",
            "x = \"\"\"\nroot = \"/a\"\n\"\"\"",
            "# root = \"/a\"",
            "[[a]]\nroot = \"/a\"",
        ] {
            assert_eq!(Config::parse(text), Config::default(), "{text}");
        }
        assert_eq!(
            Config::parse("\"root\"=\"/a\\\\b\"").root.as_deref(),
            Some("/a\\b")
        );
    }
}
