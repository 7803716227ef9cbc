//! The bytes of a seal.

use std::path::Path;

use sha2::{Digest as _, Sha256};
use std::os::unix::ffi::OsStrExt as _;

use super::Hash;
use super::items::Items;
use super::mark::Mark;

/// What every seal begins with; another form has another number.
const MAGIC: &[u8; 16] = b"plimsoll seal 1\n";

/// Longest seal, in bytes.
pub(super) const LENGTH_MAX: usize = 200;

/// A layer that was verified, and what was noted of it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// The digest of what it was verified to be: see [`super::Identity`].
    pub(super) identity: Hash,
    /// What was noted.
    pub(super) mark: Mark,
}

impl Record {
    /// Returns the bytes of the seal of the layer at `path`.
    pub(super) fn encode(&self, path: &Path) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH_MAX);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.identity);
        match &self.mark {
            Mark::Entries(digest) => {
                bytes.push(1);
                bytes.extend_from_slice(digest);
            }
            Mark::Subvolume(items) => {
                bytes.push(2);
                bytes.extend_from_slice(&items.digest);
                bytes.extend_from_slice(&items.uuid);
                bytes.extend_from_slice(&items.id.to_le_bytes());
                bytes.extend_from_slice(&items.generation.to_le_bytes());
            }
        }
        let checksum = checksum(&bytes, path);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    /// Returns the seal of the layer at `path` that these bytes are; `None` when they are not one, whole and
    /// of this layer.
    pub(super) fn decode(bytes: &[u8], path: &Path) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<32>()?;
        if checksum(body, path) != *sum {
            return None;
        }
        let rest = body.strip_prefix(MAGIC)?;
        let (identity, rest) = rest.split_first_chunk::<32>()?;
        let (kind, rest) = rest.split_first()?;
        let (digest, rest) = rest.split_first_chunk::<32>()?;
        let mark = match (kind, rest) {
            (1, []) => Mark::Entries(*digest),
            (2, rest) => {
                let (uuid, rest) = rest.split_first_chunk::<16>()?;
                let (id, rest) = rest.split_first_chunk::<8>()?;
                let generation = rest.try_into().ok()?;
                Mark::Subvolume(Items {
                    uuid: *uuid,
                    id: u64::from_le_bytes(*id),
                    generation: u64::from_le_bytes(generation),
                    digest: *digest,
                })
            }
            _ => return None,
        };
        Some(Self {
            identity: *identity,
            mark,
        })
    }
}

/// Returns what a seal ends with. It finds damage, and a seal that was put in another one's place; who may
/// write here could make it for anything.
fn checksum(bytes: &[u8], path: &Path) -> Hash {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.update(path.as_os_str().as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> [Record; 2] {
        let record = |mark| Record {
            identity: [1; 32],
            mark,
        };
        let items = Items {
            uuid: [2; 16],
            id: 258,
            generation: 77,
            digest: [3; 32],
        };
        [
            record(Mark::Entries([4; 32])),
            record(Mark::Subvolume(items)),
        ]
    }

    #[test]
    fn a_seal_is_read_as_it_was_written_and_is_short() {
        let path = Path::new("/var/lib/docker/overlay2/a/diff");
        for record in records() {
            let bytes = record.encode(path);
            assert!(bytes.len() <= LENGTH_MAX, "{}", bytes.len());
            assert_eq!(Record::decode(&bytes, path), Some(record));
        }
    }

    #[test]
    fn a_damaged_seal_is_none_and_so_is_one_of_another_layer() {
        let path = Path::new("/a");
        for record in records() {
            let bytes = record.encode(path);
            assert_eq!(Record::decode(&bytes, Path::new("/b")), None);
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 1;
                assert_eq!(Record::decode(&other, path), None, "{at}");
                assert_eq!(Record::decode(&bytes[..at], path), None, "{at}");
            }
            let longer = [&bytes[..], b"\0"].concat();
            assert_eq!(Record::decode(&longer, path), None);
        }
    }
}
