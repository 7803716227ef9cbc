//! What an entry of a directory leads to.

use plimsoll_core::model::FileType;

use super::{BtrfsPair, Node, PLACEHOLDER};
use crate::fs::btrfs::ROOT_DIRECTORY;
use crate::fs::btrfs::TreeError;
use crate::fs::btrfs::decode::{Inode, Location};
use crate::measure::Trouble;

/// What an entry of a directory leads to.
pub(super) enum Found {
    /// This object; `None` when it is gone.
    There(Option<Node>),
    /// Something that is another directory's, or has another name, by its own record.
    Elsewhere,
}

impl BtrfsPair<'_> {
    /// Returns where a name leads in a directory. That of one that was inherited is looked up in the
    /// image, where it is looked up next.
    pub(super) fn location(
        &mut self,
        dir: &Node,
        name: &[u8],
    ) -> Result<Option<Location>, TreeError> {
        let tree = match self.is_inherited(dir) {
            true => self.image,
            false => dir.tree,
        };
        let of_image = tree == self.image;
        if of_image
            && let Some((last_dir, last_name, location)) = &self.last_entry
            && (*last_dir, &last_name[..]) == (dir.number, name)
        {
            return Ok(*location);
        }
        let location = self.trees.entry(tree, dir.number, name)?;
        if of_image {
            self.last_entry = Some((dir.number, name.into(), location));
        }
        Ok(location)
    }

    /// Returns the inode that an entry leads to. A directory must have that name alone, as its own record
    /// says: on a disk that was tampered with, directories in each other would have no end.
    pub(super) fn inode_at(
        &mut self,
        dir: &Node,
        name: &[u8],
        number: u64,
    ) -> Result<Found, Trouble> {
        let by = match &self.candidates {
            // It was inherited as well, and is what it was.
            Some(candidates) if !candidates.contains(number) && self.is_inherited(dir) => {
                self.image
            }
            _ => dir.tree,
        };
        let node = self.node_by(dir.tree, by, number)?;
        let there = match &node {
            Some(node) if node.file_type.has_entries() => {
                let name = (dir.number, name);
                number != ROOT_DIRECTORY && self.trees.is_only_name(by, number, name)?
            }
            _ => true,
        };
        Ok(match there {
            true => Found::There(node),
            false => Found::Elsewhere,
        })
    }

    /// Returns the root of the subvolume that an entry leads to, or what stands for it.
    pub(super) fn subvolume_at(
        &mut self,
        dir: &Node,
        name: &[u8],
        id: u64,
    ) -> Result<Found, Trouble> {
        let in_container = dir.tree == self.container;
        let parent = if in_container { self.nesting } else { dir.tree };
        let Some((parent_dir, own_name)) = self.trees.hangs_in(id, parent)? else {
            return Ok(Found::There(Some(placeholder(dir))));
        };
        // It may have been moved since the snapshot was made that is looked at.
        let in_snapshot = in_container && self.nesting != self.container;
        if !in_snapshot && (parent_dir, &own_name[..]) != (dir.number, name) {
            return Ok(Found::Elsewhere);
        }
        let root = self.node(id, ROOT_DIRECTORY)?;
        Ok(Found::There(root.map(|root| Node {
            file_type: FileType::Subvolume,
            ..root
        })))
    }
}

/// What stands in a snapshot where its source had a nested subvolume: an empty directory
/// (`new_simple_dir` in `fs/btrfs/inode.c`).
fn placeholder(dir: &Node) -> Node {
    let item = Inode {
        generation: 0,
        transid: 0,
        size: 0,
        links: 1,
        uid: 0,
        gid: 0,
        mode: 0o040_755,
        rdev: 0,
        flags: 0,
        ..dir.item
    };
    Node {
        tree: dir.tree,
        by: dir.tree,
        number: PLACEHOLDER,
        item,
        file_type: FileType::Directory,
    }
}
