//! What a snapshotter's own database says of its snapshots.
//!
//! The schema is containerd's `core/snapshots/storage/bolt.go` (before version 2
//! `snapshots/storage/bolt.go`).

use crate::fs::bolt::{BoltError, View};

use super::metadata::Snapshot;

/// A snapshot as its snapshotter keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    /// The number that its directory is called by.
    pub(super) id: u64,
    pub(super) kind: Kind,
    /// About how many bytes it takes, where that was noted.
    pub(super) size: u64,
}

/// What can be done with a snapshot (containerd `core/snapshots/snapshotter.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It can only be read.
    View,
    /// It can be written.
    Active,
    /// It can lie beneath others, and does not change any more.
    Committed,
}

impl Kind {
    fn decode(value: &[u8]) -> Option<Self> {
        match value {
            [1] => Some(Self::View),
            [2] => Some(Self::Active),
            [3] => Some(Self::Committed),
            _ => None,
        }
    }
}

/// Returns how the snapshotter keeps a snapshot and those beneath it, the topmost first; `None` when it
/// does not have the topmost one (any more). With `is_image` that is the one of an image's layer, else one of
/// a container.
///
/// # Errors
/// [`BoltError`], also when it has them lie on each other otherwise than `chain` says.
pub(super) fn stored(
    view: &View<'_>,
    chain: &[Snapshot],
    is_image: bool,
) -> Result<Option<Vec<Stored>>, BoltError> {
    let wrong = |snapshot: &Snapshot, what: &str| {
        let key = super::excerpt(&snapshot.key);
        BoltError::Damaged(format!("the snapshot \"{key}\" {what}"))
    };
    let Some(snapshots) = view.bucket(&view.root(), &[b"v1", b"snapshots"])? else {
        return Ok(None);
    };
    let mut found = Vec::with_capacity(chain.len());
    for (n, snapshot) in chain.iter().enumerate() {
        let Some(bucket) = view.bucket(&snapshots, &[&snapshot.name])? else {
            return match n {
                0 => Ok(None),
                _ => Err(wrong(
                    snapshot,
                    "is missing from the snapshotter's database",
                )),
            };
        };
        let value = |key: &[u8]| view.value(&bucket, key);
        let id = value(b"id")?.and_then(|id| uvarint(id.bytes()));
        let kind = value(b"kind")?.and_then(|kind| Kind::decode(kind.bytes()));
        let (Some(id), Some(kind)) = (id, kind) else {
            return Err(wrong(snapshot, "has no number or no kind"));
        };
        let parent = value(b"parent")?;
        let parent = parent.as_ref().map_or(&b""[..], |parent| parent.bytes());
        let below = chain.get(n + 1).map_or(&b""[..], |below| &below.name);
        if parent != below {
            return Err(wrong(
                snapshot,
                "lies on another one by the snapshotter's database than by containerd's",
            ));
        }
        if (kind == Kind::Committed) != (is_image || n > 0) {
            return Err(wrong(snapshot, "is of the wrong kind for its place"));
        }
        let size = value(b"size")?.and_then(|size| uvarint(size.bytes()));
        found.push(Stored {
            id,
            kind,
            size: size.unwrap_or(0),
        });
    }
    Ok(Some(found))
}

/// Decodes a number as Go's `encoding/binary` writes it, all bytes of it.
pub(super) fn uvarint(bytes: &[u8]) -> Option<u64> {
    let (value, rest) = take_uvarint(bytes)?;
    rest.is_empty().then_some(value)
}

/// Decodes a number of variable length at the beginning of `bytes`: the same form as in Protocol Buffers.
pub(super) fn take_uvarint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value: u64 = 0;
    for (n, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if n == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(n + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_variable_length() {
        for (bytes, value) in [
            (&[0][..], Some(0)),
            (&[0x7f], Some(127)),
            (&[0x80, 1], Some(128)),
            (&[0xac, 2], Some(300)),
            (&[], None),
            (&[0x80], None),
            (&[1, 1], None),
            (&[0xff; 10], None),
        ] {
            assert_eq!(uvarint(bytes), value, "{bytes:?}");
        }
        let mut most = [0xff; 10];
        most[9] = 1;
        assert_eq!(uvarint(&most), Some(u64::MAX));
        most[9] = 2;
        assert_eq!(uvarint(&most), None);
    }
}
