//! Reading the bytes of many places at a few goes, while those that were read before are compared.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::ahead;
use super::device::{ALIGNMENT, Devices, opened, to_usize};
use super::window::Window;
use crate::fs::btrfs::Trees;
use crate::measure::threads::Threads;

/// Places whose bytes are read at one go: how far apart, since what lies between them is read and held
/// too, and how long together. One more read costs as much as the bytes of so large a gap.
const BYTES_GAP: u64 = 64 << 10;
const BYTES_MAX: u64 = 256 << 10;

/// What fills a window.
#[derive(Debug, Default)]
pub(super) struct Reads {
    window: Window,
    /// Where each range of logical addresses lies, by these.
    places: Vec<(Arc<OwnedFd>, u64, Range<u64>)>,
}

impl Reads {
    /// Reads them. What cannot be read is not in the window.
    fn run(mut self) -> Window {
        for (fd, offset, addresses) in self.places {
            // It is read where it is needed, and that tells what is wrong.
            drop(self.window.read(&fd, offset, addresses));
        }
        self.window
    }
}

/// The window that is asked, and the one that is filled meanwhile.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Bytes that were read ahead.
    pub(super) window: Window,
    /// What serves for the next one.
    spare: Window,
    /// Whether a thread may read.
    pub(super) may_have_thread: bool,
    thread: Option<Threads<Reads, Window>>,
}

impl Devices {
    /// Reads the bytes of many places at one go, and has those of the `next` ones read meanwhile: what these
    /// are asks for them next. What cannot be read so is left to who needs it, and so is whether it is what was
    /// written.
    pub(super) fn read_bytes_ahead(
        &mut self,
        trees: &mut Trees<'_>,
        places: Vec<Range<u64>>,
        next: Option<Vec<Range<u64>>>,
    ) {
        let coming = self.reading.thread.as_mut();
        let window = match coming.and_then(|thread| thread.next(true)) {
            Some(window) => window,
            None => {
                self.reading.spare = std::mem::take(&mut self.reading.window);
                self.reads(trees, places).run()
            }
        };
        self.reading.spare = std::mem::replace(&mut self.reading.window, window);
        let Some(next) = next else { return };
        let reads = self.reads(trees, next);
        let start = || Threads::new(1, 1, || Reads::run);
        self.reading.thread.get_or_insert_with(start).submit(reads);
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
        let places = places.filter(|place| place.end - place.start <= BYTES_MAX + sector);
        let places = ahead::merged(places.collect(), BYTES_GAP, BYTES_MAX);
        let blocks = places
            .iter()
            .map(|place| place.end - place.start + ALIGNMENT);
        let Ok(room) = to_usize(blocks.sum()) else {
            return Reads::default();
        };
        let mut reads = Reads {
            window: std::mem::take(&mut self.reading.spare),
            places: Vec::new(),
        };
        reads.window.clear(room);
        for place in places {
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

/// Returns how many bytes are read to read these places ahead.
pub(super) fn span(places: Vec<Range<u64>>) -> u64 {
    let merged = ahead::merged(places, BYTES_GAP, BYTES_MAX);
    merged.iter().map(|place| place.end - place.start).sum()
}
