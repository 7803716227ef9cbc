//! What must hold of the items of Btrfs trees: each is read a second time from front to back, field by
//! field, as `include/uapi/linux/btrfs_tree.h` declares it.
#![expect(
    clippy::unwrap_used,
    reason = "a property that does not hold is a panic: that is how a fuzzer is told"
)]

use plimsoll_core::fuzzing::Input;
use plimsoll_core::model::Timestamp;

use super::decode::{self, FileExtent, Inode, Item, Location, Place, Root};
use super::runs::{LAST_KEY, Run};
use super::search::Key;

/// The items of a search buffer are those that lie in it, and a run of them gives back what it holds.
pub fn btrfs_search(data: &[u8]) {
    let mut input = Input::new(data);
    let count = input.u32();
    let buffer = input.rest();
    let items: Vec<Item<'_>> = decode::items(buffer, count).collect();
    let mut expected = Vec::new();
    while expected.len() < usize::try_from(count).unwrap() && input.rest().len() >= 32 {
        let (_transid, objectid, offset) = (input.u64(), input.u64(), input.u64());
        let (kind, length) = (input.u32(), usize::try_from(input.u32()).unwrap());
        if kind > 255 || length > input.rest().len() {
            break;
        }
        let key = (objectid, u8::try_from(kind).unwrap(), offset);
        expected.push((key, input.take(length)));
    }
    let found: Vec<_> = items.iter().map(|i| (key_of(i), i.data)).collect();
    assert_eq!(found, expected);

    // The kernel returns items in the order of their keys.
    expected.sort_by_key(|(key, _)| *key);
    expected.dedup_by_key(|(key, _)| *key);
    let from = expected.first().map_or((0, 0, 0), |(key, _)| *key);
    let mut run = Run::new(5, from);
    for (key, data) in &expected {
        run.push(&Item {
            objectid: key.0,
            kind: key.1,
            offset: key.2,
            data,
        });
    }
    assert_eq!(run.len(), expected.len());
    let upto = expected.last().map_or(LAST_KEY, |(key, _)| *key);
    let mut keys: Vec<Key> = expected.iter().map(|(key, _)| *key).take(8).collect();
    keys.extend([(0, 0, 0), LAST_KEY, from, upto]);
    for min in &keys {
        for max in &keys {
            let inside = from <= *min && *max <= upto;
            assert_eq!(run.covers(5, *min, *max), inside);
            assert!(!run.covers(6, *min, *max));
            let found: Vec<_> = run
                .items(*min, *max)
                .map(|i| (key_of(&i), i.data))
                .collect();
            let within = |key: &Key| min <= key && key <= max;
            let expected: Vec<_> = expected
                .iter()
                .copied()
                .filter(|(k, _)| within(k))
                .collect();
            assert_eq!(found, expected);
        }
    }
}

fn key_of(item: &Item<'_>) -> Key {
    (item.objectid, item.kind, item.offset)
}

/// `struct btrfs_inode_item`.
pub fn btrfs_inode(data: &[u8]) {
    let mut input = Input::new(data);
    let (generation, transid, size) = (input.u64(), input.u64(), input.u64());
    let (bytes, _block_group) = (input.u64(), input.u64());
    let (links, uid, gid, mode) = (input.u32(), input.u32(), input.u32(), input.u32());
    let (rdev, flags, sequence) = (input.u64(), input.u64(), input.u64());
    input.take(4 * 8);
    let (_atime, ctime, mtime) = (time(&mut input), time(&mut input), time(&mut input));
    let expected = Inode {
        sequence,
        bytes,
        generation,
        transid,
        size,
        links,
        uid,
        gid,
        mode,
        rdev,
        flags,
        ctime,
        mtime,
    };
    let inode = Inode::decode(data);
    assert_eq!(inode, (data.len() >= 148).then_some(expected));
    if let Some(inode) = inode {
        let read = Inode {
            transid: !transid,
            ..inode
        };
        let touched = Inode {
            flags: !flags,
            ..inode
        };
        assert!(inode.same_but_read(&read) && read.same_but_read(&inode));
        assert!(!inode.same_but_read(&touched));
        let deduplicated = Inode {
            sequence: !sequence,
            ..read
        };
        assert!(inode.only_read(&read) && !inode.only_read(&touched));
        assert!(!inode.only_read(&deduplicated) && inode.same_but_read(&deduplicated));
    }
}

/// `struct btrfs_root_item`, as `btrfs_read_root_item` in `fs/btrfs/root-tree.c` reads it.
pub fn btrfs_root(data: &[u8]) {
    let mut input = Input::new(data);
    input.take(160);
    let (generation, _dirid, _bytenr) = (input.u64(), input.u64(), input.u64());
    let (_limit, _used, _snapshot, _flags) = (input.u64(), input.u64(), input.u64(), input.u64());
    let refs = input.u32();
    // A key, and two levels.
    input.take(17 + 2);
    let generation_v2 = input.u64();
    let mut uuid = || -> [u8; 16] {
        let mut uuid = [0; 16];
        let bytes = input.take(16);
        uuid[..bytes.len()].copy_from_slice(bytes);
        uuid
    };
    let (uuid, parent_uuid, _received) = (uuid(), uuid(), uuid());
    let (_ctransid, otransid) = (input.u64(), input.u64());
    let (_stransid, _rtransid) = (input.u64(), input.u64());
    let (_ctime, otime) = (time(&mut input), time(&mut input));
    let expected = Root {
        generation,
        refs,
        uuid,
        parent_uuid,
        otransid,
        otime,
    };
    // Where the two generations differ, a kernel that did not know the fields from the second one on
    // wrote the item last: they mean nothing.
    let good = data.len() >= 351 && generation == generation_v2;
    assert_eq!(Root::decode(data), good.then_some(expected));
}

/// `struct btrfs_file_extent_item`.
pub fn btrfs_extent(data: &[u8]) {
    let mut input = Input::new(data);
    let (generation, ram_bytes) = (input.u64(), input.u64());
    let (compression, encryption) = (input.u8(), input.u8());
    let (encoding, kind) = (input.u16(), input.u8());
    let bytes = input.rest();
    let (address, disk_length) = (input.u64(), input.u64());
    let (offset, length) = (input.u64(), input.u64());
    let place = match (kind, address) {
        (0, _) if data.len() >= 21 => Some(Place::Inline(bytes.into())),
        (1, 0) | (2, _) if data.len() >= 53 => Some(Place::Zeros { length }),
        (1, _) if data.len() >= 53 => Some(Place::Disk {
            address,
            disk_length,
            offset,
            length,
        }),
        _ => None,
    };
    let place = place.filter(|_| encryption == 0 && encoding == 0);
    let expected = place.map(|place| FileExtent {
        generation,
        ram_bytes,
        compression,
        place,
    });
    let extent = FileExtent::decode(data);
    assert_eq!(extent, expected);
    if let Some(extent) = extent {
        let covered = if kind == 0 { ram_bytes } else { length };
        assert_eq!(extent.length(), covered);
    }
}

/// Items that hold names: `struct btrfs_dir_item`, `btrfs_inode_ref`, `btrfs_inode_extref` and
/// `btrfs_root_ref`. No directory gets a name that a path could not have.
pub fn btrfs_names(data: &[u8]) {
    check_entries(data);
    let good = |name: &[u8]| !name.is_empty() && name.len() <= 255 && !is_special(name);

    let mut input = Input::new(data);
    let mut expected = Vec::new();
    while !input.is_empty() {
        let headed = input.rest().len() >= 10;
        let (_index, length) = (input.u64(), usize::from(input.u16()));
        let name = input.take(length);
        let whole = headed && name.len() == length && good(name);
        expected.push(whole.then_some(name));
        if !whole {
            break;
        }
    }
    assert_eq!(decode::inode_refs(data).collect::<Vec<_>>(), expected);

    let mut input = Input::new(data);
    let mut expected = Vec::new();
    while !input.is_empty() {
        let headed = input.rest().len() >= 18;
        let (parent, _index) = (input.u64(), input.u64());
        let length = usize::from(input.u16());
        let name = input.take(length);
        let whole = headed && name.len() == length && good(name);
        expected.push(whole.then_some((parent, name)));
        if !whole {
            break;
        }
    }
    assert_eq!(decode::inode_extrefs(data).collect::<Vec<_>>(), expected);

    let mut input = Input::new(data);
    let (dir, _sequence) = (input.u64(), input.u64());
    let length = usize::from(input.u16());
    let name = input.rest();
    let whole = data.len() >= 18 && name.len() == length && good(name);
    assert_eq!(decode::root_ref(data), whole.then_some((dir, name)));

    // The hash of a name, bit by bit.
    let mut crc = !1u32;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    assert_eq!(decode::name_hash(data), u64::from(crc));
}

fn check_entries(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut entries, mut xattrs) = (Vec::new(), Vec::new());
    let mut names_are_good = true;
    while !input.is_empty() {
        let headed = input.rest().len() >= 30;
        let (objectid, key_type, _key_offset) = (input.u64(), input.u8(), input.u64());
        let _transid = input.u64();
        let (data_length, name_length) = (usize::from(input.u16()), usize::from(input.u16()));
        let _file_type = input.u8();
        let (name, value) = (input.take(name_length), input.take(data_length));
        let whole = headed && name.len() == name_length && value.len() == data_length;
        let location = match key_type {
            1 => Some(Location::Inode(objectid)),
            132 => Some(Location::Subvolume(objectid)),
            _ => None,
        };
        if names_are_good {
            names_are_good = whole && !name.is_empty() && name.len() <= 255 && !is_special(name);
            entries.push(names_are_good.then_some((location, name)));
        }
        xattrs.push(whole.then_some((name, value)));
        if !whole {
            break;
        }
    }
    let found = decode::dir_entries(data).map(|e| e.map(|e| (e.location, e.name)));
    assert_eq!(found.collect::<Vec<_>>(), entries);
    assert_eq!(decode::xattrs(data).collect::<Vec<_>>(), xattrs);
}

/// Whether a name means something else to a path than one of its components.
fn is_special(name: &[u8]) -> bool {
    name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0)
}

fn time(input: &mut Input<'_>) -> Timestamp {
    Timestamp {
        seconds: input.u64().cast_signed(),
        nanoseconds: input.u32(),
    }
}
