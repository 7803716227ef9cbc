//! Layers that the overlay driver keeps as composefs: an EROFS image of names and attributes, and a
//! directory of what the files hold, named by digests (`storage/drivers/overlay/composefs.go`).
//!
//! The driver mounts each image, stacks the mounts in the place of the layers' directories, puts these
//! last as layers of data alone, and lets go of the mounts (overlay.go, `get`): no path leads to them any
//! more, so the images are read as files.

use std::borrow::Cow;
use std::sync::Arc;

use super::chain::{Chain, Link};
use super::locate::{inconsistent, layer};
use super::store::{Store, clause};
use crate::fs::{Dir, Owners};
use crate::layers::Layer;
use crate::runtimes::RuntimeError;
use crate::runtimes::lower::{LayerName, excerpt, last_two};

/// The layers of a container that are kept so.
#[derive(Debug, Default)]
pub(super) struct Composed {
    names: Vec<LayerName>,
    data: Vec<Layer>,
}

impl Composed {
    /// Adds a layer of the image, the top one first, and returns it with its image in the place of its
    /// directory; `None` when it is kept as a directory.
    ///
    /// # Errors
    /// [`RuntimeError::Inconsistent`] when the image or the directory cannot be read.
    pub(super) fn add(
        &mut self,
        store: &Store,
        link: &Link,
        owners: Option<&Arc<Owners>>,
    ) -> Result<Option<Layer>, RuntimeError> {
        let blob = format!("overlay/{}/composefs-data/composefs.blob", link.name);
        let Some((home, path)) = store.home(link.home) else {
            return Ok(None);
        };
        let opened = match home.open_file(blob.as_bytes()) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.and_then(|(file, _)| Dir::of_image(file)),
        };
        let dir = opened.map_err(|e| inconsistent(format!("{blob}: {}", clause(&e))))?;
        self.data.push(layer(store, link, "diff", None)?);
        self.names.push(link.name.clone());
        Ok(Some(Layer {
            dir: Arc::new(match owners {
                Some(owners) => dir.with_owners(Arc::clone(owners)),
                None => dir,
            }),
            path: path.join(&blob),
            diff_id: link.diff_id,
        }))
    }

    /// Returns the directories of what the files hold, the top layer's first.
    pub(super) fn into_data(self) -> Vec<Layer> {
        self.data
    }

    /// Returns the lower directories of a mounted container as they would be without composefs and without
    /// a map of ids: in the place of each mount the layer's own directory, and no directory of data.
    ///
    /// # Errors
    /// One clause that says what is mounted otherwise.
    pub(super) fn lowers<'m>(
        &self,
        chain: &Chain,
        mounted: &[&'m [u8]],
    ) -> Result<Vec<Cow<'m, [u8]>>, String> {
        let (lowers, data) = match mounted.len().checked_sub(self.names.len()) {
            Some(at) => mounted.split_at(at),
            None => return Err("there are fewer lower layers than its image has".to_owned()),
        };
        for (name, path) in self.names.iter().zip(data) {
            if last_two(path) != Some((name.as_str().as_bytes(), b"diff")) {
                return Err(format!(
                    "the data of layer {name} is taken from \"{}\"",
                    excerpt(path)
                ));
            }
        }
        let own = chain.own.name.as_str().as_bytes();
        let is_composed = |link: &Link| self.names.contains(&link.name);
        // The mount of an image is named after the number of its layer in the container's record; a
        // directory that is mounted mapped, by how many were before.
        let stacked = chain.stacked().zip(1_usize..);
        let (mut composed, mut plain): (Vec<_>, Vec<_>) =
            stacked.partition(|(link, _)| is_composed(link));
        composed.reverse();
        plain.reverse();
        let mut before = 0_usize;
        let lowers = lowers.iter().map(|path| {
            let directory =
                |link: &Link| Cow::from([link.name.as_str().as_bytes(), b"/diff"].concat());
            if let (Some((b"composefs-layers", number)), Some((link, n))) =
                (last_two(path), composed.last())
                && number == n.to_string().as_bytes()
            {
                let link = directory(link);
                composed.pop();
                return link;
            }
            if last_two(path).is_some_and(|(_, last)| last.starts_with(b"diff") && last != b"diff")
            {
                return Cow::from(*path);
            }
            let found = plain.pop();
            let mapped = format!("/mapped/{before}/diff");
            before += 1;
            let is_mapped = path
                .strip_suffix(mapped.as_bytes())
                .is_some_and(|of| of == own || of.ends_with(&[b"/", own].concat()));
            match found {
                Some((link, _)) if is_mapped => directory(link),
                _ => Cow::from(*path),
            }
        });
        Ok(lowers.collect())
    }
}
