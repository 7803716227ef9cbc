//! Reading the bytes of many places at a few goes, while those that were read before are compared.
//!
//! A read past the page cache waits for the device, and on the way for a processor to wake up: one that is
//! alone takes many times as long as its bytes. So several are under way at once.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::ahead;
use super::compression::MAX_COMPRESSED;
use super::device::{ALIGNMENT, Devices, opened, to_usize};
use super::window::Window;
use crate::fs::btrfs::Trees;
use crate::measure::threads::Threads;

/// How far apart places may be whose bytes are read at one go, since what lies between them is read and held
/// too. One more read costs as much as the bytes of so large a gap.
pub(super) const GAP: u64 = 24 << 10;

/// Bytes that a window is made for, those between its places included.
pub(super) const WINDOW: u64 = 96 << 10;

/// Threads that read.
const READERS: usize = 2;

/// The longest place that is read into a window: of a compressed extent, which is read as a whole.
const LONGEST: u64 = MAX_COMPRESSED;

/// What fills a window.
#[derive(Debug, Default)]
struct Reads {
    /// Which window it is.
    number: u64,
    window: Window,
    /// Where each range of logical addresses lies, by these.
    places: Vec<(Arc<OwnedFd>, u64, Range<u64>)>,
}

impl Reads {
    /// Reads them. What cannot be read is not in the window.
    fn run(mut self) -> (u64, Window) {
        for (fd, offset, addresses) in self.places {
            // It is read where it is needed, and that tells what is wrong.
            drop(self.window.read(&fd, offset, addresses));
        }
        (self.number, self.window)
    }
}

/// The window that is asked, and those that are filled meanwhile.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Bytes that were read ahead.
    pub(super) window: Window,
    /// What serves for those that come.
    spares: Vec<Window>,
    /// Whether threads may read.
    pub(super) may_have_threads: bool,
    threads: Option<Threads<Reads, (u64, Window)>>,
    /// What is read only when it is asked for, without threads.
    own: VecDeque<Reads>,
    /// Those that are full before their turn.
    full: BTreeMap<u64, Window>,
    submitted: u64,
    taken: u64,
}

impl Reading {
    /// Has threads read from now on, if they may.
    pub(super) fn start_threads(&mut self) {
        if self.may_have_threads && self.own.is_empty() {
            let start = || Threads::new(READERS, READERS, || Reads::run);
            self.threads.get_or_insert_with(start);
        }
    }

    /// Whether one more window may be handed over.
    pub(super) fn has_room(&self) -> bool {
        let most = match self.threads {
            Some(_) => READERS as u64,
            None => 1,
        };
        self.submitted - self.taken < most
    }

    fn submit(&mut self, mut reads: Reads) {
        reads.number = self.submitted;
        self.submitted += 1;
        match &mut self.threads {
            Some(threads) => threads.submit(reads),
            None => self.own.push_back(reads),
        }
    }

    /// Makes the next of the windows that were handed over the one that is asked, and returns whether that is
    /// done: with `wait` it is, unless there is none.
    pub(super) fn advance(&mut self, wait: bool) -> bool {
        let number = self.taken;
        if number == self.submitted {
            return false;
        }
        let window = loop {
            if let Some(window) = self.full.remove(&number) {
                break window;
            }
            if let Some(reads) = self.own.pop_front() {
                break reads.run().1;
            }
            let threads = self.threads.as_mut();
            match threads.and_then(|threads| threads.next(wait)) {
                Some((number, window)) => drop(self.full.insert(number, window)),
                None if wait => break Window::default(),
                None => return false,
            }
        };
        self.taken += 1;
        let before = std::mem::replace(&mut self.window, window);
        self.spares.push(before);
        true
    }
}

impl Devices {
    /// Hands places over whose bytes are read into one window, some of [`WINDOW`] bytes. What cannot be read
    /// so is left to who needs it, and so is whether it is what was written.
    pub(super) fn submit_window(&mut self, trees: &mut Trees<'_>, places: Vec<Range<u64>>) {
        let reads = self.reads(trees, places);
        self.reading.submit(reads);
    }

    /// Finds where places lie.
    fn reads(&mut self, trees: &mut Trees<'_>, places: Vec<Range<u64>>) -> Reads {
        let Ok(checksums) = self.checksums(trees) else {
            return Reads::default();
        };
        // Whole sectors, as they are held against their checksums.
        let sector = checksums.sector();
        let whole = |place: Range<u64>| {
            let end = place.end.checked_next_multiple_of(sector);
            place.start - place.start % sector..end.unwrap_or(place.end)
        };
        let places = places.into_iter().map(whole);
        // None is longer but on a disk that lies.
        let places = places.filter(|place| place.end - place.start <= LONGEST + sector);
        let places: Vec<Range<u64>> = places.collect();
        let length = |places: &[Range<u64>]| -> u64 {
            places.iter().map(|place| place.end - place.start).sum()
        };
        let mut near = ahead::merged(places.clone(), GAP, WINDOW);
        // Whoever wrote the files chose where they lie.
        if length(&near) > WINDOW {
            near = ahead::merged(places, 0, WINDOW);
        }
        // Sectors are whole blocks on the device too, mostly; else each may begin and end within one.
        let beside = match sector.is_multiple_of(ALIGNMENT) {
            true => 0,
            false => ALIGNMENT,
        };
        let blocks = near.iter().map(|place| place.end - place.start + beside);
        let Ok(room) = to_usize(blocks.sum()) else {
            return Reads::default();
        };
        let mut reads = Reads {
            window: self.reading.spares.pop().unwrap_or_default(),
            ..Reads::default()
        };
        reads.window.clear(room);
        for place in near {
            let mut at = place.start;
            while at < place.end {
                let Ok(copies) = self.locate(trees, at) else {
                    break;
                };
                let end = at + copies.contiguous.min(place.end - at).max(1);
                if let Some((device, offset)) = copies.at.first()
                    && let Ok(fd) = opened(&mut self.open, trees, *device)
                {
                    reads.places.push((Arc::clone(fd), *offset, at..end));
                }
                at = end;
            }
        }
        reads
    }

    /// Forgets the bytes that were read ahead.
    pub(super) fn forget_bytes(&mut self) {
        self.reading.window.clear(0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Whoever reads first, the windows come in their order, each with what was asked for it.
    #[test]
    fn windows_come_in_the_order_in_which_they_were_handed_over() {
        const BLOCK: u64 = 4096;
        let mut file = tempfile::tempfile().unwrap();
        for n in 0..64 {
            file.write_all(&[n; BLOCK as usize]).unwrap();
        }
        let fd = Arc::new(OwnedFd::from(file));
        for may_have_threads in [false, true] {
            let mut reading = Reading {
                may_have_threads,
                ..Reading::default()
            };
            reading.start_threads();
            let mut handed_over = 0;
            for n in 0..60 {
                while reading.has_room() && handed_over < 60 {
                    let mut reads = Reads {
                        window: reading.spares.pop().unwrap_or_default(),
                        ..Reads::default()
                    };
                    // The first ones are the longest.
                    let length = BLOCK * (1 + (60 - handed_over) % 4);
                    reads.window.clear(length as usize);
                    let at = handed_over * BLOCK;
                    reads.places = vec![(Arc::clone(&fd), at, at..at + length)];
                    reading.submit(reads);
                    handed_over += 1;
                }
                assert!(reading.advance(true));
                let at = n * BLOCK;
                let found = reading.window.get(&(at..at + BLOCK));
                assert_eq!(found, Some(&[n as u8; BLOCK as usize][..]));
            }
            assert!(!reading.advance(true) && !reading.advance(false));
            // One is asked, and the others serve for the next ones.
            assert!(reading.spares.len() <= READERS);
        }
    }
}
