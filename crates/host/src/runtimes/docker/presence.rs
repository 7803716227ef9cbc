//! Whether a container is still the one that was compared.

use plimsoll_core::model::{ContainerId, State};

use super::Docker;
use super::disk::RecordError;
use super::layerdb;
use super::snapshots::Storage;
use crate::runtimes::RuntimeError;

impl Docker {
    /// Whether a container's record is the one that it was compared by, and its layers are known: then it
    /// was not being removed.
    pub(super) fn is_as_compared(&self, id: &ContainerId) -> bool {
        self.source.roots.iter().any(|root| {
            root.record_as_read(id).is_some_and(|record| {
                !matches!(record.state.state(), State::Removing | State::Dead)
                    && match Storage::of(&record) {
                        Storage::Graph(driver) => layerdb::has_mount(root, driver.as_str(), id),
                        Storage::Snapshots(of) => self.snapshots.is_as_compared(root, id, of),
                    }
            })
        })
    }

    /// Looks whether a container is still there, record and layers.
    ///
    /// Docker writes down that a container is dead before it takes the layers away, and takes the
    /// layers away before the record (moby `daemon/delete.go`, `cleanupContainer`).
    pub(super) fn presence(&self, id: &ContainerId) -> Presence {
        let broken = |error| match error {
            RecordError::Absent => Presence::Leaving,
            RecordError::Broken(why) => Presence::Unknown(why),
        };
        let root = match self.root_of(id) {
            Ok(root) => root,
            Err(RuntimeError::Gone) => return Presence::Leaving,
            Err(error) => return Presence::Unknown(error.to_string()),
        };
        let record = match root.record(id) {
            Ok(record) => record,
            Err(error) => return broken(error),
        };
        if matches!(record.state.state(), State::Removing | State::Dead) {
            return Presence::Leaving;
        }
        let layers = match Storage::of(&record) {
            Storage::Graph(driver) => layerdb::mount_name(root, driver.as_str(), id).map(|_| ()),
            Storage::Snapshots(of) => match self.snapshots.find(root, id, of) {
                Ok(_) if !self.snapshots.was_made_anew(root, id, of) => Ok(()),
                Ok(_) => Err(RecordError::Broken("its snapshot was made anew".into())),
                Err(RuntimeError::Gone) => Err(RecordError::Absent),
                Err(error) => return Presence::Unknown(error.to_string()),
            },
        };
        match layers {
            Ok(()) => Presence::Here,
            // Gone since the record was read, or missing from a container that is not being removed.
            Err(RecordError::Absent) => match root.record(id) {
                Ok(record) if !matches!(record.state.state(), State::Removing | State::Dead) => {
                    Presence::Unknown("its layers are missing".into())
                }
                Ok(_) => Presence::Leaving,
                Err(error) => broken(error),
            },
            Err(error) => broken(error),
        }
    }
}

/// Whether a container is (still) there.
#[derive(Debug)]
pub(super) enum Presence {
    /// It is.
    Here,
    /// It is gone, or being removed: its layers may be there in part.
    Leaving,
    /// Its records do not tell, and why.
    Unknown(String),
}
