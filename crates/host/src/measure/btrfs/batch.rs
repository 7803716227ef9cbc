//! Files whose content metadata alone does not tell, decided many at a time.
//!
//! Each would cost a search for the checksums of either side, reads of single blocks, and a search that
//! shows that the extents are still there. Of many files together the checksums lie in a few places, and
//! so do the blocks; and where nothing in either tree changed since the comparison began, which one search
//! of each tells, all extents are where they were.

use std::collections::VecDeque;
use std::ops::Range;

use super::content::Apart;
use super::device::Unreadable;
use super::extents::{File, Segment, was_still};
use super::reading::span;
use super::{BtrfsPair, Node};
use crate::fs::btrfs::Trees;
use crate::measure::{Content, Settled, Trouble};

/// Files decided at a time.
const FILES: usize = 384;

/// Bytes that are read at a time, those between them included, and held.
const BYTES: u64 = 256 << 10;

/// From how many such portions on the next one is read by a thread while one is compared.
const WINDOWS: usize = 8;

/// How much of a file may be apart that waits, in bytes.
const LONGEST: u64 = 256 << 10;

/// A file that waits, with all ranges that the two sides hold in different places.
#[derive(Debug)]
struct Waiting {
    ticket: u64,
    image: File,
    container: File,
    size: u64,
    apart: Vec<Apart>,
}

/// The files that wait, and those that were decided and not asked for yet.
#[derive(Debug, Default)]
pub(super) struct Batch {
    waiting: Vec<Waiting>,
    decided: VecDeque<Settled<Node>>,
    tickets: u64,
}

impl Batch {
    /// Takes in a file to be decided later, and returns its ticket.
    fn add(&mut self, (image, container, size): (File, File, u64), apart: Vec<Apart>) -> u64 {
        self.tickets += 1;
        self.waiting.push(Waiting {
            ticket: self.tickets,
            image,
            container,
            size,
            apart,
        });
        self.tickets
    }
}

impl BtrfsPair<'_> {
    /// Compares two files of equal size, or lets them wait until there are more.
    pub(super) fn content(
        &mut self,
        image: File,
        container: File,
        size: u64,
    ) -> Result<Content, Trouble> {
        match self.comparison().apart(image, container, size, LONGEST) {
            Ok(Some(apart)) if apart.is_empty() => Ok(Content::Same),
            Ok(Some(apart)) if apart.iter().any(Apart::is_on_disk) => Ok(Content::Pending(
                self.batch.add((image, container, size), apart),
            )),
            // What is told by what was read already, what is too large to wait, and what is in the way.
            _ => self.content_now(image, container, size),
        }
    }

    /// Compares two files of equal size.
    pub(super) fn content_now(
        &mut self,
        image: File,
        container: File,
        size: u64,
    ) -> Result<Content, Trouble> {
        self.comparison().compare(image, container, size)
    }

    /// Returns a file that was decided; decides those that wait when there are enough, or `all` are to
    /// be.
    pub(super) fn decided(&mut self, all: bool) -> Option<Settled<Node>> {
        let batch = &self.batch;
        if batch.decided.is_empty() && (all || batch.waiting.len() >= FILES) {
            self.decide();
        }
        self.batch.decided.pop_front()
    }

    /// Decides every file that waits.
    fn decide(&mut self) {
        let waiting = std::mem::take(&mut self.batch.waiting);
        if waiting.is_empty() {
            return;
        }
        let mut contents = self.compare_all(&waiting);
        self.devices.forget();
        // What was found is about these files only if the extents are still theirs. Both trees are looked at
        // once more: any change of theirs made a block of a later transaction.
        let moved = match self.stands_still() {
            true => Vec::new(),
            false => moved_meanwhile(&mut self.trees, &waiting, &contents),
        };
        if !moved.is_empty() {
            self.trees.refresh();
        }
        for at in moved {
            if let Some(content) = contents.get_mut(at) {
                *content = Err(Unreadable::Moved);
            }
        }
        for (file, content) in waiting.into_iter().zip(contents) {
            let content = match content {
                Ok(content) => Ok(content),
                Err(Unreadable::NotSupported) => Ok(Content::Undecided),
                Err(Unreadable::Trouble(trouble)) => Err(trouble),
                Err(Unreadable::Moved) => self.content_now(file.image, file.container, file.size),
            };
            self.batch.decided.push_back(Settled {
                ticket: file.ticket,
                content,
                moved: None,
            });
        }
    }

    /// Whether nothing in either tree changed since the comparison began, and so no extent did.
    fn stands_still(&mut self) -> bool {
        let trees = [
            (self.container, self.start.generation),
            (self.image, self.image_generation),
        ];
        let touched = |(tree, generation)| self.trees.touched_since(tree, generation);
        trees
            .map(touched)
            .iter()
            .all(|touched| *touched == Ok(false))
    }

    /// Compares the contents of all of them: by their checksums, then by the bytes of those that these do not
    /// tell apart, some at a time.
    fn compare_all(&mut self, waiting: &[Waiting]) -> Vec<Result<Content, Unreadable>> {
        let mut comparison = self.comparison();
        let all = waiting.iter().flat_map(|file| &file.apart);
        // What cannot be read ahead is read, or told, where it is needed.
        drop(comparison.read_checksums_ahead(all.flat_map(Apart::places).collect()));
        let mut unread = Vec::new();
        let mut contents: Vec<Result<Content, Unreadable>> = Vec::with_capacity(waiting.len());
        for (at, file) in waiting.iter().enumerate() {
            let content = comparison.unread(&file.apart, file.size);
            contents.push(content.map(|content| {
                content.unwrap_or_else(|| {
                    unread.push((at, file));
                    Content::Undecided
                })
            }));
        }
        // In the order in which the image's lie on disk: the container's were written in the same, mostly.
        let place = |file: &Waiting| file.apart.iter().flat_map(Apart::places).next();
        unread.sort_by_cached_key(|(_, file)| place(file).map(|place| place.start));
        let windows = windows(&unread);
        // The start of a thread costs as much as reading a few of them.
        let by_thread = windows.len() >= WINDOWS && comparison.may_have_thread();
        for (n, some) in windows.iter().enumerate() {
            let next = windows.get(n + 1).filter(|_| by_thread);
            comparison.read_bytes_ahead(places(some), next.map(|next| places(next)));
            for &(at, file) in *some {
                if let Some(content) = contents.get_mut(at) {
                    *content = comparison.ranges(&file.apart, file.size);
                }
            }
        }
        contents
    }
}

/// Splits files into those whose bytes are read and held together.
fn windows<'f, 'w>(mut files: &'f [(usize, &'w Waiting)]) -> Vec<&'f [(usize, &'w Waiting)]> {
    let mut windows = Vec::new();
    while !files.is_empty() {
        let mut count = 1;
        while files
            .get(..count + 1)
            .is_some_and(|some| span(places(some)) <= BYTES)
        {
            count += 1;
        }
        let (some, rest) = files.split_at(count);
        windows.push(some);
        files = rest;
    }
    windows
}

/// Returns where the bytes lie that are to be compared.
fn places(files: &[(usize, &Waiting)]) -> Vec<Range<u64>> {
    let all = files.iter().flat_map(|(_, file)| &file.apart);
    all.flat_map(Apart::places).collect()
}

/// Returns which of the files that were compared have an extent no more that they had.
fn moved_meanwhile(
    trees: &mut Trees<'_>,
    waiting: &[Waiting],
    contents: &[Result<Content, Unreadable>],
) -> Vec<usize> {
    let mut extents = Vec::new();
    for (at, (file, content)) in waiting.iter().zip(contents).enumerate() {
        if matches!(content, Ok(Content::Same | Content::Different)) {
            for apart in &file.apart {
                extents.push((file.image, &apart.image, at));
                extents.push((file.container, &apart.container, at));
            }
        }
    }
    // In the order in which they lie in their trees.
    extents.sort_unstable_by_key(|(file, segment, _)| (*file, segment.start));
    trees.afresh(|trees| {
        let moved = |(file, segment, _): &(File, &Segment, usize)| {
            !was_still(trees, *file, segment).is_ok_and(|still| still)
        };
        let moved = extents.into_iter().filter(moved).map(|(.., at)| at);
        moved.collect()
    })
}
