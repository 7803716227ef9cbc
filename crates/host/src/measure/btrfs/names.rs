//! Which names of a directory may lead to a difference.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::rc::Rc;

use super::{BATCH, BtrfsPair, Node, PLACEHOLDER};
use crate::fs::btrfs::decode::{self, DIR_INDEX, Location};
use crate::measure::Trouble;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Entry {
    index: u64,
    location: Option<Location>,
    name: Box<[u8]>,
}

impl BtrfsPair<'_> {
    /// Returns the names of a directory that both sides have, beneath which they may differ.
    pub(super) fn differing_names(
        &mut self,
        image: &Node,
        container: &Node,
    ) -> Result<Rc<[Box<[u8]>]>, Trouble> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let same = self.one_inode(image, container);
        let candidates = self.candidates.take();
        let leading = match &candidates {
            Some(candidates) if same => {
                names.extend(candidates.names_in(image.number).map(Into::into));
                candidates.contains(image.number)
            }
            _ => true,
        };
        self.candidates = candidates;
        if leading {
            let (ours, theirs) = (self.entries(image)?, self.entries(container)?);
            let (ours, theirs): (HashSet<&Entry>, HashSet<&Entry>) =
                (ours.iter().collect(), theirs.iter().collect());
            if same {
                names.extend(
                    ours.symmetric_difference(&theirs)
                        .map(|entry| entry.name.clone()),
                );
            } else {
                names.extend(ours.union(&theirs).map(|entry| entry.name.clone()));
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names.into())
    }

    /// Returns the entries of a directory.
    fn entries(&mut self, dir: &Node) -> Result<Vec<Entry>, Trouble> {
        let mut entries = Vec::new();
        if !dir.file_type.has_entries() || dir.number == PLACEHOLDER {
            return Ok(entries);
        }
        let range = (
            (dir.number, DIR_INDEX, 0),
            (dir.number, DIR_INDEX, u64::MAX),
        );
        self.trees.each(dir.tree, range, 0, BATCH, |item| {
            entries.extend(decode::dir_entries(item.data).map(|entry| Entry {
                index: item.offset,
                location: entry.location,
                name: entry.name.into(),
            }));
            ControlFlow::Continue(())
        })?;
        Ok(entries)
    }
}
