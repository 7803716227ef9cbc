//! What must hold of the reader of bbolt databases.
#![expect(
    clippy::unwrap_used,
    reason = "a property that does not hold is a panic: that is how a fuzzer is told"
)]

use plimsoll_core::fuzzing::says_plainly;

use super::page::{META_LENGTH, PAGE_SIZES, checksum};
use super::{BoltError, Bucket, Entry, View, ask};

/// Buckets within buckets that are looked into: more than any schema has.
const DEPTH: usize = 6;

/// Any file, as it is and with meta pages whose checksums hold: reading it ends, and each key that is told
/// is found again in a tree whose keys are in order.
pub fn bolt(data: &[u8]) {
    read_all(data);
    let mut mended = data.to_vec();
    let page_size = data
        .get(24..28)
        .map(|size| u32::from_le_bytes(size.try_into().unwrap()));
    let second = page_size
        .map(u64::from)
        .filter(|size| PAGE_SIZES.contains(size));
    let second = second.and_then(|size| usize::try_from(size).ok());
    for start in [Some(0), second].into_iter().flatten() {
        if let Some(meta) = mended.get_mut(start..start + META_LENGTH) {
            let sum = checksum(&meta[16..72]).to_le_bytes();
            meta[72..80].copy_from_slice(&sum);
        }
    }
    read_all(&mended);
}

fn read_all(data: &[u8]) {
    let told = ask(&data.to_vec(), |view| {
        let mut left = 4096;
        look(view, &view.root(), DEPTH, &mut left)
    });
    match told {
        Ok(()) => {}
        Err(error @ (BoltError::Damaged(_) | BoltError::Io(_))) => says_plainly(&error.to_string()),
        Err(BoltError::Busy) => panic!("nobody writes to it"),
    }
}

fn look(view: &View<'_>, bucket: &Bucket, depth: usize, left: &mut usize) -> Result<(), BoltError> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    let mut buckets = Vec::new();
    let told = view.each(bucket, &mut |key, entry| {
        if *left > 0 {
            *left -= 1;
            keys.push(key.bytes().to_vec());
            if let Entry::Bucket(bucket) = entry {
                buckets.push(bucket);
            }
        }
        Ok(())
    });
    let whole = told.is_ok() && *left > 0;
    let in_order = keys.windows(2).all(|pair| pair[0] < pair[1]);
    for key in keys.iter().take(64) {
        match view.get(bucket, key) {
            // Beneath a branch whose keys lie, it may be looked for elsewhere.
            Ok(Some(_) | None) | Err(BoltError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if let Bucket::Inline(_) = bucket
        && whole
        && in_order
    {
        for key in &keys {
            assert!(view.get(bucket, key)?.is_some());
        }
    }
    for bucket in &buckets {
        if depth > 0 && *left > 0 {
            look(view, bucket, depth - 1, left)?;
        }
    }
    told
}
