//! The digest of one file.

use std::os::fd::OwnedFd;

use plimsoll_core::model::{Algorithm, Digest};
use rustix::fs::{Advice, SeekFrom};
use rustix::io::{Errno, Result};

/// Bytes read at a time.
const PORTION: usize = 256 << 10;

/// Files larger than this are asked for their holes, which are hashed without being read.
const SPARSE_FROM: u64 = 1 << 20;

/// Returns the digest of a file from its start to its end, and how many bytes were read.
///
/// # Errors
/// Those of reading it.
pub(super) fn of_file(
    fd: &OwnedFd,
    algorithm: Algorithm,
    buffer: &mut Vec<u8>,
) -> Result<(Digest, u64)> {
    match algorithm {
        Algorithm::Md5 => drive(fd, Generic(<md5::Md5 as md5::Digest>::new()), buffer),
        Algorithm::Sha256 => drive(fd, Generic(<sha2::Sha256 as sha2::Digest>::new()), buffer),
        Algorithm::Blake3 => drive(fd, Box::new(blake3::Hasher::new()), buffer),
    }
}

/// A hash function at work.
trait Hash {
    fn update(&mut self, bytes: &[u8]);
    fn finish(self) -> Option<Digest>;
}

struct Generic<D>(D);

impl Hash for Generic<md5::Md5> {
    fn update(&mut self, bytes: &[u8]) {
        md5::Digest::update(&mut self.0, bytes);
    }

    fn finish(self) -> Option<Digest> {
        Digest::new(Algorithm::Md5, &md5::Digest::finalize(self.0))
    }
}

impl Hash for Generic<sha2::Sha256> {
    fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    fn finish(self) -> Option<Digest> {
        Digest::new(Algorithm::Sha256, &sha2::Digest::finalize(self.0))
    }
}

impl Hash for Box<blake3::Hasher> {
    fn update(&mut self, bytes: &[u8]) {
        blake3::Hasher::update(self, bytes);
    }

    fn finish(self) -> Option<Digest> {
        Digest::new(Algorithm::Blake3, self.finalize().as_bytes())
    }
}

fn drive(fd: &OwnedFd, mut hash: impl Hash, buffer: &mut Vec<u8>) -> Result<(Digest, u64)> {
    buffer.resize(PORTION, 0);
    let size = crate::fs::stat_fd(fd)?.size;
    let mut bytes_read = 0;
    let mut offset = 0;
    if size > SPARSE_FROM {
        #[expect(clippy::let_underscore_must_use, reason = "advice only")]
        let _ = rustix::fs::fadvise(fd, 0, None, Advice::Sequential);
    }
    loop {
        if size > SPARSE_FROM {
            let data = match rustix::fs::seek(fd, SeekFrom::Data(offset)) {
                Ok(at) => at,
                Err(Errno::NXIO) => size.max(offset),
                Err(Errno::INVAL) => offset,
                Err(errno) => return Err(errno),
            };
            if data > offset {
                buffer.fill(0);
                while offset < data {
                    let zeros = usize::try_from(data - offset)
                        .unwrap_or(PORTION)
                        .min(PORTION);
                    hash.update(&buffer[..zeros]);
                    offset += zeros as u64;
                }
            }
        }
        let filled = crate::fs::read_at(fd, buffer, offset)?;
        if filled == 0 {
            break;
        }
        hash.update(&buffer[..filled]);
        bytes_read += filled as u64;
        offset += filled as u64;
    }
    Ok((hash.finish().ok_or(Errno::IO)?, bytes_read))
}
