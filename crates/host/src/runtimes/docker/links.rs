//! Where a path leads through the links of an image.
//!
//! Docker makes the target of a mount where the links of the rootfs lead: `-v x:/var/run/x` makes
//! `/run/x` in an image whose `/var/run` is a link to `/run`.

use std::collections::VecDeque;

use plimsoll_core::model::{FileType, RootPath, RuntimePath};

use crate::fs::{Dir, Stat};

/// Most links that are followed for one path, as in the kernel (`MAXSYMLINKS`).
pub(super) const LINKS_MAX: usize = 40;

/// Returns the paths that `paths` become when the links of a tree are followed, those left out that
/// stay as they are. `layers` are the directories that make up the tree, top first.
///
/// The result only adds to what a runtime is known to make in an exact form, so a layer that cannot
/// be read here adds nothing: the engine tells of it.
pub(super) fn followed(paths: &[RuntimePath], layers: &[&Dir]) -> Vec<RuntimePath> {
    paths
        .iter()
        .filter_map(|made| {
            let path = follow(&made.path, layers)?;
            (path != made.path).then(|| RuntimePath {
                path,
                kind: made.kind.clone(),
            })
        })
        .collect()
}

/// Follows the links above the last component, and the last one as well.
pub(super) fn follow(path: &RootPath, layers: &[&Dir]) -> Option<RootPath> {
    lead(path, |parent, name| {
        let (dir, stat) = find(parent, name, layers)?;
        (stat.file_type == FileType::Symlink).then(|| dir.read_link(name))
    })
}

/// Follows links; `link_at` returns the target of the link of a name in a directory, `None` where no
/// link is.
pub(super) fn lead(
    path: &RootPath,
    link_at: impl Fn(&[Vec<u8>], &[u8]) -> Option<rustix::io::Result<Vec<u8>>>,
) -> Option<RootPath> {
    let mut todo: VecDeque<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
    let mut reached: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == b".." {
            reached.pop();
            continue;
        }
        let Some(target) = link_at(&reached, &name) else {
            // A directory, or nothing: then the rest is what the runtime makes.
            reached.push(name);
            continue;
        };
        links += 1;
        if links > LINKS_MAX {
            return None;
        }
        let target = target.ok()?;
        if target.first() == Some(&b'/') {
            reached.clear();
        }
        let parts = target
            .split(|b| *b == b'/')
            .filter(|part| !part.is_empty() && *part != b".");
        for part in parts.rev() {
            todo.push_front(part.to_vec());
        }
    }
    let mut path = RootPath::root();
    for name in &reached {
        path = path.join(name);
    }
    (path != RootPath::root()).then_some(path)
}

/// The directory of a layer in which something was found.
enum Found<'d> {
    Root(&'d Dir),
    Beneath(Dir),
}

impl std::ops::Deref for Found<'_> {
    type Target = Dir;

    fn deref(&self) -> &Dir {
        match self {
            Self::Root(dir) => dir,
            Self::Beneath(dir) => dir,
        }
    }
}

/// Finds what the topmost layer has at a path that no link is left in.
fn find<'d>(parent: &[Vec<u8>], name: &[u8], layers: &[&'d Dir]) -> Option<(Found<'d>, Stat)> {
    let path = parent.join(&b'/');
    layers.iter().find_map(|layer| {
        let dir = match parent {
            [] => Found::Root(layer),
            _ => Found::Beneath(layer.open_beneath(&path).ok()?),
        };
        let stat = dir.stat(name).ok()?;
        Some((dir, stat))
    })
}

#[cfg(test)]
mod tests {
    use plimsoll_core::model::RuntimePathKind;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_of_all_kinds() {
        let top = tempfile::tempdir().unwrap();
        let base = tempfile::tempdir().unwrap();
        for dir in ["var", "run", "usr/sbin"] {
            std::fs::create_dir_all(base.path().join(dir)).unwrap();
        }
        std::fs::create_dir(top.path().join("var")).unwrap();
        symlink("/run", base.path().join("var/run")).unwrap();
        symlink("usr/sbin", base.path().join("sbin")).unwrap();
        symlink("../../../run/./", top.path().join("var/up")).unwrap();
        symlink("loop", base.path().join("loop")).unwrap();
        let layers = [top.path(), base.path()].map(|path| Dir::open(path).unwrap());
        let layers = [&layers[0], &layers[1]];
        for (from, to) in [
            ("/var/run/docker.sock", Some("/run/docker.sock")),
            ("/sbin/docker-init", Some("/usr/sbin/docker-init")),
            ("/var/up/x/y", Some("/run/x/y")),
            ("/sbin", Some("/usr/sbin")),
            ("/run/plain", None),
            ("/new/one", None),
            ("/loop/x", None),
        ] {
            let made = RuntimePath {
                path: RootPath::parse(from.as_bytes()).unwrap(),
                kind: RuntimePathKind::EmptyFile,
            };
            let told: Vec<String> = followed(&[made], &layers)
                .iter()
                .map(|p| p.path.to_string())
                .collect();
            assert_eq!(told, to.into_iter().collect::<Vec<_>>(), "{from}");
        }
    }
}
