//! Blocks of many files, read from devices at a few goes into one buffer, which serves again and again.
//!
//! What it holds is as it was when it was read. Whether it is what was written, and whether it is still the
//! file's, is for who asks for it to see.

use std::ops::Range;
use std::os::fd::OwnedFd;

use super::device::Unreadable;

/// Alignment that direct reads need on every device in use.
const ALIGNMENT: usize = 4096;

/// Bytes by their logical addresses.
#[derive(Debug, Default)]
pub(super) struct Window {
    room: Vec<u8>,
    /// How much of the room is taken, from its first aligned byte on.
    used: usize,
    /// By their addresses; no two overlap.
    pieces: Vec<Piece>,
}

/// A range of addresses, and where in the room it lies.
#[derive(Debug)]
struct Piece {
    addresses: Range<u64>,
    start: usize,
}

impl Window {
    /// Forgets what it holds, and makes room for `length` bytes.
    pub(super) fn clear(&mut self, length: usize) {
        self.pieces.clear();
        self.used = 0;
        // Each piece may begin and end within a block.
        let wanted = length.saturating_add(ALIGNMENT);
        if self.room.len() < wanted {
            self.room = vec![0; wanted];
        }
    }

    /// Reads what lies at `offset` of a device, for addresses that lie after all that were read before; past
    /// the page cache of the device, which the file system does not keep up to date.
    ///
    /// # Errors
    /// [`Unreadable`] when the device cannot be read, and when there is no room.
    pub(super) fn read(
        &mut self,
        fd: &OwnedFd,
        offset: u64,
        addresses: Range<u64>,
    ) -> Result<(), Unreadable> {
        let length = usize::try_from(addresses.end - addresses.start);
        let length = length.map_err(|_| Unreadable::NotSupported)?;
        let within = usize::try_from(offset % ALIGNMENT as u64);
        let skip = within.map_err(|_| Unreadable::NotSupported)?;
        let start = self.room.as_ptr().align_offset(ALIGNMENT) + self.used;
        let whole = (skip + length).next_multiple_of(ALIGNMENT);
        let space = self.room.get_mut(start..start + whole);
        let space = space.ok_or(Unreadable::NotSupported)?;
        let filled = crate::fs::read_at(fd, space, offset - skip as u64)?;
        if filled < skip + length {
            return Err(Unreadable::Moved);
        }
        self.used += whole;
        self.add(addresses, start + skip);
        Ok(())
    }

    fn add(&mut self, addresses: Range<u64>, start: usize) {
        if let Some(last) = self.pieces.last_mut()
            && last.addresses.end == addresses.start
            && last.end() == Some(start)
        {
            last.addresses.end = addresses.end;
            return;
        }
        self.pieces.push(Piece { addresses, start });
    }

    /// Returns what lies in a range of addresses, where it was read in one piece.
    pub(super) fn get(&self, range: &Range<u64>) -> Option<&[u8]> {
        let after = self
            .pieces
            .partition_point(|piece| piece.addresses.start <= range.start);
        let piece = self.pieces.get(after.checked_sub(1)?)?;
        if range.end > piece.addresses.end {
            return None;
        }
        let skip = usize::try_from(range.start - piece.addresses.start).ok()?;
        let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        let start = piece.start.checked_add(skip)?;
        self.room.get(start..start.checked_add(length)?)
    }
}

impl Piece {
    fn end(&self) -> Option<usize> {
        let length = usize::try_from(self.addresses.end - self.addresses.start);
        self.start.checked_add(length.ok()?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_was_read_in_one_piece_is_found_and_nothing_else() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..64 << 10).map(|n: u32| (n >> 8) as u8).collect();
        file.write_all(&bytes).unwrap();
        let fd = OwnedFd::from(file);
        let mut window = Window::default();
        let read = |window: &mut Window, offset: u64, addresses: Range<u64>| {
            window.read(&fd, offset, addresses).is_ok()
        };
        for _ in 0..2 {
            window.clear(40 << 10);
            assert!(read(&mut window, 4096, 100_000..108_192));
            // On another place of the disk, and the next in addresses.
            assert!(read(&mut window, 32_768, 108_192..112_288));
            assert!(read(&mut window, 8192 + 512, 200_000..200_100));
            // Beyond the end of the device, and of the room.
            assert!(!read(&mut window, 64 << 10, 300_000..300_100));
            assert!(!read(&mut window, 0, 400_000..440_000));
            let found = |range: Range<u64>| window.get(&range);
            assert_eq!(found(100_000..108_192), bytes.get(4096..12_288));
            assert_eq!(
                found(108_000..108_193).map(|found| found.to_vec()),
                Some([&bytes[12_096..12_288], &bytes[32_768..32_769]].concat())
            );
            assert_eq!(found(200_010..200_020), bytes.get(8714..8724));
            for range in [99_999..100_001, 112_287..112_289, 200_000..200_101, 0..1] {
                assert_eq!(found(range), None);
            }
            assert_eq!(found(300_000..300_001), None);
        }
        window.clear(0);
        assert_eq!(window.get(&(100_000..100_001)), None);
    }
}
