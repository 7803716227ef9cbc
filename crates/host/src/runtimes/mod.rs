//! FIND: which containers exist, and where their layers lie.
//!
//! To add a runtime: a folder here that implements [`Runtime`], and one line in the table of
//! [`find`].

pub mod containerd;
pub mod docker;
pub mod find;
mod image_config;
mod image_manifest;
mod links;
mod lower;
mod made;
mod mounted;
pub mod overlay_mount;
pub mod process;
pub mod storage;
pub mod subvolume;
pub mod tree;
mod unclaimed;

use plimsoll_core::model::{Change, Container, ExpectedMount, Gap, RuntimePath};

use crate::layers::LayerStack;
use crate::layers::stored::StoredImage;

/// Why a runtime could not be asked, or a container not be located.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// Something that the operator can mend: the text names the thing and the way out.
    #[error("{0}")]
    Unavailable(String),
    /// Where it was looked for there is no such runtime; the text says where, and the way out.
    #[error("{0}")]
    Absent(String),
    /// The container's storage driver has no engine. `--engine digest` may still do it.
    #[error(
        "storage driver \"{driver}\" keeps no metadata that Plimsoll can compare: use --engine digest"
    )]
    UnsupportedDriver {
        /// The driver's name as the runtime's record gives it, escaped.
        driver: String,
    },
    /// The runtime's records contradict each other or lead outside its data root.
    #[error("the records of the runtime are not consistent: {0}")]
    Inconsistent(String),
    /// The container went away.
    #[error("the container is gone")]
    Gone,
}

impl RuntimeError {
    /// Says what keeps the layers of an image from being verified: one clause.
    fn of_image(&self) -> String {
        match self {
            Self::UnsupportedDriver { driver } => {
                format!("\"{driver}\" keeps layers in a form that cannot be verified")
            }
            error => error.to_string(),
        }
    }
}

impl RuntimeError {
    /// Returns the error about a runtime that must be there, since somebody said so.
    #[must_use]
    pub fn of_what_must_be(self) -> Self {
        match self {
            Self::Absent(why) => Self::Unavailable(why),
            other => other,
        }
    }
}

/// A container whose layers were found.
#[derive(Debug)]
pub struct Located {
    /// The two sides.
    pub stack: LayerStack,
    /// What runtime and configuration mount over the rootfs of this container while it runs.
    pub mounts: Vec<ExpectedMount>,
    /// What could not be seen, or is contradictory, about where they lie.
    pub gaps: Vec<Gap>,
}

/// One place where containers live.
pub trait Runtime {
    /// Returns what is looked at, for people: the runtime, and the path of what it keeps.
    fn describe(&self) -> String;

    /// Returns each place where containers of it are kept, for people: the path, and who is asked about them.
    fn places(&self) -> Vec<String> {
        vec![self.describe()]
    }

    /// Returns every container of this runtime, in any state, sorted by name, and what of its
    /// records could not be read.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when the runtime's records cannot be read at all.
    fn containers(&self) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError>;

    /// Returns the containers that a name could mean: those of exactly this name or id, or else those
    /// with ids that begin so; and what could not be read that may be about them.
    ///
    /// # Errors
    /// [`RuntimeError`] when the runtime's records cannot be read at all.
    fn named(&self, name: &str) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        let (mut all, gaps) = self.containers()?;
        let exact = all.iter().any(|container| container.is_called(name));
        all.retain(|container| match exact {
            true => container.is_called(name),
            false => !name.is_empty() && container.id.as_str().starts_with(name),
        });
        Ok((all, gaps))
    }

    /// Returns the images that it keeps, none where it is no runtime, and what of its records could not be
    /// read.
    ///
    /// # Errors
    /// [`RuntimeError`] when its records cannot be read at all.
    fn images(&self) -> Result<(Vec<StoredImage>, Vec<Gap>), RuntimeError> {
        Ok((Vec::new(), Vec::new()))
    }

    /// Finds the layers of one of its containers.
    ///
    /// With `plain` a driver without an engine is located as two whole trees where it can be.
    ///
    /// # Errors
    /// [`RuntimeError`] when they cannot be found or do not make sense.
    fn locate(&self, container: &Container, plain: bool) -> Result<Located, RuntimeError>;

    /// Returns mounts that the runtime may have made without that a record of the container says so, where
    /// the links of its image lead. Asked only of a container with a mount that nothing else accounts for.
    fn further_mounts(&self, container: &Container, stack: &LayerStack) -> Vec<ExpectedMount> {
        let _ = (container, stack);
        Vec::new()
    }

    /// Returns the paths that the runtime itself may have made in the writable layer of a container: see
    /// [`Container::runtime_paths`]. Asked only of a container in which something differs: what can be none of
    /// these changes may be left out.
    fn runtime_paths(
        &self,
        container: &Container,
        stack: &LayerStack,
        changes: &[Change],
    ) -> (Vec<RuntimePath>, Vec<Gap>) {
        let _ = (container, stack, changes);
        Default::default()
    }

    /// Looks, after a container was compared, whether it is still the same one; returns why not.
    fn vanished(&self, container: &Container) -> Option<Gap> {
        let _ = container;
        None
    }
}
