//! Owners as an id-mapped mount shows them.
//!
//! A runtime that gives a container ids of its own can leave the files of the image as they are and
//! mount them mapped (mount_setattr(2), `MOUNT_ATTR_IDMAP`): the container's layer then has the
//! mapped owners, and those of the image are to be held against them through the same map.

use super::Stat;

/// The owner of what has none in a map. No file can have it: the kernel takes it for "no change".
const NOBODY: u32 = u32::MAX;

/// Ids that follow each other, and what they become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first id on disk: the container's own.
    pub from: u32,
    /// What it is shown as: the host's.
    pub to: u32,
    /// How many.
    pub length: u32,
}

/// A map of users and one of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners {
    /// Of users.
    pub users: Vec<IdRange>,
    /// Of groups.
    pub groups: Vec<IdRange>,
}

impl Owners {
    /// Returns what an object is through the map.
    pub(super) fn shown(&self, stat: Stat) -> Stat {
        Stat {
            uid: self.user(stat.uid),
            gid: self.group(stat.gid),
            ..stat
        }
    }

    /// Returns what a user is shown as; 4294967295 for one outside the map.
    #[must_use]
    pub fn user(&self, id: u32) -> u32 {
        mapped(&self.users, id)
    }

    /// Returns what a group is shown as; 4294967295 for one outside the map.
    #[must_use]
    pub fn group(&self, id: u32) -> u32 {
        mapped(&self.groups, id)
    }
}

fn mapped(ranges: &[IdRange], id: u32) -> u32 {
    let shown = |range: &IdRange| {
        let offset = id
            .checked_sub(range.from)
            .filter(|offset| *offset < range.length)?;
        range.to.checked_add(offset)
    };
    ranges.iter().find_map(shown).unwrap_or(NOBODY)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::Arc;

    use super::*;
    use crate::fs::Dir;

    #[test]
    fn ids_within_and_without() {
        let range = |from, to, length| IdRange { from, to, length };
        let ranges = [
            range(0, 100_000, 10),
            range(10, 7, 1),
            range(20, u32::MAX, 9),
        ];
        for (id, shown) in [
            (0, 100_000),
            (9, 100_009),
            (10, 7),
            (11, NOBODY),
            (21, NOBODY),
            (NOBODY, NOBODY),
        ] {
            assert_eq!(mapped(&ranges, id), shown, "{id}");
        }
        assert_eq!(mapped(&[], 0), NOBODY);
    }

    #[test]
    fn everything_beneath_is_seen_through_the_map() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join("a/b")).unwrap();
        std::fs::write(top.path().join("a/b/file"), "x").unwrap();
        let own = top.path().metadata().unwrap();
        let to = |id| IdRange {
            from: id,
            to: 5_000,
            length: 1,
        };
        let owners = Owners {
            users: vec![to(own.uid())],
            groups: vec![to(own.gid())],
        };
        let dir = Dir::open(top.path()).unwrap().with_owners(Arc::new(owners));
        let inner = dir.open_beneath(b"a/b").unwrap();
        let (_, file) = crate::fs::open_regular(&inner, b"file").unwrap();
        for stat in [
            dir.stat_self().unwrap(),
            dir.child(b"a").unwrap().stat(b"b").unwrap(),
            inner.stat(b"file").unwrap(),
            file,
        ] {
            assert_eq!((stat.uid, stat.gid), (5_000, 5_000));
        }
    }
}
