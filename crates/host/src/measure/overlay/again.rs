//! Whether an object of the container is as it was when the comparison of it began.
//!
//! Every change of an inode gives it another change time, which nobody can set. Since Linux 6.13 that
//! holds within one tick of the clock as well, once the time was looked at (kernel
//! `Documentation/filesystems/multigrain-ts.rst`).

use rustix::io::Errno;

use super::node::{Leaf, Node};
use super::{OverlayPair, UPPER};
use crate::fs::Stat;
use crate::measure::Trouble;

impl OverlayPair<'_> {
    /// Returns an object as it is now, when it changed since it was looked up.
    pub(super) fn look_again(&mut self, node: &Node) -> Result<Option<Node>, Trouble> {
        match node {
            Node::Leaf(leaf) if leaf.layer == UPPER => self.leaf_again(leaf),
            Node::Leaf(_) => Ok(None),
            Node::Dir { .. } => self.dir_again(node),
        }
    }

    fn leaf_again(&mut self, leaf: &Leaf) -> Result<Option<Node>, Trouble> {
        let gone = || Trouble("it was replaced while it was being looked at".into());
        let now = match leaf.parent.stat(&leaf.name) {
            Err(Errno::NOENT) => return Err(gone()),
            now => now?,
        };
        if now == leaf.stat {
            return Ok(None);
        }
        let again = self.leaf(UPPER, &leaf.parent, &leaf.name, leaf.shifted)?;
        let mut again = again.ok_or_else(gone)?;
        let is_leaf = !again.stat.file_type.has_entries();
        if !is_leaf || again.marks.whiteout || again.stat.is_whiteout_device() {
            return Err(gone());
        }
        if again.marks.metacopy {
            again.data.clone_from(&leaf.data);
        }
        Ok(Some(Node::Leaf(again)))
    }

    fn dir_again(&mut self, node: &Node) -> Result<Option<Node>, Trouble> {
        let mut again = node.clone();
        let Node::Dir { parts, .. } = &mut again else {
            return Ok(None);
        };
        let Some(top) = parts.first_mut().filter(|top| top.layer == UPPER) else {
            return Ok(None);
        };
        let now = top.dir.stat_self()?;
        // Entries come and go: they are compared by themselves.
        let of_entries = Stat {
            ctime: now.ctime,
            mtime: now.mtime,
            links: now.links,
            size: now.size,
            ..top.stat
        };
        if now == of_entries {
            return Ok(None);
        }
        top.marks = self.marks.of(&top.dir, b"", &now)?;
        top.stat = now;
        Ok(Some(again))
    }
}
