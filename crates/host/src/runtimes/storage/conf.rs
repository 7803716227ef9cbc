//! `storage.conf`: where a store was told to keep its data (containers-storage.conf(5)).

use std::path::PathBuf;

use plimsoll_core::model::escape;
use serde::Deserialize;

/// What a configuration says of the places of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conf {
    pub(super) graph_root: Option<String>,
    pub(super) run_root: Option<String>,
    /// The graph root of users, with variables.
    pub(super) rootless: Option<String>,
    /// Stores that images are read from.
    pub(super) image_stores: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    storage: Option<Section>,
}

#[derive(Default, Deserialize)]
struct Section {
    graphroot: Option<String>,
    runroot: Option<String>,
    rootless_storage_path: Option<String>,
    imagestore: Option<String>,
    options: Option<Options>,
}

#[derive(Default, Deserialize)]
struct Options {
    additionalimagestores: Option<Vec<String>>,
}

/// Most stores that images are looked for in.
const IMAGE_STORES_MAX: usize = 64;

/// Parses a configuration.
///
/// # Errors
/// One clause that says why it is none.
pub(super) fn parse(bytes: &[u8]) -> Result<Conf, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let file: File = toml::from_str(text)
        .map_err(|error| format!("not TOML: {}", escape(error.message().as_bytes())))?;
    let section = file.storage.unwrap_or_default();
    let said = |text: Option<String>| text.filter(|text| !text.is_empty());
    let more = section.options.and_then(|o| o.additionalimagestores);
    let image_stores: Vec<String> = said(section.imagestore)
        .into_iter()
        .chain(more.into_iter().flatten().filter(|store| !store.is_empty()))
        .collect();
    if image_stores.len() > IMAGE_STORES_MAX {
        return Err(format!("more than {IMAGE_STORES_MAX} image stores"));
    }
    Ok(Conf {
        graph_root: said(section.graphroot),
        run_root: said(section.runroot),
        rootless: said(section.rootless_storage_path),
        image_stores,
    })
}

/// A user who may have a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    /// The group that the user begins with.
    pub(super) gid: u32,
    pub(super) home: String,
}

impl User {
    /// Puts the user's own values in the place of the variables of a path (`storage/types/utils.go`,
    /// `expandEnvPath`).
    ///
    /// # Errors
    /// One clause, when a variable is left that only the user's environment could tell.
    pub(super) fn expand(&self, path: &str) -> Result<PathBuf, String> {
        let unknown = || {
            format!(
                "\"{}\" is no path that can be told from here",
                escape(path.as_bytes())
            )
        };
        let mut parts = path.split('$');
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = match part.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or_else(unknown)?,
                None => {
                    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    part.split_at(part.find(|c| !is_name(c)).unwrap_or(part.len()))
                }
            };
            match name {
                "UID" => text.push_str(&self.uid.to_string()),
                "HOME" => text.push_str(&self.home),
                "USER" => text.push_str(&self.name),
                _ => return Err(unknown()),
            }
            text.push_str(rest);
        }
        match text.starts_with('/') {
            true => Ok(text.into()),
            false => Err(unknown()),
        }
    }
}

/// Returns the users of a `passwd` file (passwd(5)) who can have a store of their own, each uid once:
/// those with a home directory, and not root, whose store is the system's.
pub(super) fn users(passwd: &[u8]) -> Vec<User> {
    let mut users: Vec<User> = passwd.split(|b| *b == b'\n').filter_map(user).collect();
    users.sort_by_key(|user| user.uid);
    users.dedup_by_key(|user| user.uid);
    users
}

fn user(line: &[u8]) -> Option<User> {
    let fields: Vec<&str> = std::str::from_utf8(line).ok()?.split(':').collect();
    let [name, _, uid, gid, _, home, _] = fields[..] else {
        return None;
    };
    let uid = uid.parse().ok().filter(|uid| *uid != 0)?;
    let gid = gid.parse().ok()?;
    home.starts_with('/').then(|| User {
        name: name.to_owned(),
        uid,
        gid,
        home: home.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let conf = parse(
            br#"
            # as distributions ship it
            [storage]
            driver = "overlay"
            graphroot = "/srv/graph"
            runroot = "/run/graph"
            rootless_storage_path = "$HOME/graph"
            [storage.options]
            size = ""
            additionalimagestores = [
              "/usr/lib/images",
              "",
            ]
            [storage.options.overlay]
            mountopt = "nodev,metacopy=on"
            "#,
        )
        .unwrap();
        assert_eq!(conf.graph_root.as_deref(), Some("/srv/graph"));
        assert_eq!(conf.run_root.as_deref(), Some("/run/graph"));
        assert_eq!(conf.rootless.as_deref(), Some("$HOME/graph"));
        assert_eq!(conf.image_stores, ["/usr/lib/images"]);
        assert_eq!(parse(b"").unwrap(), Conf::default());
        for (text, why) in [
            (&b"[storage"[..], "not TOML"),
            (b"[storage]\ngraphroot = 5", "not TOML"),
            (b"\xff", "not UTF-8"),
        ] {
            assert!(parse(text).unwrap_err().contains(why));
        }
    }

    #[test]
    fn users_and_their_variables() {
        let users = users(
            b"root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbroken\nalso:x:1000:1:::\n+nis\ndup:x:1000:1::/home/dup:/x\n",
        );
        let [ann] = &users[..] else {
            panic!("{users:?}");
        };
        assert_eq!((ann.uid, ann.home.as_str()), (1000, "/home/ann"));
        for (path, expanded) in [
            ("$HOME/x", Ok("/home/ann/x")),
            ("/data/${USER}/$UID", Ok("/data/ann/1000")),
            ("$XDG_DATA_HOME/x", Err(())),
            ("$HOMEX", Err(())),
            ("${HOME", Err(())),
            ("/x/$", Err(())),
            ("relative", Err(())),
        ] {
            assert_eq!(
                ann.expand(path).map_err(|_| ()),
                expanded.map(PathBuf::from),
                "{path}"
            );
        }
    }
}
