//! Files whose content metadata alone does not tell, decided many at a time.
//!
//! Each would cost a search for the checksums of either side, reads of single blocks, and a search that
//! shows that the extents are still there. Of many files together the checksums lie in a few places, and
//! so do the blocks; and where nothing in either tree changed since the comparison began, which one search
//! of each tells, all extents are where they were. While some are read and compared, the next are found.

use std::collections::VecDeque;
use std::ops::Range;

use super::content::{Apart, Comparison};
use super::device::Unreadable;
use super::extents::{File, Segment, was_still};
use super::reading::{GAP, WINDOW};
use super::{BtrfsPair, Node};
use crate::fs::btrfs::Trees;
use crate::measure::{Content, Settled, Trouble};

/// Files decided at a time, and how much of them is apart, in bytes.
const FILES: usize = 256;
const BYTES: u64 = 32 << 20;

/// How much of a file is read and compared at a time, of either side.
const PIECE: u64 = 48 << 10;

/// From how many pieces on threads read them while others are compared. Starting these costs as much as
/// reading a few.
const MANY: usize = 24;

/// How much of a file may be apart that waits, in bytes.
const LONGEST: u64 = 1 << 20;

/// A file that waits, with all ranges that the two sides hold in different places.
#[derive(Debug)]
struct Waiting {
    ticket: u64,
    image: File,
    container: File,
    size: u64,
    apart: Vec<Apart>,
}

/// The files that wait, those that are compared, and those that were decided and not asked for yet.
#[derive(Debug, Default)]
pub(super) struct Batch {
    waiting: Vec<Waiting>,
    /// How much of these is apart.
    bytes: u64,
    under_way: Option<UnderWay>,
    decided: VecDeque<Settled<Node>>,
    tickets: u64,
}

/// Files that are compared, piece by piece, while others are found that will be.
#[derive(Debug, Default)]
struct UnderWay {
    files: Vec<Waiting>,
    /// What is known of each so far.
    contents: Vec<Result<Content, Unreadable>>,
    /// What is to be read and compared, in this order.
    pieces: Vec<Piece>,
    /// How many of them were handed over to be read.
    submitted: usize,
    /// Up to which one each window reaches that is read.
    windows: VecDeque<usize>,
    compared: usize,
}

/// A part of a range that the two sides of a file hold in different places.
#[derive(Debug, Clone, Copy)]
struct Piece {
    file: usize,
    apart: usize,
    from: u64,
    to: u64,
    /// Where it lies on the image's side, or on the only one.
    place: u64,
}

impl Batch {
    /// Takes in a file to be decided later, and returns its ticket.
    fn add(&mut self, (image, container, size): (File, File, u64), apart: Vec<Apart>) -> u64 {
        self.tickets += 1;
        self.bytes += apart.iter().map(Apart::length).sum::<u64>();
        self.waiting.push(Waiting {
            ticket: self.tickets,
            image,
            container,
            size,
            apart,
        });
        self.tickets
    }

    /// Whether as many wait as are decided at a time.
    fn is_full(&self) -> bool {
        self.waiting.len() >= FILES || self.bytes >= BYTES
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

    /// Returns a file that was decided; goes on with those that are compared, and begins with those that wait
    /// when there are enough, or `all` are to be decided.
    pub(super) fn decided(&mut self, all: bool) -> Option<Settled<Node>> {
        while self.batch.decided.is_empty() {
            let enough = all || self.batch.is_full();
            if let Some(mut under_way) = self.batch.under_way.take() {
                match self.proceed(&mut under_way, enough) {
                    true => self.conclude(under_way),
                    false => {
                        self.batch.under_way = Some(under_way);
                        break;
                    }
                }
            } else if enough && !self.batch.waiting.is_empty() {
                self.begin();
            } else {
                break;
            }
        }
        self.batch.decided.pop_front()
    }

    /// Begins to compare every file that waits: by their checksums, as far as these tell.
    fn begin(&mut self) {
        let files = std::mem::take(&mut self.batch.waiting);
        self.batch.bytes = 0;
        self.devices.is_ahead = true;
        let mut comparison = self.comparison();
        let all = files.iter().flat_map(|file| &file.apart);
        // What cannot be read ahead is read, or told, where it is needed.
        drop(comparison.read_checksums_ahead(all.flat_map(Apart::places).collect()));
        let mut contents: Vec<Result<Content, Unreadable>> = Vec::with_capacity(files.len());
        let mut pieces = Vec::new();
        for (at, file) in files.iter().enumerate() {
            let before = pieces.len();
            let content = unread(&mut comparison, at, file, &mut pieces);
            if !matches!(content, Ok(Content::Same | Content::Undecided)) {
                pieces.truncate(before);
            }
            contents.push(content);
        }
        // In the order in which the image's lie on disk: the container's were written in the same, mostly.
        pieces.sort_unstable_by_key(|piece| piece.place);
        if pieces.len() >= MANY {
            self.devices.reading.start_threads();
        }
        let mut under_way = UnderWay {
            files,
            contents,
            pieces,
            ..UnderWay::default()
        };
        self.hand_over(&mut under_way);
        self.devices.is_ahead = false;
        self.batch.under_way = Some(under_way);
    }

    /// Hands pieces over to be read, as many windows as there is room for.
    fn hand_over(&mut self, under_way: &mut UnderWay) {
        while under_way.submitted < under_way.pieces.len() && self.devices.reading.has_room() {
            let (end, places) = under_way.next_window();
            self.devices.submit_window(&mut self.trees, places);
            under_way.windows.push_back(end);
            under_way.submitted = end;
        }
    }

    /// Compares what was read, and returns whether that was all. Without `wait` it takes what is there.
    fn proceed(&mut self, under_way: &mut UnderWay, wait: bool) -> bool {
        self.devices.is_ahead = true;
        while let Some(&end) = under_way.windows.front() {
            if !self.devices.reading.advance(wait) {
                break;
            }
            under_way.windows.pop_front();
            self.hand_over(under_way);
            let mut comparison = self.comparison();
            let pieces = under_way.pieces.get(under_way.compared..end);
            for piece in pieces.unwrap_or_default() {
                let (Some(file), Some(content)) = (
                    under_way.files.get(piece.file),
                    under_way.contents.get_mut(piece.file),
                ) else {
                    continue;
                };
                // What one piece decides is decided; one that cannot be compared leaves that to the others.
                if let Ok(Content::Same | Content::Undecided) = content
                    && let Some(apart) = file.apart.get(piece.apart)
                {
                    match comparison.part(apart, piece.from..piece.to) {
                        Ok(Content::Same) => {}
                        told => *content = told,
                    }
                }
            }
            under_way.compared = end;
        }
        self.devices.is_ahead = false;
        under_way.windows.is_empty()
    }

    /// Notes what was decided of files that were compared.
    fn conclude(&mut self, under_way: UnderWay) {
        let UnderWay {
            files,
            mut contents,
            ..
        } = under_way;
        self.devices.forget();
        // What was found is about these files only if the extents are still theirs. Both trees are looked at
        // once more: any change of theirs made a block of a later transaction.
        let moved = match self.stands_still() {
            true => Vec::new(),
            false => moved_meanwhile(&mut self.trees, &files, &contents),
        };
        if !moved.is_empty() {
            self.trees.refresh();
        }
        for at in moved {
            if let Some(content) = contents.get_mut(at) {
                *content = Err(Unreadable::Moved);
            }
        }
        for (file, content) in files.into_iter().zip(contents) {
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
}

impl UnderWay {
    /// Returns where the pieces lie that are read next into one window, and up to which one these are.
    fn next_window(&self) -> (usize, Vec<Range<u64>>) {
        let mut places: Vec<Range<u64>> = Vec::new();
        // How far what is read reaches on either side, and how long all of it is.
        let (mut reach, mut length) = ([0; 2], 0);
        let mut end = self.submitted;
        let rest = self.pieces.get(end..).unwrap_or_default();
        for piece in rest {
            let apart = self.files.get(piece.file);
            let Some(apart) = apart.and_then(|file| file.apart.get(piece.apart)) else {
                break;
            };
            let before = places.len();
            let mut longer = length;
            places.extend(apart.places_of(piece.from..piece.to));
            let added = places.get(before..).unwrap_or_default();
            for (place, reach) in added.iter().zip(&mut reach) {
                let gap = place.start.checked_sub(*reach).filter(|gap| *gap <= GAP);
                longer += place.end - place.start + gap.unwrap_or(0);
                *reach = place.end;
            }
            if end > self.submitted && longer > WINDOW {
                places.truncate(before);
                break;
            }
            length = longer;
            end += 1;
        }
        (end.max(self.submitted + 1), places)
    }
}

/// Compares a file as far as that takes no reading of its bytes, and adds the pieces of what takes it: these
/// tell whether it differs where it is the same so far.
fn unread(
    comparison: &mut Comparison<'_, '_>,
    number: usize,
    file: &Waiting,
    pieces: &mut Vec<Piece>,
) -> Result<Content, Unreadable> {
    let mut content = Content::Same;
    for (at, apart) in file.apart.iter().enumerate() {
        match comparison.range_unread(apart, file.size)? {
            None => pieces.extend(pieces_of(apart).map(|piece| Piece {
                file: number,
                apart: at,
                ..piece
            })),
            Some(Content::Same) => {}
            Some(Content::Different) => return Ok(Content::Different),
            Some(Content::Undecided | Content::Pending(_)) => content = Content::Undecided,
        }
    }
    Ok(content)
}

/// Returns the pieces of a range.
fn pieces_of(apart: &Apart) -> impl Iterator<Item = Piece> {
    let portion = match apart.has_parts() {
        true => PIECE,
        false => apart.length().max(1),
    };
    let mut from = apart.from;
    std::iter::from_fn(move || {
        if from >= apart.to {
            return None;
        }
        let to = apart.to.min(from.saturating_add(portion));
        let place = apart.places_of(from..to).next();
        let piece = Piece {
            file: 0,
            apart: 0,
            from,
            to,
            place: place.map_or(0, |place| place.start),
        };
        from = to;
        Some(piece)
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::btrfs::decode::{FileExtent, Place};

    /// A file that lies at one place in the image and at another one in the container.
    fn file(image: u64, container: u64, length: u64, compression: u8) -> Waiting {
        let segment = |address| Segment {
            start: 0,
            end: length,
            extent: FileExtent {
                generation: 7,
                ram_bytes: length,
                compression,
                place: Place::Disk {
                    address,
                    disk_length: length,
                    offset: 0,
                    length,
                },
            },
        };
        Waiting {
            ticket: 0,
            image: (5, 300),
            container: (6, 300),
            size: length,
            apart: vec![Apart {
                image: segment(image),
                container: segment(container),
                from: 0,
                to: length,
            }],
        }
    }

    #[test]
    fn every_piece_is_read_once_and_windows_stay_within_bounds() {
        const KIB: u64 = 1 << 10;
        let mut files = Vec::new();
        let (mut image, mut container) = (1 << 30, 1 << 40);
        for n in 0..200 {
            let length = (1 + n * 37 % 300) * KIB;
            // A compressed one is read as a whole.
            let compression = u8::from(n % 7 == 0 && length <= WINDOW);
            files.push(file(image, container, length, compression));
            image += (length + n % 2 * 30 * KIB).next_multiple_of(4 * KIB);
            container += length.next_multiple_of(4 * KIB);
        }
        let mut under_way = UnderWay::default();
        for (number, file) in files.iter().enumerate() {
            let pieces = file.apart.iter().flat_map(pieces_of);
            under_way.pieces.extend(pieces.map(|piece| Piece {
                file: number,
                ..piece
            }));
        }
        let lengths = |number: usize| -> u64 {
            let own = under_way.pieces.iter().filter(|own| own.file == number);
            own.map(|piece| piece.to - piece.from).sum()
        };
        for (number, file) in files.iter().enumerate() {
            assert_eq!(lengths(number), file.size);
        }
        under_way.files = files;
        while under_way.submitted < under_way.pieces.len() {
            let (end, places) = under_way.next_window();
            assert!(end > under_way.submitted);
            let length: u64 = places.iter().map(|place| place.end - place.start).sum();
            assert!(
                length <= WINDOW || end == under_way.submitted + 1,
                "{length}"
            );
            assert_eq!(places.len(), 2 * (end - under_way.submitted));
            under_way.submitted = end;
        }
    }
}
