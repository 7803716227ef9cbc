//! A layer's tar stream as a content store keeps it: a blob, compressed or not.

use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result};

use flate2::bufread::MultiGzDecoder;
use plimsoll_core::model::{Algorithm, Digest};
use sha2::{Digest as _, Sha256};

use super::stream::Pieces;
use crate::layers::stored::Blob;

/// Bytes of a blob that are read at a time.
const PORTION: usize = 128 << 10;

/// Largest window of zstd, as a power of two: what its specification has every decoder take, and what
/// its own program takes unless told otherwise. A blob that asks for more is refused.
const WINDOW_LOG_MAX: u32 = 27;

/// The pieces of the stream that is in a blob. In which form it is, its first bytes say, as they do for
/// containerd (`pkg/archive/compression`, `DetectCompression`).
pub(super) enum Pieced<R: BufRead> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: BufRead> Pieced<R> {
    /// Begins to read a blob; `window_log_max` is the largest window of zstd, as a power of two.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn new(mut blob: R, window_log_max: u32) -> Result<Self> {
        const GZIP: &[u8] = &[0x1f, 0x8b, 8];
        const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
        let head = blob.fill_buf()?;
        // A frame that holds nothing to unpack may come first (RFC 8878, "Skippable Frames").
        let is_skippable = matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
        Ok(if head.starts_with(GZIP) {
            Self::Gzip(Box::new(MultiGzDecoder::new(blob)))
        } else if head.starts_with(ZSTD) || is_skippable {
            let mut decoder = zstd::Decoder::with_buffer(blob)?;
            decoder.window_log_max(window_log_max)?;
            Self::Zstd(decoder)
        } else {
            Self::Plain(blob)
        })
    }
}

impl<R: BufRead> Pieces for Pieced<R> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while let Some(space) = buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
            let read = match self {
                Self::Plain(blob) => blob.read(space),
                Self::Gzip(decoder) => decoder.read(space),
                Self::Zstd(decoder) => decoder.read(space),
            };
            match read {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl Blob {
    fn file(&self) -> Result<File> {
        let (fd, _) = self.dir.open_file(self.digest.hex().as_bytes())?;
        Ok(fd.into())
    }

    /// Begins to read the stream that is in it.
    ///
    /// # Errors
    /// Those of opening and reading it.
    pub(super) fn pieces(&self) -> Result<Pieced<BufReader<File>>> {
        let file = BufReader::with_capacity(PORTION, self.file()?);
        Pieced::new(file, WINDOW_LOG_MAX)
    }

    /// Whether its bytes have the digest that it is called by.
    ///
    /// # Errors
    /// Those of opening and reading it.
    pub(super) fn is_itself(&self) -> Result<bool> {
        let mut file = self.file()?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; PORTION];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => hash.update(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let digest = Digest::new(Algorithm::Sha256, &hash.finalize());
        Ok(digest == Some(self.digest))
    }

    /// Says why nothing can be held against it: that its stream has another digest, or `error`.
    pub(super) fn why_not(&self, stream: Result<Digest>) -> String {
        let name = &self.digest;
        match (self.is_itself(), stream) {
            (Err(error), _) if error.kind() == ErrorKind::NotFound => {
                format!("its blob {name} is not in the content store any more")
            }
            (Err(error), _) => format!("its blob {name} cannot be read: {error}"),
            (Ok(false), _) => format!("its blob {name} was altered: its SHA-256 is not its name"),
            (Ok(true), Ok(stream)) => {
                format!("its blob {name} holds another layer, {stream}")
            }
            (Ok(true), Err(error)) => {
                format!("its blob {name} cannot be unpacked: {}", told(&error))
            }
        }
    }
}

/// Says what is wrong, in bytes that can be shown.
fn told(error: &Error) -> String {
    plimsoll_core::model::escape(error.to_string().as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(blob: &[u8]) -> Result<Vec<u8>> {
        // As little at a time as can be.
        let mut pieces = Pieced::new(BufReader::with_capacity(4, blob), WINDOW_LOG_MAX)?;
        let mut all = Vec::new();
        let mut buffer = [0; 1000];
        loop {
            match pieces.fill(&mut buffer)? {
                0 => return Ok(all),
                filled => all.extend(&buffer[..filled]),
            }
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn in_each_form() {
        let text: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let (first, second) = text.split_at(123_456);
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        let skippable = [
            &[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..],
            &zstd(&text),
        ]
        .concat();
        for blob in [
            text.clone(),
            gzip(&text),
            [gzip(first), gzip(second)].concat(),
            zstd(&text),
            [zstd(first), zstd(second)].concat(),
            skippable,
        ] {
            assert!(read(&blob).unwrap() == text);
        }
        assert_eq!(read(b"").unwrap(), b"");
        for mut torn in [gzip(&text), zstd(&text)] {
            torn.truncate(torn.len() - 5);
            read(&torn).unwrap_err();
        }
        let mut damaged = gzip(&text);
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        read(&damaged).unwrap_err();
    }

    #[test]
    fn a_window_beyond_bounds() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(WINDOW_LOG_MAX + 1).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(b"some").unwrap();
        encoder.flush().unwrap();
        let blob = encoder.finish().unwrap();
        read(&blob).unwrap_err();
    }
}
