//! The layers of an overlay that is mounted, reached by the paths that it was mounted with.
//!
//! Those paths are texts from the time of the mount: what they lead to now need not be what is mounted.
//! So each directory found is held against the mount itself.

mod proof;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plimsoll_core::model::escape;
use rustix::io::Errno;

use self::proof::{Evidence, Proof};
use super::{Held, Layer, MarkNamespace, OverlayStack, index};
use crate::fs::Dir;
use crate::proc::mountinfo::OverlayMount;

/// Why the layers of a mounted overlay could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReachError {
    /// Nothing can be written to it.
    #[error("it has no upper layer: nothing in it can change")]
    NoUpper,
    /// A layer cannot be opened by its path.
    #[error("layer {path}: {why}")]
    Unreachable {
        /// The path, escaped.
        path: String,
        /// Why.
        why: String,
    },
    /// What lies at a layer's path is not what is mounted.
    #[error(
        "layer {0} is not what is mounted: since then something else was put or mounted at its path"
    )]
    Other(String),
    /// A process answers for the file system of a layer.
    #[error(
        "layer {0} lies on a file system that a process answers for (FUSE): it could say anything"
    )]
    Answered(String),
    /// What was found could be the layers, and nothing proves that it is.
    #[error("layer {0} was mounted by a path that does not tell where it is")]
    Unproven(String),
}

/// Where the paths of an overlay's options are followed from.
#[derive(Debug)]
pub enum Root {
    /// As this process sees the host.
    Own,
    /// As a process with this root directory sees it; the path is to show.
    Of(Dir, PathBuf),
}

/// An overlay that is mounted.
#[derive(Debug)]
pub struct Mounted {
    /// What it was mounted with.
    pub options: OverlayMount,
    /// Its root, to look through.
    pub merged: Dir,
    /// Where it is mounted, as far as that says where its layers may lie: beside it.
    pub mount_point: Option<PathBuf>,
    /// Whose paths its options may be, the likeliest first.
    pub roots: Vec<Root>,
    /// Whether somebody else may have chosen the paths, in a mount namespace of their own: then nothing is
    /// taken for a layer that does not prove to be one, or that a process answers for.
    pub foreign: bool,
}

impl Mounted {
    /// Opens the layers.
    ///
    /// # Errors
    /// [`ReachError`] when one cannot be reached, or what is reached is another directory. Never are other
    /// layers returned than those that are mounted, as far as the mount can tell.
    pub fn reach(&self) -> Result<OverlayStack, ReachError> {
        if self.options.upper.is_none() {
            return Err(ReachError::NoUpper);
        }
        let mut first = None;
        for root in &self.roots {
            for base in self.bases() {
                match self.reach_from(root, base.as_deref()) {
                    Ok(stack) => return Ok(stack),
                    // What is wrong where it should be tells most.
                    Err(error) => {
                        first.get_or_insert(error);
                    }
                }
            }
        }
        let unproven = || ReachError::Unproven(shown(self.relative().unwrap_or_default()));
        Err(first.unwrap_or_else(unproven))
    }

    /// Whether a stack that somebody else found is the one that is mounted, as far as the mount can tell.
    ///
    /// # Errors
    /// [`ReachError::Other`] for a layer that is not.
    pub fn agrees(&self, stack: &OverlayStack) -> Result<(), ReachError> {
        if stack.marks.is_fuse() {
            let path = stack.upper.path.as_os_str().as_bytes();
            return Err(ReachError::Other(shown(path)));
        }
        self.verify(stack, None, false)
    }

    /// Returns a path that does not begin at the root.
    fn relative(&self) -> Option<&[u8]> {
        let options = &self.options;
        let lowers = options.lower.iter().chain(&options.data_only);
        let all = lowers.chain(&options.upper).chain(&options.work);
        let relative = |path: &&Vec<u8>| path.first() != Some(&b'/');
        all.map(|path| path as &Vec<u8>)
            .find(relative)
            .map(Vec::as_slice)
    }

    /// Returns the directories that relative paths may begin at; one `None` where there are no such paths.
    ///
    /// A daemon whose list of layers does not fit into a page goes into the directory that holds them all:
    /// Docker and Podman into `<root>/overlay2`, from where the upper layer is `<id>/diff` and the mount
    /// point `<id>/merged`; containerd into `snapshots`, with the upper layer at `<id>/fs` beneath it by
    /// its whole path.
    fn bases(&self) -> Vec<Option<PathBuf>> {
        if self.relative().is_none() {
            return vec![None];
        }
        let options = &self.options;
        let layer = |path: &[u8]| {
            Some(
                Path::new(OsStr::from_bytes(path))
                    .parent()?
                    .parent()?
                    .into(),
            )
        };
        let absolute = |path: &&[u8]| path.first() == Some(&b'/');
        let of_paths = options.upper.iter().chain(&options.work);
        let of_paths = of_paths.map(Vec::as_slice).filter(absolute);
        let of_mount = self.mount_point.iter().map(|p| p.as_os_str().as_bytes());
        let mut bases: Vec<Option<PathBuf>> = Vec::new();
        for base in of_paths.chain(of_mount).map(layer) {
            if base.is_some() && !bases.contains(&base) {
                bases.push(base);
            }
        }
        bases
    }

    fn reach_from(&self, root: &Root, base: Option<&Path>) -> Result<OverlayStack, ReachError> {
        let options = &self.options;
        let open = |path: &[u8]| open(root, base, path);
        let open_all = |paths: &[Vec<u8>]| -> Result<Vec<Layer>, ReachError> {
            paths.iter().map(|path| open(path)).collect()
        };
        let work = options.work.as_deref();
        let work = work.map(|path| Ok((open(path)?.dir, path))).transpose()?;
        let stack = OverlayStack {
            upper: open(options.upper.as_deref().unwrap_or_default())?,
            index: match &work {
                Some((work, path)) => {
                    index(work.child(b"index")).map_err(|errno| ReachError::Unreachable {
                        path: format!("{}/index", shown(path)),
                        why: std::io::Error::from(errno).to_string(),
                    })?
                }
                None => None,
            },
            injected: Vec::new(),
            injected_paths: Vec::new(),
            image: open_all(&options.lower)?
                .into_iter()
                .map(Arc::new)
                .collect(),
            data_only: open_all(&options.data_only)?,
            marks: match options.userxattr {
                true => MarkNamespace::User,
                false => MarkNamespace::Trusted,
            },
            held: Held::default(),
        };
        if self.foreign {
            let lowers = stack.image.iter().map(AsRef::as_ref);
            for layer in lowers.chain(&stack.data_only).chain([&stack.upper]) {
                if !matches!(layer.dir.is_answered_by_a_process(), Ok(false)) {
                    let path = layer.path.as_os_str().as_bytes();
                    return Err(ReachError::Answered(shown(path)));
                }
            }
        }
        let guessed = self.foreign || base.is_some() || matches!(root, Root::Of(..));
        // The kernel makes this directory anew for each mount (`ovl_make_workdir` in `fs/overlayfs/super.c`).
        let since = work.and_then(|(work, _)| work.birth(b"work"));
        self.verify(&stack, since, guessed)?;
        Ok(stack)
    }

    /// Holds the layers against the mount, which was made at `since` where that is known; with `guessed`
    /// the upper one must be proved to be its own.
    fn verify(
        &self,
        stack: &OverlayStack,
        since: Option<(i64, u32)>,
        guessed: bool,
    ) -> Result<(), ReachError> {
        let shown = |layer: &Layer| shown(layer.path.as_os_str().as_bytes());
        let proof = Proof::new(self, stack, since);
        match proof.upper() {
            Evidence::Confirmed => {}
            Evidence::Refuted => return Err(ReachError::Other(shown(&stack.upper))),
            Evidence::Silent if guessed => return Err(ReachError::Unproven(shown(&stack.upper))),
            Evidence::Silent => {}
        }
        match proof.refuted_lower() {
            Some(layer) => Err(ReachError::Other(shown(layer))),
            None => Ok(()),
        }
    }
}

/// Opens a layer by the path that was given when the overlay was mounted.
fn open(root: &Root, base: Option<&Path>, path: &[u8]) -> Result<Layer, ReachError> {
    let given = Path::new(OsStr::from_bytes(path));
    let whole = base.unwrap_or(Path::new("/")).join(given);
    let (dir, path) = match root {
        Root::Own => (Dir::open(&whole), whole),
        Root::Of(root, shown) => {
            let bytes = whole.as_os_str().as_bytes();
            let beneath = whole.strip_prefix("/").unwrap_or(&whole);
            (root.open_as_root(bytes), shown.join(beneath))
        }
    };
    let unreachable = |errno: Errno| ReachError::Unreachable {
        path: shown(path.as_os_str().as_bytes()),
        why: std::io::Error::from(errno).to_string(),
    };
    Ok(Layer {
        dir: Arc::new(dir.map_err(unreachable)?),
        path,
        diff_id: None,
    })
}

fn shown(path: &[u8]) -> String {
    escape(path).into_owned()
}
