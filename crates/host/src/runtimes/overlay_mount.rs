//! Any overlay mount, named by its mount point: the kernel's own list says where its layers lie.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plimsoll_core::model::{Bytes, Container, ContainerId, Gap, RuntimeKind, escape};

use super::{Located, Runtime, RuntimeError};
use crate::fs::Dir;
use crate::layers::{Layer, LayerStack, MarkNamespace, OverlayStack, index};
use crate::proc::mountinfo::{self, OverlayMount as Layers};

/// An overlay mount of this process's mount namespace.
#[derive(Debug)]
pub struct OverlayMount {
    mount_point: PathBuf,
    layers: Layers,
}

impl OverlayMount {
    /// Finds the overlay that is mounted at `mount_point`, the topmost one if there are several.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when there is none, or the list of mounts cannot be read.
    pub fn at(mount_point: &Path) -> Result<Self, RuntimeError> {
        let shown = escape(mount_point.as_os_str().as_bytes()).into_owned();
        let unavailable = |why: String| RuntimeError::Unavailable(why);
        let resolved =
            std::fs::canonicalize(mount_point).map_err(|e| unavailable(format!("{shown}: {e}")))?;
        let text = crate::fs::read_small_bytes("/proc/self/mountinfo")
            .map_err(|e| unavailable(format!("/proc/self/mountinfo: {e}")))?;
        let mount = mountinfo::parse(&text)
            .into_iter()
            .rfind(|mount| mount.mount_point.as_bytes() == resolved.as_os_str().as_bytes())
            .filter(|mount| mount.fs_type.as_bytes() == b"overlay")
            .ok_or_else(|| {
                unavailable(format!(
                    "no overlay is mounted at {shown}: /proc/self/mountinfo lists those that are"
                ))
            })?;
        let layers = Layers::decode(mount.super_options.as_bytes());
        Ok(Self {
            mount_point: resolved,
            layers,
        })
    }
}

impl Runtime for OverlayMount {
    fn describe(&self) -> String {
        format!(
            "the overlay at {}",
            Bytes::from(self.mount_point.as_os_str().as_bytes())
        )
    }

    fn containers(&self) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        let path = self.mount_point.as_os_str().as_bytes();
        let container = Container {
            name: Some(escape(path).into_owned()),
            ..Container::new(
                ContainerId::new(escape(path).into_owned()),
                RuntimeKind::Overlay,
            )
        };
        Ok((vec![container], Vec::new()))
    }

    fn locate(&self, _: &Container, _: bool) -> Result<Located, RuntimeError> {
        let upper = self.layers.upper.as_deref().ok_or_else(|| {
            RuntimeError::Unavailable(format!(
                "the overlay at {} has no upper layer: nothing in it can change",
                Bytes::from(self.mount_point.as_os_str().as_bytes())
            ))
        })?;
        let open_all = |paths: &[Vec<u8>]| {
            paths
                .iter()
                .map(|path| open(path))
                .collect::<Result<Vec<_>, _>>()
        };
        let stack = OverlayStack {
            upper: open(upper)?,
            index: match self.layers.work.as_deref() {
                Some(work) => index(open(work)?.dir.child(b"index")).map_err(|errno| {
                    RuntimeError::Unavailable(format!(
                        "the index of the work directory {}: {}",
                        escape(work),
                        std::io::Error::from(errno)
                    ))
                })?,
                None => None,
            },
            injected: Vec::new(),
            injected_paths: Vec::new(),
            image: open_all(&self.layers.lower)?
                .into_iter()
                .map(Arc::new)
                .collect(),
            data_only: open_all(&self.layers.data_only)?,
            marks: if self.layers.userxattr {
                MarkNamespace::User
            } else {
                MarkNamespace::Trusted
            },
        };
        Ok(Located {
            stack: LayerStack::Overlay(stack),
            mounts: Vec::new(),
            gaps: Vec::new(),
        })
    }
}

/// Opens a layer by the path that was given when the overlay was mounted.
fn open(path: &[u8]) -> Result<Layer, RuntimeError> {
    let shown = escape(path);
    if path.first() != Some(&b'/') {
        return Err(RuntimeError::Unavailable(format!(
            "the layer {shown} was mounted by a relative path, which does not tell where it is: name the container by its runtime"
        )));
    }
    let path = Path::new(OsStr::from_bytes(path));
    let dir = Dir::open(path).map_err(|errno| {
        RuntimeError::Unavailable(format!("layer {shown}: {}", std::io::Error::from(errno)))
    })?;
    Ok(Layer {
        dir: Arc::new(dir),
        path: path.to_owned(),
        diff_id: None,
    })
}
