//! The checksum that tar-split keeps of each file: CRC-64 by ISO 3309, as Go's `hash/crc64` has it.

use crc::{CRC_64_GO_ISO, Crc, Digest, Table};

static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_GO_ISO);

/// The checksum of what was given so far.
pub(super) struct Checksum(Digest<'static, u64, Table<16>>);

impl Default for Checksum {
    fn default() -> Self {
        Self(CRC.digest())
    }
}

impl Checksum {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns it in the order of bytes in which it is kept.
    pub(super) fn finish(self) -> [u8; 8] {
        self.0.finalize().to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_computes_it() {
        let mut checksum = Checksum::default();
        checksum.update(b"12345");
        checksum.update(b"6789");
        assert_eq!(checksum.finish(), 0xb909_56c7_75a4_1001_u64.to_be_bytes());
    }
}
