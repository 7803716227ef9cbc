//! Where a path leads through the links of an image.
//!
//! A runtime makes the target of a mount where the links of the rootfs lead: `-v x:/var/run/x` makes
//! `/run/x` in an image whose `/var/run` is a link to `/run`.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use plimsoll_core::model::{ExpectedMount, FileType, RootPath, RuntimePath};

use crate::fs::Dir;

/// Most links that are followed for one path, as in the kernel (`MAXSYMLINKS`).
pub(in crate::runtimes) const LINKS_MAX: usize = 40;

/// Returns the paths that `paths` become when the links of a tree are followed, those left out that
/// stay as they are. `layers` are the directories that make up the tree, top first.
///
/// The result only adds to what a runtime is known to make in an exact form, so a layer that cannot
/// be read here adds nothing: the engine tells of it.
pub(in crate::runtimes) fn followed(paths: &[RuntimePath], layers: &[&Dir]) -> Vec<RuntimePath> {
    let tree = Tree::of(layers);
    paths
        .iter()
        .filter_map(|made| {
            let path = tree.follow(&made.path)?;
            (path != made.path).then(|| RuntimePath {
                path,
                kind: made.kind.clone(),
            })
        })
        .collect()
}

/// Returns the mounts with each path as the links of the image lead it: there they are made.
/// `layers` are the directories beneath the writable one, top first: what a runtime puts over the image
/// among them, since that may stand where the image has a link.
pub(in crate::runtimes) fn followed_mounts(
    mounts: &[ExpectedMount],
    layers: &[&Dir],
) -> Vec<ExpectedMount> {
    let tree = Tree::of(layers);
    // Those of one path, which may show one of several things, stand side by side.
    let same_path = |a: &ExpectedMount, b: &ExpectedMount| a.path == b.path;
    let led = mounts.chunk_by(same_path).filter_map(|mounts| {
        let path = tree.follow(&mounts.first()?.path)?;
        Some(mounts.iter().map(move |mount| ExpectedMount {
            path: path.clone(),
            ..mount.clone()
        }))
    });
    led.flatten().collect()
}

/// Paths of which is remembered what is there, and the longest that is: a record can name any number.
const KNOWN_MAX: usize = 256;
const KNOWN_LENGTH: usize = 256;

/// A path, and the directory at it in each layer, opened when it is first asked for: mostly the first one
/// has what is looked for.
type Beneath = (Vec<u8>, Rc<[OnceCell<Option<Dir>>]>);

/// The tree that layers make up, and what was asked of it: paths that are followed have much of their
/// way in common.
pub(in crate::runtimes) struct Tree<'d> {
    /// The topmost layer first.
    layers: &'d [&'d Dir],
    /// The path that was looked beneath last, and the directories of the layers that have it.
    dirs: RefCell<Option<Beneath>>,
    /// Targets of links, by the paths of these; none where something else is, or nothing.
    targets: RefCell<HashMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl<'d> Tree<'d> {
    /// Returns the tree of these layers, the topmost first.
    pub(in crate::runtimes) fn of(layers: &'d [&'d Dir]) -> Self {
        Self {
            layers,
            dirs: RefCell::default(),
            targets: RefCell::default(),
        }
    }

    /// Follows the links above the last component of a path, and the last one as well.
    pub(in crate::runtimes) fn follow(&self, path: &RootPath) -> Option<RootPath> {
        lead(path, |parent, name| self.target(parent, name))
    }

    fn target(&self, parent: &[Vec<u8>], name: &[u8]) -> Option<rustix::io::Result<Vec<u8>>> {
        let mut path = parent.join(&b'/');
        let length = path.len();
        path.push(b'/');
        path.extend_from_slice(name);
        if let Some(known) = self.targets.borrow().get(&path) {
            return known.clone().map(Ok);
        }
        let found = match parent {
            [] => link_in(self.layers.iter().copied(), name),
            _ => {
                let parent = path.get(..length).unwrap_or_default();
                let dirs = self.dirs(parent);
                let opened = dirs.iter().zip(self.layers).filter_map(|(dir, layer)| {
                    dir.get_or_init(|| layer.open_beneath(parent).ok()).as_ref()
                });
                link_in(opened, name)
            }
        };
        let mut targets = self.targets.borrow_mut();
        if targets.len() < KNOWN_MAX
            && path.len() <= KNOWN_LENGTH
            && let Ok(target) = found.clone().transpose()
        {
            targets.insert(path, target);
        }
        found
    }

    fn dirs(&self, path: &[u8]) -> Rc<[OnceCell<Option<Dir>>]> {
        let mut last = self.dirs.borrow_mut();
        if let Some((_, dirs)) = last.as_ref().filter(|(known, _)| known == path) {
            return Rc::clone(dirs);
        }
        let dirs: Rc<[_]> = self.layers.iter().map(|_| OnceCell::new()).collect();
        *last = Some((path.to_vec(), Rc::clone(&dirs)));
        dirs
    }
}

/// Returns the target of the link that the topmost of these directories with an entry of this name has
/// there; `None` when that is something else, or none has one.
fn link_in<'d>(
    dirs: impl Iterator<Item = &'d Dir>,
    name: &[u8],
) -> Option<rustix::io::Result<Vec<u8>>> {
    let (dir, stat) = dirs
        .filter_map(|dir| Some((dir, dir.stat(name).ok()?)))
        .next()?;
    (stat.file_type == FileType::Symlink).then(|| dir.read_link(name))
}

/// Follows links; `link_at` returns the target of the link of a name in a directory, `None` where no
/// link is.
pub(in crate::runtimes) fn lead(
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
