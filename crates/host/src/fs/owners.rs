//! Owners as an id-mapped mount shows them.
//!
//! A runtime that gives a container ids of its own can leave the files of the image as they are and
//! mount them mapped (mount_setattr(2), `MOUNT_ATTR_IDMAP`): the container's layer then has the
//! mapped owners, and those of the image are to be held against them through the same map. The other way
//! round, files that were written with the ids of a container are seen here as the container sees them.

use super::Stat;

/// The owner of what has none in a map. No file can have it: the kernel takes it for "no change".
const NOBODY: u32 = u32::MAX;

/// Ids that follow each other, and what they become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first id on disk.
    pub from: u32,
    /// What it is shown as.
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

impl Owners {
    /// Returns the map the other way round.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let inverse = |ranges: &[IdRange]| {
            let ranges = ranges.iter();
            ranges
                .map(|range| IdRange {
                    from: range.to,
                    to: range.from,
                    length: range.length,
                })
                .collect()
        };
        Self {
            users: inverse(&self.users),
            groups: inverse(&self.groups),
        }
    }

    /// Returns this map and then another one.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        Self {
            users: one_after_the_other(&self.users, &next.users),
            groups: one_after_the_other(&self.groups, &next.groups),
        }
    }

    /// Returns the value of an extended attribute as it is seen through the map: file capabilities and
    /// access control lists hold ids. The kernel gives them as those of the machine to a process of it.
    ///
    /// Capabilities that hold for the root of a user namespace alone (kernel
    /// `include/uapi/linux/capability.h`, `vfs_ns_cap_data`) are to that one as capabilities of before.
    #[must_use]
    pub fn seen_value(&self, name: &[u8], value: Vec<u8>) -> Vec<u8> {
        match name {
            b"security.capability" => self.capability(&value).unwrap_or(value),
            b"system.posix_acl_access" | b"system.posix_acl_default" => {
                self.access_list(&value).unwrap_or(value)
            }
            _ => value,
        }
    }

    fn capability(&self, value: &[u8]) -> Option<Vec<u8>> {
        const LENGTH: usize = 24;
        const REVISION: u32 = 0xff00_0000;
        let (magic, rest) = value.split_first_chunk::<4>()?;
        let magic = u32::from_le_bytes(*magic);
        if value.len() != LENGTH || magic & REVISION != 0x0300_0000 {
            return None;
        }
        let (data, root) = rest.split_last_chunk::<4>()?;
        if self.user(u32::from_le_bytes(*root)) != 0 {
            return None;
        }
        let magic = magic & !REVISION | 0x0200_0000;
        Some([&magic.to_le_bytes()[..], data].concat())
    }

    /// The form is that of the kernel's `include/uapi/linux/posix_acl_xattr.h`.
    fn access_list(&self, value: &[u8]) -> Option<Vec<u8>> {
        const USER: u16 = 2;
        const GROUP: u16 = 8;
        let (version, entries) = value.split_first_chunk::<4>()?;
        let mut seen = version.to_vec();
        let mut entries = entries.chunks_exact(8);
        for entry in &mut entries {
            let (head, id) = entry.split_last_chunk::<4>()?;
            let tag = u16::from_le_bytes(*head.first_chunk::<2>()?);
            let id = u32::from_le_bytes(*id);
            let id = match tag {
                USER => self.user(id),
                GROUP => self.group(id),
                _ => id,
            };
            seen.extend_from_slice(head);
            seen.extend_from_slice(&id.to_le_bytes());
        }
        entries.remainder().is_empty().then_some(seen)
    }
}

/// Returns what ids become by one map and then by another.
fn one_after_the_other(first: &[IdRange], second: &[IdRange]) -> Vec<IdRange> {
    let mut both = Vec::new();
    for a in first {
        for b in second {
            // The ids in between that both have.
            let from = a.to.max(b.from);
            let end = |start: u32, length: u32| u64::from(start) + u64::from(length);
            let end = end(a.to, a.length).min(end(b.from, b.length));
            let length = end.saturating_sub(u64::from(from));
            let ends = (
                a.from.checked_add(from - a.to),
                b.to.checked_add(from - b.from),
            );
            if let (Ok(length @ 1..), (Some(from), Some(to))) = (u32::try_from(length), ends) {
                both.push(IdRange { from, to, length });
            }
        }
    }
    both
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
    fn one_map_after_another() {
        let range = |from, to, length| IdRange { from, to, length };
        let users = |ranges: &[IdRange]| Owners {
            users: ranges.to_vec(),
            groups: Vec::new(),
        };
        let first = users(&[range(1000, 0, 1), range(100_000, 1, 65_536)]);
        let second = users(&[
            range(1, 0, 1000),
            range(0, 1000, 1),
            range(1001, 1001, 60_000),
        ]);
        let both = first.then(&second);
        for id in [0, 1000, 1001, 100_000, 100_999, 101_000, 165_535, 165_536] {
            let through = match first.user(id) {
                NOBODY => NOBODY,
                id => second.user(id),
            };
            assert_eq!(both.user(id), through, "{id}");
            if through != NOBODY {
                assert_eq!(both.inverse().user(through), id);
            }
        }
    }

    #[test]
    fn values_that_hold_ids() {
        let owners = Owners {
            users: vec![IdRange {
                from: 1000,
                to: 0,
                length: 10,
            }],
            groups: vec![IdRange {
                from: 500,
                to: 5,
                length: 1,
            }],
        };
        let capability = |magic: u32, root: Option<u32>| {
            let root = root.map(u32::to_le_bytes).unwrap_or_default();
            let length = if magic >> 24 == 3 { 4 } else { 0 };
            [&magic.to_le_bytes()[..], &[7; 16], &root[..length]].concat()
        };
        let seen = |value| owners.seen_value(b"security.capability", value);
        let plain = capability(0x0200_0001, None);
        assert_eq!(seen(capability(0x0300_0001, Some(1000))), plain);
        assert_eq!(seen(plain.clone()), plain);
        let of_another = capability(0x0300_0001, Some(1001));
        assert_eq!(seen(of_another.clone()), of_another);
        let list = |user: u32, group: u32| {
            let entry =
                |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
            [
                vec![2, 0, 0, 0],
                entry(1, NOBODY),
                entry(2, user),
                entry(8, group),
            ]
            .concat()
        };
        assert_eq!(
            owners.seen_value(b"system.posix_acl_access", list(1003, 500)),
            list(3, 5)
        );
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
