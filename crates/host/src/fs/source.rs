//! Bytes at places, of which a decoder reads what it needs.

use std::os::fd::OwnedFd;

/// A file, or what stands for one.
pub(in crate::fs) trait Source: std::fmt::Debug {
    /// Fills `buffer` from `offset` on as far as there is something, and returns how much that was.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> rustix::io::Result<usize>;
}

impl Source for OwnedFd {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
        super::read_at(self, buffer, offset)
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Source for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
        let offset = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.len());
        let length = buffer.len().min(self.len() - offset);
        buffer[..length].copy_from_slice(&self[offset..offset + length]);
        Ok(length)
    }
}
