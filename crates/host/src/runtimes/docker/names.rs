//! Which container a name means.

use plimsoll_core::model::{Container, ContainerId, Gap};

use super::disk::{self, DataRoot, RecordError};
use super::{Docker, bare, gap_of, inconsistent, stray};
use crate::runtimes::RuntimeError;

impl Docker {
    /// Returns the ids of containers with this name or id, or else of those whose ids begin so, each with
    /// its data root.
    ///
    /// A daemon that was asked about the name has said whose it is. Without one every record has to be
    /// read, since nothing on disk leads from a name to its container.
    fn ids(
        &self,
        name: &str,
        gaps: &mut Vec<Gap>,
    ) -> Result<Vec<(&DataRoot, ContainerId)>, RuntimeError> {
        let names = |root: &DataRoot, id: &ContainerId| {
            root.record_named(id, name)
                .is_ok_and(|record| record.is_some_and(|record| bare(&record.name) == name))
        };
        if let Some(daemon) = &self.source.daemon
            && let Some(id) = daemon.told.borrow().as_ref().map(|told| &told.id)
            && let Some(id) = disk::container_id(id.as_bytes())
        {
            let mut roots = self.source.roots.iter();
            if let Some(root) = roots.find(|root| id.as_str() == name || names(root, &id)) {
                return Ok(vec![(root, id)]);
            }
        }
        if let Some(id) = disk::container_id(name.as_bytes()) {
            for root in &self.source.roots {
                if root.has(&id).is_ok_and(|has| has) {
                    return Ok(vec![(root, id)]);
                }
            }
        }
        let mut all = Vec::new();
        for root in &self.source.roots {
            let (ids, others) = root.container_ids().map_err(inconsistent)?;
            gaps.extend(others.into_iter().map(stray));
            all.extend(ids.into_iter().map(|id| (root, id)));
        }
        let exactly =
            |(root, id): &&(&DataRoot, ContainerId)| id.as_str() == name || names(root, id);
        let exact: Vec<_> = all.iter().filter(exactly).cloned().collect();
        let begins = |(_, id): &(&DataRoot, ContainerId)| id.as_str().starts_with(name);
        Ok(match exact.is_empty() {
            true if !name.is_empty() => all.into_iter().filter(begins).collect(),
            _ => exact,
        })
    }

    /// Returns the containers that a name could mean: that of this name or id, or else those with ids
    /// that begin so; and what of the records could not be read that is about no other container.
    ///
    /// # Errors
    /// [`RuntimeError::Inconsistent`] when the runtime's records cannot be read at all.
    pub(super) fn meant_by(&self, name: &str) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        let mut gaps = self.source.gaps.clone();
        let mut found = Vec::new();
        for (root, id) in self.ids(name, &mut gaps)? {
            match self.container(root, &id, root.record(&id), &mut gaps) {
                Ok(Some((container, _))) => found.push(container),
                Ok(None) => {}
                Err(RecordError::Absent) => gaps.push(gap_of(&id, "the record is missing")),
                Err(RecordError::Broken(why)) => gaps.push(gap_of(&id, &why)),
            }
        }
        Ok((found, gaps))
    }
}
