//! A layer's tar stream, hashed while it is read.
//!
//! Whoever reads it parses headers alone and skips the contents of files: what is skipped is hashed from
//! the buffer that it was read into, and copied nowhere.

use std::io::{BufRead, Error, ErrorKind, Read, Result, Seek, SeekFrom};

use plimsoll_core::model::{Algorithm, Digest};
use sha2::{Digest as _, Sha256};

/// Bytes read at a time.
const PORTION: usize = 256 << 10;

/// What the pieces of a stream come from.
pub(super) trait Pieces {
    /// Fills a buffer with what comes next, as far as there is something, and returns how much that is: 0
    /// at the end.
    ///
    /// # Errors
    /// Those of reading. What stands for a file that cannot be read is for the pieces to decide.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize>;
}

/// A stream that was read so far.
pub(super) struct Stream<'p, P> {
    pub(super) pieces: P,
    hash: Sha256,
    buffer: Vec<u8>,
    /// What of the buffer was read from the pieces, and how much of it was taken.
    filled: usize,
    taken: usize,
    /// Bytes taken of all.
    position: u64,
    /// Told of every portion that was hashed, in bytes.
    progress: &'p dyn Fn(u64),
}

impl<'p, P: Pieces> Stream<'p, P> {
    pub(super) fn new(pieces: P, progress: &'p dyn Fn(u64)) -> Self {
        Self {
            pieces,
            hash: Sha256::new(),
            buffer: vec![0; PORTION],
            filled: 0,
            taken: 0,
            position: 0,
            progress,
        }
    }

    /// Reads the next portion; false at the end.
    fn refill(&mut self) -> Result<bool> {
        self.taken = 0;
        self.filled = self.pieces.fill(&mut self.buffer)?;
        let portion = self.buffer.get(..self.filled).unwrap_or_default();
        self.hash.update(portion);
        (self.progress)(self.filled as u64);
        Ok(self.filled > 0)
    }

    /// Reads what is left, and returns the digest and the length of all of it.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn finish(mut self) -> Result<(Digest, u64, P)> {
        loop {
            self.position += (self.filled - self.taken) as u64;
            if !self.refill()? {
                break;
            }
        }
        let digest = Digest::new(Algorithm::Sha256, &self.hash.finalize());
        let digest = digest.ok_or_else(|| Error::from(ErrorKind::InvalidData))?;
        Ok((digest, self.position, self.pieces))
    }
}

impl<P: Pieces> Read for Stream<'_, P> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl<P: Pieces> BufRead for Stream<'_, P> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        if self.taken == self.filled {
            self.refill()?;
        }
        Ok(self.buffer.get(self.taken..self.filled).unwrap_or_default())
    }

    fn consume(&mut self, length: usize) {
        let length = length.min(self.filled - self.taken);
        self.taken += length;
        self.position += length as u64;
    }
}

impl<P: Pieces> Seek for Stream<'_, P> {
    /// Goes forward from where it stands, and nowhere else.
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let SeekFrom::Current(by) = to else {
            return Err(Error::from(ErrorKind::Unsupported));
        };
        let mut left = u64::try_from(by).map_err(|_| Error::from(ErrorKind::Unsupported))?;
        while left > 0 {
            if self.taken == self.filled && !self.refill()? {
                return Err(Error::from(ErrorKind::UnexpectedEof));
            }
            let length = left.min((self.filled - self.taken) as u64);
            self.taken += usize::try_from(length).unwrap_or(usize::MAX);
            self.position += length;
            left -= length;
        }
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes(Vec<u8>);

    impl Pieces for Bytes {
        fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
            let length = buffer.len().min(self.0.len()).min(1000);
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0.drain(..length);
            Ok(length)
        }
    }

    #[test]
    fn whatever_is_skipped_is_hashed() {
        let bytes: Vec<u8> = (0..10_000u32).map(|n| (n % 251) as u8).collect();
        let expected = Digest::new(Algorithm::Sha256, &Sha256::digest(&bytes)).unwrap();
        let mut stream = Stream::new(Bytes(bytes.clone()), &|_| {});
        let mut head = [0; 512];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(head, bytes[..512]);
        assert_eq!(stream.seek(SeekFrom::Current(3000)).unwrap(), 3512);
        stream.read_exact(&mut head).unwrap();
        assert_eq!(head, bytes[3512..4024]);
        assert!(stream.seek(SeekFrom::Start(0)).is_err());
        assert!(stream.seek(SeekFrom::Current(-1)).is_err());
        let (digest, length, _) = stream.finish().unwrap();
        assert_eq!((digest, length), (expected, 10_000));
        let mut short = Stream::new(Bytes(vec![1; 100]), &|_| {});
        assert!(short.seek(SeekFrom::Current(101)).is_err());
    }
}
