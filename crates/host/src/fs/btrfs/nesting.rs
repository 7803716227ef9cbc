//! Which trees there are, and where subvolumes hang in each other.

use std::ops::ControlFlow;

use super::TreeError;
use super::decode::{self, ROOT_BACKREF, ROOT_ITEM, ROOT_REF};
use super::search::{Name, ROOT_TREE, Trees};

impl Trees<'_> {
    /// Whether the file system has a tree of this number.
    pub(crate) fn has_tree(&mut self, tree: u64) -> Result<bool, TreeError> {
        let mut found = false;
        let range = ((tree, ROOT_ITEM, 0), (tree, ROOT_ITEM, u64::MAX));
        self.each(ROOT_TREE, range, 0, 1, |_| {
            found = true;
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Returns where the subvolume `child` hangs in `parent`: a directory and a name; `None` when it does
    /// not. A snapshot copies the entry of a subvolume that was nested in its source, but not the
    /// subvolume: there the entry shows as an empty directory.
    ///
    /// # Errors
    /// [`TreeError::Undecodable`] as well when it hangs in another one at once, which none can.
    pub(crate) fn hangs_in(&mut self, child: u64, parent: u64) -> Result<Option<Name>, TreeError> {
        let mut hangs = None;
        let mut count = 0;
        let mut odd = false;
        let range = ((child, ROOT_BACKREF, 0), (child, ROOT_BACKREF, u64::MAX));
        self.each(ROOT_TREE, range, 0, 2, |item| {
            count += 1;
            if item.offset == parent {
                hangs = decode::root_ref(item.data).map(|(dir, name)| (dir, name.into()));
                odd |= hangs.is_none();
            }
            ControlFlow::Continue(())
        })?;
        if odd || count > 1 {
            Err(TreeError::Undecodable(ROOT_TREE))
        } else {
            Ok(hangs)
        }
    }

    /// Returns where subvolumes hang in a subvolume: directories and names.
    pub(crate) fn nested(&mut self, parent: u64) -> Result<Vec<Name>, TreeError> {
        let mut nested: Vec<Name> = Vec::new();
        let mut odd = false;
        let range = ((parent, ROOT_REF, 0), (parent, ROOT_REF, u64::MAX));
        self.each(ROOT_TREE, range, 0, u32::MAX, |item| {
            match decode::root_ref(item.data) {
                Some((dir, name)) => nested.push((dir, name.into())),
                None => odd = true,
            }
            ControlFlow::Continue(())
        })?;
        if odd {
            Err(TreeError::Undecodable(parent))
        } else {
            Ok(nested)
        }
    }
}
