//! Two trees named by their paths: no runtime at all.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plimsoll_core::model::{Container, ContainerId, Gap, Image, RuntimeKind, escape};

use super::{Located, Runtime, RuntimeError};
use crate::fs::Dir;
use crate::layers::{Layer, LayerStack, PlainStack, btrfs};

/// An image's tree and a container's.
#[derive(Debug)]
pub struct Tree {
    image: PathBuf,
    container: PathBuf,
}

impl Tree {
    /// Names the two trees; nothing is opened yet.
    #[must_use]
    pub fn new(image: &Path, container: &Path) -> Self {
        Self {
            image: image.to_owned(),
            container: container.to_owned(),
        }
    }
}

impl Runtime for Tree {
    fn describe(&self) -> String {
        format!("the tree {}", escape(self.container.as_os_str().as_bytes()))
    }

    fn containers(&self) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        let path = escape(self.container.as_os_str().as_bytes()).into_owned();
        let container = Container {
            name: Some(path.clone()),
            image: Image {
                reference: Some(self.image.as_os_str().as_bytes().into()),
                ..Image::default()
            },
            ..Container::new(ContainerId::new(path), RuntimeKind::Tree)
        };
        Ok((vec![container], Vec::new()))
    }

    fn locate(&self, _: &Container, plain: bool) -> Result<Located, RuntimeError> {
        if !plain && let Some(stack) = btrfs::stack_of_paths(&self.image, &self.container) {
            return Ok(Located {
                stack: LayerStack::Btrfs(stack),
                gaps: Vec::new(),
                mounts: Vec::new(),
            });
        }
        let stack = PlainStack {
            image: open(&self.image)?,
            container: open(&self.container)?,
            injected: None,
        };
        Ok(Located {
            stack: LayerStack::Plain(stack),
            mounts: Vec::new(),
            gaps: Vec::new(),
        })
    }
}

fn open(path: &Path) -> Result<Layer, RuntimeError> {
    let dir = Dir::open(path).map_err(|errno| {
        let shown = escape(path.as_os_str().as_bytes());
        RuntimeError::Unavailable(format!("{shown}: {}", std::io::Error::from(errno)))
    })?;
    Ok(Layer {
        dir: Arc::new(dir),
        path: path.to_owned(),
        diff_id: None,
    })
}
