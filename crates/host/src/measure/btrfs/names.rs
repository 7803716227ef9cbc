//! Which names of a directory may lead to a difference.

use std::ops::ControlFlow;

use super::candidates::Candidates;
use super::{BtrfsPair, Node, PLACEHOLDER};
use crate::fs::btrfs::decode::Location;
use crate::measure::{Names, Trouble};

/// Names looked at in one go: about as many as one search returns.
const PORTION: u32 = 2048;

/// Where a listing stands. Entries are gone through in portions, so that the size of a directory, which
/// is the container's choice, costs no memory.
#[derive(Debug, Default)]
pub struct Cursor {
    stage: Stage,
    /// Index of the next entry.
    next: u64,
    /// The last name that leads to a candidate.
    last: Option<Box<[u8]>>,
}

/// What of a directory is being listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// Names that lead to candidates.
    #[default]
    Leading,
    /// Entries that one side has and the other has not.
    Differing,
    /// Every entry of the image's directory.
    Image,
    /// Every entry of the container's that the image's does not have.
    Container,
    Ended,
}

/// An entry of a directory. Two are the same when they were made at once: a name that was taken away
/// and given again has another index.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    index: u64,
    location: Option<Location>,
    name: Box<[u8]>,
}

/// Some entries of a directory, and the last index up to which they are all that there are.
struct Portion {
    entries: Vec<Entry>,
    upto: u64,
}

impl BtrfsPair<'_> {
    /// Adds names of a directory that both sides have, beneath which they may differ, and returns
    /// whether there are more.
    pub(super) fn suspects(
        &mut self,
        image: &Node,
        container: &Node,
        cursor: &mut Cursor,
        out: &mut Names,
    ) -> Result<bool, Trouble> {
        match cursor.stage {
            Stage::Leading => self.leading(image, container, cursor, out)?,
            Stage::Differing => self.differing(image, container, cursor, out)?,
            Stage::Image => {
                let portion = self.portion(image, cursor.next)?;
                for entry in &portion.entries {
                    out.push(&entry.name);
                }
                cursor.advance(portion.upto, Stage::Container);
            }
            Stage::Container => {
                let portion = self.portion(container, cursor.next)?;
                for entry in &portion.entries {
                    if !self.has(image, &entry.name)? {
                        out.push(&entry.name);
                    }
                }
                cursor.advance(portion.upto, Stage::Ended);
            }
            Stage::Ended => {}
        }
        Ok(cursor.stage != Stage::Ended)
    }

    /// Adds every name of a directory, and returns whether there are more.
    pub(super) fn every_name(
        &mut self,
        dir: &Node,
        cursor: &mut Cursor,
        out: &mut Names,
    ) -> Result<bool, Trouble> {
        let portion = self.portion(dir, cursor.next)?;
        for entry in &portion.entries {
            out.push(&entry.name);
        }
        cursor.advance(portion.upto, Stage::Ended);
        Ok(cursor.stage != Stage::Ended)
    }

    fn leading(
        &mut self,
        image: &Node,
        container: &Node,
        cursor: &mut Cursor,
        out: &mut Names,
    ) -> Result<(), Trouble> {
        let same = self.one_inode(image, container);
        let Some(candidates) = self.candidates.as_ref().filter(|_| same) else {
            cursor.stage = Stage::Image;
            return Ok(());
        };
        let is_listed = candidates.contains(image.number);
        let mut last = None;
        let mut count = 0;
        for name in candidates
            .names_in(image.number, cursor.last.as_deref())
            .take(PORTION as usize)
        {
            out.push(name);
            last = Some(name);
            count += 1;
        }
        match last {
            Some(name) => cursor.last = Some(name.into()),
            None if is_listed => cursor.stage = Stage::Differing,
            None => cursor.stage = Stage::Ended,
        }
        if count > 0 {
            // Entries that were inherited are looked up in the image alone.
            let inherited = self.is_inherited(container);
            for dir in [Some(image), (!inherited).then_some(container)]
                .into_iter()
                .flatten()
            {
                let place = (dir.number, dir.item.size);
                self.trees
                    .expect_lookups(dir.tree, place, count, is_listed)?;
            }
        }
        Ok(())
    }

    /// Compares the next portion of entries of two directories that are one inode: most have the same
    /// index, place and name.
    fn differing(
        &mut self,
        image: &Node,
        container: &Node,
        cursor: &mut Cursor,
        out: &mut Names,
    ) -> Result<(), Trouble> {
        let ours = self.portion(image, cursor.next)?;
        let theirs = self.portion(container, cursor.next)?;
        let upto = ours.upto.min(theirs.upto);
        let within = |portion: Portion| {
            let entries = portion.entries.into_iter();
            entries.take_while(move |entry| entry.index <= upto)
        };
        let (mut ours, mut theirs) = (within(ours).peekable(), within(theirs).peekable());
        loop {
            let entry = match (ours.peek(), theirs.peek()) {
                (None, None) => break,
                (Some(a), Some(b)) if a == b => {
                    theirs.next();
                    ours.next();
                    continue;
                }
                (Some(a), Some(b)) if a > b => theirs.next().map(|entry| (entry, true)),
                (None, Some(_)) => theirs.next().map(|entry| (entry, true)),
                (Some(_), _) => ours.next().map(|entry| (entry, false)),
            };
            let Some((entry, is_theirs)) = entry else {
                break;
            };
            let leads = |candidates: &Candidates| candidates.leads(image.number, &entry.name);
            let known = self.candidates.as_ref().is_some_and(leads);
            // A name that both have differs on both sides, and was added with the image's entry.
            if !(known || is_theirs && self.has(image, &entry.name)?) {
                out.push(&entry.name);
            }
        }
        cursor.advance(upto, Stage::Ended);
        Ok(())
    }

    fn has(&mut self, dir: &Node, name: &[u8]) -> Result<bool, Trouble> {
        if dir.number == PLACEHOLDER {
            return Ok(false);
        }
        Ok(self.trees.entry(dir.tree, dir.number, name)?.is_some())
    }

    /// Returns the next entries of a directory, from index `from` on.
    fn portion(&mut self, dir: &Node, from: u64) -> Result<Portion, Trouble> {
        let mut portion = Portion {
            entries: Vec::new(),
            upto: u64::MAX,
        };
        if !dir.file_type.has_entries() || dir.number == PLACEHOLDER {
            return Ok(portion);
        }
        self.trees.entries(
            dir.tree,
            (dir.number, dir.item.size),
            from,
            PORTION,
            |index, entry| {
                portion.entries.push(Entry {
                    index,
                    location: entry.location,
                    name: entry.name.into(),
                });
                if portion.entries.len() < PORTION as usize {
                    return ControlFlow::Continue(());
                }
                portion.upto = index;
                ControlFlow::Break(())
            },
        )?;
        Ok(portion)
    }
}

impl Cursor {
    /// Steps past the entries up to this index, and on to the next stage when that is the last one.
    fn advance(&mut self, upto: u64, next: Stage) {
        match upto.checked_add(1) {
            Some(index) => self.next = index,
            None => (self.next, self.stage) = (0, next),
        }
    }
}
