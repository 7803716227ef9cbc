//! What Btrfs keeps of a subvolume: which transaction last wrote to it, and its items as one digest.

use std::ops::ControlFlow;

use sha2::{Digest as _, Sha256};

use super::{Hash, Unsealable};
use crate::fs::btrfs::decode::{INODE_ITEM, Item};
use crate::fs::btrfs::{Key, TreeError, Trees};

const EVERYTHING: (Key, Key) = ((0, 0, 0), (u64::MAX, u8::MAX, u64::MAX));

/// Items that are asked for at once.
const BATCH: u32 = u32::MAX;

/// What a file system keeps of a subvolume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Items {
    /// Its identity: no process can give it to another one.
    pub(super) uuid: [u8; 16],
    /// The number of its tree.
    pub(super) id: u64,
    /// The last transaction that wrote to it.
    pub(super) generation: u64,
    /// The digest of its items.
    pub(super) digest: Hash,
}

/// Reads what there is of a subvolume, pending changes written out first.
pub(super) fn read(trees: &mut Trees<'_>, id: u64) -> Result<Items, Unsealable> {
    flush(trees)?;
    let root = trees.root(id)?.ok_or(TreeError::Gone(id))?;
    let digest = digest(trees, id)?;
    Ok(Items {
        uuid: root.uuid,
        id,
        generation: root.generation,
        digest,
    })
}

/// Whether nothing was done to a subvolume since but reading.
///
/// Its tree is searched for blocks that were written after the transaction noted: whatever changes a tree
/// writes its blocks anew, with the number of the transaction (`btrfs_search_forward` in the kernel's
/// `fs/btrfs/ctree.c` prunes by it). Where there are some, as after reading that moved access times or after
/// balancing, the items themselves decide.
pub(super) fn hold(trees: &mut Trees<'_>, sealed: &Items) -> Result<bool, Unsealable> {
    flush(trees)?;
    let Some(root) = trees.root(sealed.id)? else {
        return Ok(false);
    };
    if root.uuid != sealed.uuid || root.generation < sealed.generation {
        return Ok(false);
    }
    let mut untouched = true;
    let newer = sealed.generation + 1;
    trees.each(sealed.id, EVERYTHING, newer, 1, |_| {
        untouched = false;
        ControlFlow::Break(())
    })?;
    Ok(untouched || digest(trees, sealed.id)? == sealed.digest)
}

/// Writes out what is pending: what only memory has is in no tree.
fn flush(trees: &mut Trees<'_>) -> Result<(), Unsealable> {
    rustix::fs::syncfs(trees.anchor()).map_err(Unsealable::Flush)?;
    trees.refresh();
    Ok(())
}

/// Returns the digest of all items of a subvolume, but for the access times and for the number of the
/// transaction that last wrote an inode, which go along with reading.
fn digest(trees: &mut Trees<'_>, id: u64) -> Result<Hash, Unsealable> {
    let mut hash = Sha256::new();
    trees.each(id, EVERYTHING, 0, BATCH, |item| {
        take(&mut hash, &item);
        ControlFlow::Continue(())
    })?;
    Ok(hash.finalize().into())
}

fn take(hash: &mut Sha256, item: &Item<'_>) {
    // Where in `struct btrfs_inode_item` (kernel `include/uapi/linux/btrfs_tree.h`) these lie.
    const TRANSID: std::ops::Range<usize> = 8..16;
    const ATIME: std::ops::Range<usize> = 112..124;
    hash.update(item.objectid.to_le_bytes());
    hash.update([item.kind]);
    hash.update(item.offset.to_le_bytes());
    hash.update((item.data.len() as u64).to_le_bytes());
    if item.kind != INODE_ITEM {
        return hash.update(item.data);
    }
    for part in [
        0..TRANSID.start,
        TRANSID.end..ATIME.start,
        ATIME.end..item.data.len(),
    ] {
        hash.update(item.data.get(part).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(kind: u8, data: &[u8]) -> Hash {
        let mut hash = Sha256::new();
        let item = Item {
            objectid: 256,
            kind,
            offset: 0,
            data,
        };
        take(&mut hash, &item);
        hash.finalize().into()
    }

    #[test]
    fn only_what_goes_along_with_reading_is_left_out() {
        let inode = [7_u8; 160];
        let whole = hash(INODE_ITEM, &inode);
        for at in 0..inode.len() {
            let mut other = inode;
            other[at] = 8;
            let ignored = (8..16).contains(&at) || (112..124).contains(&at);
            assert_eq!(hash(INODE_ITEM, &other) == whole, ignored, "{at}");
            assert_ne!(hash(INODE_ITEM + 11, &other), hash(INODE_ITEM + 11, &inode));
        }
        assert_ne!(hash(INODE_ITEM, &inode[..159]), whole);
    }
}
