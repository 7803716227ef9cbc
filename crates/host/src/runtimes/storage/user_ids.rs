//! Which ids on disk are those that the containers of a user have.
//!
//! A user who is not root is root in a user namespace of their own, and gives it the ids beside that are
//! allotted to them in `/etc/subuid` and `/etc/subgid` (subuid(5)): the lowest first, from 1 on
//! (`storage/pkg/idtools/idtools.go`, `createIDMap`; `common/pkg/rootless` of containers/container-libs).

use super::conf::User;
use crate::fs::{IdRange, Owners};

/// Most ranges of one user: the kernel takes 340 (`UID_GID_MAP_MAX_EXTENTS` in its
/// `include/linux/user_namespace.h`).
const RANGES_MAX: usize = 340;

/// Returns the map from ids on disk to those in the user's namespace, by the texts of both files.
///
/// # Errors
/// One clause, where they say nothing of the user.
pub(super) fn owners(user: &User, subuid: &[u8], subgid: &[u8]) -> Result<Owners, String> {
    let of = |file: &str, text: &[u8], own: u32| {
        let mut ranges = allotted(text, &user.name);
        if ranges.is_empty() {
            ranges = allotted(text, &user.uid.to_string());
        }
        match ranges.len() {
            0 => Err(format!(
                "{file} allots no ids to user {}, so that the owners of the files cannot be told",
                user.uid
            )),
            1..RANGES_MAX => Ok(mapped(own, &ranges)),
            _ => Err(format!(
                "{file} allots too many ranges to user {}",
                user.uid
            )),
        }
    };
    Ok(Owners {
        users: of("/etc/subuid", subuid, user.uid)?,
        groups: of("/etc/subgid", subgid, user.gid)?,
    })
}

/// Returns the ranges that one is allotted, first id and length, the lowest first.
fn allotted(text: &[u8], name: &str) -> Vec<(u32, u32)> {
    let lines = text.split(|b| *b == b'\n');
    let mut ranges: Vec<(u32, u32)> = lines
        .filter_map(|line| {
            let line = std::str::from_utf8(line).ok()?.trim();
            let (_, range) = line.split_once(':').filter(|(of, _)| *of == name)?;
            let (first, length) = range.split_once(':')?;
            let (first, length): (u32, u32) = (first.parse().ok()?, length.parse().ok()?);
            (length > 0).then_some((first, length))
        })
        .take(RANGES_MAX)
        .collect();
    ranges.sort_unstable();
    ranges
}

fn mapped(own: u32, ranges: &[(u32, u32)]) -> Vec<IdRange> {
    let mut map = vec![IdRange {
        from: own,
        to: 0,
        length: 1,
    }];
    let mut next: u32 = 1;
    for (first, length) in ranges {
        map.push(IdRange {
            from: *first,
            to: next,
            length: *length,
        });
        next = next.saturating_add(*length);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> User {
        User {
            name: "ann".into(),
            uid: 1000,
            gid: 100,
            home: "/home/ann".into(),
        }
    }

    #[test]
    fn the_lowest_first() {
        let text = b"bob:1:5\nann:300000:10\n# ann:1:1\nann:100000:65536\nann:x:1\nann:7:0\n";
        let owners = owners(&ann(), text, b"1000:200000:2\n").unwrap();
        for (id, shown) in [
            (1000, 0),
            (100_000, 1),
            (165_535, 65_536),
            (300_000, 65_537),
            (300_009, 65_546),
            (0, u32::MAX),
            (1, u32::MAX),
            (300_010, u32::MAX),
        ] {
            assert_eq!(owners.user(id), shown, "{id}");
        }
        for (id, shown) in [(100, 0), (200_001, 2), (1000, u32::MAX)] {
            assert_eq!(owners.group(id), shown, "{id}");
        }
    }

    #[test]
    fn whom_nothing_is_allotted() {
        let told = owners(&ann(), b"ann:1:5\n", b"bob:1:5").unwrap_err();
        assert!(told.contains("/etc/subgid"), "{told}");
    }
}
