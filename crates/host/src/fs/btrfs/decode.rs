//! The items of Btrfs trees (kernel `include/uapi/linux/btrfs_tree.h`): pure functions of bytes.
//!
//! The bytes come from a disk that a container writes to. Whatever they are, decoding ends with a
//! value or with `None`.

use crc::{CRC_32_ISCSI, Crc};
use plimsoll_core::model::Timestamp;

/// Types of items.
pub(crate) const INODE_ITEM: u8 = 1;
pub(crate) const INODE_REF: u8 = 12;
pub(crate) const INODE_EXTREF: u8 = 13;
pub(crate) const XATTR_ITEM: u8 = 24;
pub(crate) const DIR_ITEM: u8 = 84;
pub(crate) const DIR_INDEX: u8 = 96;
pub(crate) const EXTENT_DATA: u8 = 108;
pub(crate) const EXTENT_CSUM: u8 = 128;
pub(crate) const ROOT_ITEM: u8 = 132;
pub(crate) const ROOT_BACKREF: u8 = 144;
pub(crate) const ROOT_REF: u8 = 156;
pub(crate) const CHUNK_ITEM: u8 = 228;

/// One item as a search returns it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'b> {
    pub(crate) objectid: u64,
    pub(crate) kind: u8,
    pub(crate) offset: u64,
    pub(crate) data: &'b [u8],
}

/// Bytes of what stands before each item (`struct btrfs_ioctl_search_header`).
pub(crate) const HEADER: usize = 32;

/// Splits what a search returned into items. Stops at anything that does not fit.
pub(crate) fn items(mut bytes: &[u8], count: u32) -> impl Iterator<Item = Item<'_>> {
    (0..count).map_while(move |_| {
        let header = bytes.get(..HEADER)?;
        let length = usize::try_from(u32_at(header, 28)?).ok()?;
        let item = Item {
            objectid: u64_at(header, 8)?,
            offset: u64_at(header, 16)?,
            kind: u8::try_from(u32_at(header, 24)?).ok()?,
            data: bytes.get(HEADER..HEADER.checked_add(length)?)?,
        };
        bytes = bytes.get(HEADER + length..)?;
        Some(item)
    })
}

/// `struct btrfs_inode_item`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inode {
    /// Transaction that made the inode: with its number, its identity.
    pub(crate) generation: u64,
    /// Transaction that last changed this item.
    pub(crate) transid: u64,
    pub(crate) size: u64,
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    pub(crate) rdev: u64,
    pub(crate) flags: u64,
    pub(crate) ctime: Timestamp,
    pub(crate) mtime: Timestamp,
    /// Counts changes of content and attributes, also those that keep their times.
    pub(crate) sequence: u64,
    /// Bytes on disk.
    pub(crate) bytes: u64,
}

impl Inode {
    /// Whether nothing happened between the two but reading, and what changes neither attributes nor
    /// any time: the access time is not kept here.
    pub(crate) fn same_but_read(&self, other: &Self) -> bool {
        Self {
            transid: other.transid,
            sequence: other.sequence,
            bytes: other.bytes,
            ..*self
        } == *other
    }

    /// Whether nothing happened between the two but reading, which moves the access time alone: what was
    /// done to extents is told by these.
    pub(crate) fn only_read(&self, other: &Self) -> bool {
        Self {
            transid: other.transid,
            ..*self
        } == *other
    }

    pub(crate) fn decode(data: &[u8]) -> Option<Self> {
        Some(Self {
            generation: u64_at(data, 0)?,
            transid: u64_at(data, 8)?,
            size: u64_at(data, 16)?,
            links: u32_at(data, 40)?,
            uid: u32_at(data, 44)?,
            gid: u32_at(data, 48)?,
            mode: u32_at(data, 52)?,
            rdev: u64_at(data, 56)?,
            flags: u64_at(data, 64)?,
            ctime: time_at(data, 124)?,
            mtime: time_at(data, 136)?,
            sequence: u64_at(data, 72)?,
            bytes: u64_at(data, 24)?,
        })
    }
}

/// Takes values off the front of an item until nothing is left of it. What cannot be decoded is a last
/// `None`: an item that is only half understood must not look like a shorter one.
fn all<'b, T: 'b>(
    mut data: &'b [u8],
    first: impl Fn(&'b [u8]) -> Option<(T, &'b [u8])> + 'b,
) -> impl Iterator<Item = Option<T>> + 'b {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let (value, rest) = first(data).map_or((None, &[][..]), |(v, rest)| (Some(v), rest));
        data = rest;
        Some(value)
    })
}

/// The names in an INODE_REF item: all those that the inode has in one directory.
pub(crate) fn inode_refs(data: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    all(data, |data| {
        let end = 10 + usize::from(u16_at(data, 8)?);
        Some((name(data.get(10..end)?)?, data.get(end..)?))
    })
}

/// The directories and names in an INODE_EXTREF item.
pub(crate) fn inode_extrefs(data: &[u8]) -> impl Iterator<Item = Option<(u64, &[u8])>> {
    all(data, |data| {
        let end = 18 + usize::from(u16_at(data, 16)?);
        let name = name(data.get(18..end)?)?;
        Some(((u64_at(data, 0)?, name), data.get(end..)?))
    })
}

/// The directory and the name in a ROOT_REF or ROOT_BACKREF item, where a nested subvolume hangs.
pub(crate) fn root_ref(data: &[u8]) -> Option<(u64, &[u8])> {
    let found = data.get(18..)?;
    let whole = found.len() == usize::from(u16_at(data, 16)?);
    Some((u64_at(data, 0)?, name(found).filter(|_| whole)?))
}

/// Returns a name if it can be one component of a path: on a disk that was tampered with it may be
/// anything, and in a path lead elsewhere.
fn name(name: &[u8]) -> Option<&[u8]> {
    /// `BTRFS_NAME_LEN`.
    const LONGEST: usize = 255;
    let special = name.is_empty() || name == b"." || name == b"..";
    let good = !special && name.len() <= LONGEST && !name.iter().any(|b| [0, b'/'].contains(b));
    good.then_some(name)
}

/// Where a directory entry leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Location {
    /// To an inode of the same tree.
    Inode(u64),
    /// To the root of another subvolume.
    Subvolume(u64),
}

/// An entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirEntry<'b> {
    pub(crate) location: Option<Location>,
    pub(crate) name: &'b [u8],
}

/// The entries in a DIR_ITEM or DIR_INDEX item: several where names have one hash.
pub(crate) fn dir_entries(data: &[u8]) -> impl Iterator<Item = Option<DirEntry<'_>>> {
    let mut good = true;
    dir_items(data)
        .map(|item| {
            let (location, found, _) = item?;
            let name = name(found)?;
            Some(DirEntry { location, name })
        })
        .take_while(move |entry| std::mem::replace(&mut good, entry.is_some()))
}

/// The extended attributes in an XATTR_ITEM item: names and values.
pub(crate) fn xattrs(data: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    dir_items(data).map(|item| {
        let (_, name, value) = item?;
        Some((name, value))
    })
}

/// Every `struct btrfs_dir_item` in an item: where it leads, its name and its value.
fn dir_items(data: &[u8]) -> impl Iterator<Item = Option<(Option<Location>, &[u8], &[u8])>> {
    const NAME_AT: usize = 30;
    all(data, |data| {
        let objectid = u64_at(data, 0)?;
        let location = match *data.get(8)? {
            INODE_ITEM => Some(Location::Inode(objectid)),
            ROOT_ITEM => Some(Location::Subvolume(objectid)),
            _ => None,
        };
        let value_at = NAME_AT + usize::from(u16_at(data, 27)?);
        let end = value_at + usize::from(u16_at(data, 25)?);
        let (name, value) = (data.get(NAME_AT..value_at)?, data.get(value_at..end)?);
        Some(((location, name, value), data.get(end..)?))
    })
}

/// `struct btrfs_file_extent_item`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileExtent {
    pub(crate) generation: u64,
    /// Bytes when not compressed.
    pub(crate) ram_bytes: u64,
    pub(crate) compression: u8,
    pub(crate) place: Place,
}

/// Where the bytes of an extent are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the item itself.
    Inline(Box<[u8]>),
    /// On disk.
    Disk {
        /// Logical address of the extent.
        address: u64,
        /// Its length on disk.
        disk_length: u64,
        /// Where in the uncompressed extent this part begins.
        offset: u64,
        /// Length of this part.
        length: u64,
    },
    /// Nowhere: a hole, or space that was reserved and not written.
    Zeros {
        /// Length of this part.
        length: u64,
    },
}

impl FileExtent {
    pub(crate) fn decode(data: &[u8]) -> Option<Self> {
        const INLINE: u8 = 0;
        const REGULAR: u8 = 1;
        const PREALLOCATED: u8 = 2;
        const BYTES_AT: usize = 21;
        let encoded = *data.get(17)? != 0 || u16_at(data, 18)? != 0;
        if encoded {
            return None;
        }
        let place = match *data.get(20)? {
            INLINE => Place::Inline(data.get(BYTES_AT..)?.into()),
            REGULAR | PREALLOCATED => {
                let address = u64_at(data, 21)?;
                let length = u64_at(data, 45)?;
                if address == 0 || *data.get(20)? == PREALLOCATED {
                    Place::Zeros { length }
                } else {
                    Place::Disk {
                        address,
                        disk_length: u64_at(data, 29)?,
                        offset: u64_at(data, 37)?,
                        length,
                    }
                }
            }
            _ => return None,
        };
        Some(Self {
            generation: u64_at(data, 0)?,
            ram_bytes: u64_at(data, 8)?,
            compression: *data.get(16)?,
            place,
        })
    }

    /// Bytes of the file that it covers.
    pub(crate) fn length(&self) -> u64 {
        match &self.place {
            Place::Inline(_) => self.ram_bytes,
            Place::Disk { length, .. } | Place::Zeros { length } => *length,
        }
    }
}

/// `struct btrfs_root_item`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Root {
    /// Transaction that last changed anything in the tree.
    pub(crate) generation: u64,
    /// References: none left when the subvolume was deleted.
    pub(crate) refs: u32,
    pub(crate) uuid: [u8; 16],
    pub(crate) parent_uuid: [u8; 16],
    /// Transaction in which the subvolume was made.
    pub(crate) otransid: u64,
    /// When that was.
    pub(crate) otime: Timestamp,
}

impl Root {
    /// `None` as well where a kernel wrote it last that did not know the fields after the second
    /// generation: then they mean nothing (`btrfs_read_root_item` in `fs/btrfs/root-tree.c`).
    pub(crate) fn decode(data: &[u8]) -> Option<Self> {
        if u64_at(data, 160)? != u64_at(data, 239)? {
            return None;
        }
        let uuid = |at: usize| {
            data.get(at..at + 16)
                .and_then(|bytes| bytes.try_into().ok())
        };
        Some(Self {
            generation: u64_at(data, 160)?,
            refs: u32_at(data, 216)?,
            uuid: uuid(247)?,
            parent_uuid: uuid(263)?,
            otransid: u64_at(data, 303)?,
            otime: time_at(data, 339)?,
        })
    }
}

/// `struct btrfs_chunk`: where a range of logical addresses lies on the devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) length: u64,
    pub(crate) stripe_length: u64,
    pub(crate) profile: u64,
    pub(crate) sub_stripes: u16,
    /// Device and offset on it, for each stripe.
    pub(crate) stripes: Vec<(u64, u64)>,
}

impl Chunk {
    pub(crate) fn decode(data: &[u8]) -> Option<Self> {
        const STRIPES_AT: usize = 48;
        const STRIPE: usize = 32;
        let count = usize::from(u16_at(data, 44)?);
        let stripes = (0..count)
            .map(|n| {
                Some((
                    u64_at(data, STRIPES_AT + n * STRIPE)?,
                    u64_at(data, STRIPES_AT + n * STRIPE + 8)?,
                ))
            })
            .collect::<Option<_>>()?;
        Some(Self {
            length: u64_at(data, 0)?,
            stripe_length: u64_at(data, 16)?,
            profile: u64_at(data, 24)?,
            sub_stripes: u16_at(data, 46)?,
            stripes,
        })
    }
}

/// The hash under which a directory keeps a name (`btrfs_name_hash` in `fs/btrfs/ctree.h`): CRC-32C
/// with another seed, and not inverted at the end.
///
/// By a table: the instruction for it is quicker, but not by what it takes to ask a virtual machine's processor
/// whether it has that (30 microseconds, some thousand names).
pub(crate) fn name_hash(name: &[u8]) -> u64 {
    static NAMES: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    const SEED: u32 = !1;
    // The seed is taken in the order of the polynomial's bits.
    let mut digest = NAMES.digest_with_initial(SEED.reverse_bits());
    digest.update(name);
    u64::from(!digest.finalize())
}

fn time_at(data: &[u8], at: usize) -> Option<Timestamp> {
    let seconds = i64::from_le_bytes(data.get(at..at + 8)?.try_into().ok()?);
    Some(Timestamp {
        seconds,
        nanoseconds: u32_at(data, at + 8)?,
    })
}

fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        data.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        data.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(
        data.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_end_without_a_panic() {
        // Every length up to beyond the largest item, filled with the values that upset arithmetic.
        for fill in [0u8, 1, 0x7f, 0xff, INODE_ITEM, ROOT_ITEM] {
            for length in 0..600 {
                let data = vec![fill; length];
                let _ = (
                    Inode::decode(&data),
                    FileExtent::decode(&data),
                    Root::decode(&data),
                    Chunk::decode(&data),
                );
                assert!(items(&data, u32::MAX).count() <= length);
                assert!(dir_entries(&data).count() <= length);
                assert!(inode_refs(&data).count() <= length);
                assert!(inode_extrefs(&data).count() <= length);
                let _ = root_ref(&data);
            }
        }
    }

    #[test]
    fn what_is_left_over_is_told() {
        let mut item = [0; 40];
        item[8..10].copy_from_slice(&4u16.to_le_bytes());
        item[10..14].copy_from_slice(b"name");
        assert!(inode_refs(&item[..14]).eq([Some(&b"name"[..])]));
        assert!(inode_refs(&item[..15]).eq([Some(&b"name"[..]), None]));
        assert!(inode_refs(&item[..13]).eq([None]));
        let mut entry = vec![0; 30];
        entry[8] = INODE_ITEM;
        entry[27] = 2;
        entry.extend(b"ab");
        let decoded =
            |data: &[u8]| -> Vec<bool> { dir_entries(data).map(|e| e.is_some()).collect() };
        assert_eq!(decoded(&entry), [true]);
        entry.push(0);
        assert_eq!(decoded(&entry), [true, false]);
    }

    /// Where the kernel's own headers have the fields that are decoded here.
    #[test]
    fn offsets_are_the_kernels() {
        use std::mem::{offset_of, size_of};

        use linux_raw_sys::btrfs::{
            btrfs_chunk, btrfs_dir_item, btrfs_disk_key, btrfs_file_extent_item,
            btrfs_inode_extref, btrfs_inode_item, btrfs_inode_ref, btrfs_ioctl_search_header,
            btrfs_root_item, btrfs_root_ref, btrfs_stripe, btrfs_timespec,
        };

        // Each byte holds its own offset, so that a value tells where it was read.
        let at = |bytes: usize, offset: usize| {
            (offset..offset + bytes)
                .rev()
                .fold(0u64, |value, byte| value << 8 | (byte as u64 & 0xff))
        };
        let data: Vec<u8> = (0..=u8::MAX).chain(0..=u8::MAX).collect();
        let time = |offset: usize| Timestamp {
            seconds: at(8, offset).cast_signed(),
            nanoseconds: at(4, offset + offset_of!(btrfs_timespec, nsec)) as u32,
        };
        macro_rules! field {
            ($type:ty, $bytes:literal, $field:ident) => {
                at($bytes, offset_of!($type, $field))
            };
        }
        let inode = Inode::decode(&data).unwrap();
        type I = btrfs_inode_item;
        assert_eq!(inode.generation, field!(I, 8, generation));
        assert_eq!(inode.transid, field!(I, 8, transid));
        assert_eq!(inode.size, field!(I, 8, size));
        assert_eq!(u64::from(inode.links), field!(I, 4, nlink));
        assert_eq!(u64::from(inode.uid), field!(I, 4, uid));
        assert_eq!(u64::from(inode.gid), field!(I, 4, gid));
        assert_eq!(u64::from(inode.mode), field!(I, 4, mode));
        assert_eq!(inode.rdev, field!(I, 8, rdev));
        assert_eq!(inode.flags, field!(I, 8, flags));
        assert_eq!(inode.ctime, time(offset_of!(I, ctime)));
        assert_eq!(inode.mtime, time(offset_of!(I, mtime)));

        type R = btrfs_root_item;
        assert_eq!(Root::decode(&data), None);
        let mut item = data.clone();
        let generation = offset_of!(R, generation);
        let second = offset_of!(R, generation_v2);
        item.copy_within(generation..generation + 8, second);
        let root = Root::decode(&item).unwrap();
        assert_eq!(root.generation, field!(R, 8, generation));
        assert_eq!(u64::from(root.refs), field!(R, 4, refs));
        assert_eq!(usize::from(root.uuid[0]), offset_of!(R, uuid) & 0xff);
        assert_eq!(
            usize::from(root.parent_uuid[0]),
            offset_of!(R, parent_uuid) & 0xff
        );
        assert_eq!(root.otransid, field!(R, 8, otransid));
        assert_eq!(root.otime, time(offset_of!(R, otime)));

        type E = btrfs_file_extent_item;
        let mut extent = data.clone();
        extent[offset_of!(E, encryption)] = 0;
        extent[offset_of!(E, other_encoding)..][..2].fill(0);
        extent[offset_of!(E, type_)] = 1;
        assert_eq!(
            FileExtent::decode(&extent).unwrap(),
            FileExtent {
                generation: field!(E, 8, generation),
                ram_bytes: field!(E, 8, ram_bytes),
                compression: offset_of!(E, compression) as u8,
                // The item is packed: its first address is one of those whose low byte is not zero.
                place: Place::Disk {
                    address: field!(E, 8, disk_bytenr),
                    disk_length: field!(E, 8, disk_num_bytes),
                    offset: field!(E, 8, offset),
                    length: field!(E, 8, num_bytes),
                },
            }
        );

        type C = btrfs_chunk;
        let mut chunk = data.clone();
        chunk[offset_of!(C, num_stripes)..][..2].copy_from_slice(&2u16.to_le_bytes());
        let stripe = |n: usize, field: usize| {
            at(
                8,
                offset_of!(C, stripe) + n * size_of::<btrfs_stripe>() + field,
            )
        };
        let stripes = [0, 1].map(|n| {
            (
                stripe(n, offset_of!(btrfs_stripe, devid)),
                stripe(n, offset_of!(btrfs_stripe, offset)),
            )
        });
        assert_eq!(
            Chunk::decode(&chunk).unwrap(),
            Chunk {
                length: field!(C, 8, length),
                stripe_length: field!(C, 8, stripe_len),
                profile: field!(C, 8, type_),
                sub_stripes: field!(C, 2, sub_stripes) as u16,
                stripes: stripes.into(),
            }
        );

        // Items of several names: the header's own size, and where the lengths are.
        assert_eq!(
            (
                size_of::<btrfs_inode_ref>(),
                offset_of!(btrfs_inode_ref, name_len)
            ),
            (10, 8)
        );
        assert_eq!(
            (
                size_of::<btrfs_inode_extref>(),
                offset_of!(btrfs_inode_extref, name_len)
            ),
            (18, 16)
        );
        assert_eq!(
            (
                size_of::<btrfs_root_ref>(),
                offset_of!(btrfs_root_ref, name_len)
            ),
            (18, 16)
        );
        assert_eq!(offset_of!(btrfs_root_ref, dirid), 0);
        type D = btrfs_dir_item;
        assert_eq!(offset_of!(btrfs_disk_key, type_), 8);
        assert_eq!(
            (
                offset_of!(D, data_len),
                offset_of!(D, name_len),
                size_of::<D>()
            ),
            (25, 27, 30)
        );
        type S = btrfs_ioctl_search_header;
        assert_eq!(
            (
                offset_of!(S, objectid),
                offset_of!(S, offset),
                offset_of!(S, type_),
                offset_of!(S, len),
                size_of::<S>()
            ),
            (8, 16, 24, 28, 32)
        );
    }

    #[test]
    fn the_hash_of_a_name() {
        // From `btrfs inspect-internal dump-tree`: DIR_ITEM of "default" in a new file system.
        assert_eq!(name_hash(b"default"), 2_378_154_706);
    }
}
