//! The attributes of one path on both sides, packed: a container may differ in as many paths as its image
//! has, and all of them are held until they are told.

use std::fmt;

use super::{Attributes, Bytes, Device, FileType, Timestamp};

/// The attributes of a path in the image and in the container, where it is there.
///
/// Each takes the room of what it does not have in common with the one before, so that an ordinary path
/// takes some thirty bytes for both.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Sides(Packed);

/// Bytes that take no memory of their own while they are few.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Packed {
    /// Those beyond the length are zero.
    Few {
        length: u8,
        bytes: [u8; FEW],
    },
    Many(Box<[u8]>),
}

/// As many as make no more than the other form would, with what the allocator adds.
const FEW: usize = 30;

/// Which fields of attributes follow, one bit each: those in which they differ from what they follow.
mod field {
    pub(super) const KIND: u8 = 1;
    pub(super) const MODE: u8 = 1 << 1;
    pub(super) const OWNER: u8 = 1 << 2;
    pub(super) const SIZE: u8 = 1 << 3;
    pub(super) const MTIME: u8 = 1 << 4;
    pub(super) const LINKS: u8 = 1 << 5;
    pub(super) const DEVICE: u8 = 1 << 6;
    pub(super) const TARGET: u8 = 1 << 7;
}

/// The byte before each of the two.
const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

const TYPES: [FileType; 8] = [
    FileType::File,
    FileType::Directory,
    FileType::Symlink,
    FileType::Fifo,
    FileType::Socket,
    FileType::CharDevice,
    FileType::BlockDevice,
    FileType::Subvolume,
];
const IMMUTABLE: u8 = 1 << 3;
const APPEND_ONLY: u8 = 1 << 4;

/// What the first attributes follow.
const PLAIN: Attributes = Attributes {
    file_type: FileType::File,
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: Timestamp {
        seconds: 0,
        nanoseconds: 0,
    },
    links: 1,
    device: None,
    target: None,
    immutable: false,
    append_only: false,
};

impl Sides {
    /// Packs the attributes of a path in the image and in the container.
    #[must_use]
    pub fn new(before: Option<&Attributes>, after: Option<&Attributes>) -> Self {
        if before.is_none() && after.is_none() {
            return Self::default();
        }
        let mut out = Vec::with_capacity(64);
        let mut base = &PLAIN;
        for side in [before, after] {
            match side {
                None => out.push(ABSENT),
                Some(side) => {
                    out.push(PRESENT);
                    pack(base, side, &mut out);
                    base = side;
                }
            }
        }
        Self(Packed::from(out))
    }

    /// Returns the attributes in the image.
    #[must_use]
    pub fn before(&self) -> Option<Attributes> {
        unpack(&mut self.0.bytes(), &PLAIN)
    }

    /// Returns the attributes in the container.
    #[must_use]
    pub fn after(&self) -> Option<Attributes> {
        let mut packed = self.0.bytes();
        let before = unpack(&mut packed, &PLAIN);
        unpack(&mut packed, before.as_ref().unwrap_or(&PLAIN))
    }

    /// Whether the image has the path.
    #[must_use]
    pub fn has_before(&self) -> bool {
        self.0.bytes().first() == Some(&PRESENT)
    }
}

impl Packed {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Few { length, bytes } => &bytes[..usize::from(*length)],
            Self::Many(bytes) => bytes,
        }
    }
}

impl Default for Packed {
    fn default() -> Self {
        Self::Few {
            length: 0,
            bytes: [0; FEW],
        }
    }
}

impl From<Vec<u8>> for Packed {
    fn from(bytes: Vec<u8>) -> Self {
        match u8::try_from(bytes.len()) {
            Ok(length) if bytes.len() <= FEW => {
                let mut few = [0; FEW];
                few[..bytes.len()].copy_from_slice(&bytes);
                Self::Few { length, bytes: few }
            }
            _ => Self::Many(bytes.into()),
        }
    }
}

impl fmt::Debug for Sides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sides")
            .field("before", &self.before())
            .field("after", &self.after())
            .finish()
    }
}

fn pack(base: &Attributes, side: &Attributes, out: &mut Vec<u8>) {
    let Attributes {
        file_type,
        mode,
        uid,
        gid,
        size,
        mtime,
        links,
        device,
        target,
        immutable,
        append_only,
    } = side;
    let same_flags = (*immutable, *append_only) == (base.immutable, base.append_only);
    let differ = [
        (field::KIND, *file_type != base.file_type || !same_flags),
        (field::MODE, *mode != base.mode),
        (field::OWNER, (*uid, *gid) != (base.uid, base.gid)),
        (field::SIZE, *size != base.size),
        (field::MTIME, *mtime != base.mtime),
        (field::LINKS, *links != base.links),
        (field::DEVICE, *device != base.device),
        (field::TARGET, *target != base.target),
    ];
    let mut fields = 0;
    for (field, differs) in differ {
        fields |= if differs { field } else { 0 };
    }
    out.push(fields);
    let has = |field| fields & field != 0;
    if has(field::KIND) {
        let number = TYPES.iter().position(|known| known == file_type);
        let mut kind = u8::try_from(number.unwrap_or(0)).unwrap_or(0);
        kind |= if *immutable { IMMUTABLE } else { 0 };
        kind |= if *append_only { APPEND_ONLY } else { 0 };
        out.push(kind);
    }
    if has(field::MODE) {
        put(u64::from(*mode), out);
    }
    if has(field::OWNER) {
        put(u64::from(*uid), out);
        put(u64::from(*gid), out);
    }
    if has(field::SIZE) {
        put(*size, out);
    }
    if has(field::MTIME) {
        // A small number has few bytes on either side of zero.
        put(
            (mtime.seconds << 1 ^ mtime.seconds >> 63).cast_unsigned(),
            out,
        );
        put(u64::from(mtime.nanoseconds), out);
    }
    if has(field::LINKS) {
        put(u64::from(*links), out);
    }
    if has(field::DEVICE) {
        out.push(u8::from(device.is_some()));
        if let Some(Device { major, minor }) = device {
            put(u64::from(*major), out);
            put(u64::from(*minor), out);
        }
    }
    if has(field::TARGET) {
        out.push(u8::from(target.is_some()));
        if let Some(target) = target {
            put(target.as_bytes().len() as u64, out);
            out.extend_from_slice(target.as_bytes());
        }
    }
}

fn unpack(packed: &mut &[u8], base: &Attributes) -> Option<Attributes> {
    if byte(packed) != PRESENT {
        return None;
    }
    let mut side = base.clone();
    let fields = byte(packed);
    let has = |field| fields & field != 0;
    if has(field::KIND) {
        let kind = byte(packed);
        side.file_type = TYPES[usize::from(kind & 7)];
        side.immutable = kind & IMMUTABLE != 0;
        side.append_only = kind & APPEND_ONLY != 0;
    }
    if has(field::MODE) {
        side.mode = number(packed);
    }
    if has(field::OWNER) {
        side.uid = number(packed);
        side.gid = number(packed);
    }
    if has(field::SIZE) {
        side.size = number(packed);
    }
    if has(field::MTIME) {
        let seconds = number::<u64>(packed);
        side.mtime = Timestamp {
            seconds: (seconds >> 1).cast_signed() ^ -(seconds & 1).cast_signed(),
            nanoseconds: number(packed),
        };
    }
    if has(field::LINKS) {
        side.links = number(packed);
    }
    if has(field::DEVICE) {
        side.device = (byte(packed) != 0).then(|| Device {
            major: number(packed),
            minor: number(packed),
        });
    }
    if has(field::TARGET) {
        side.target = (byte(packed) != 0).then(|| {
            let length = number::<usize>(packed).min(packed.len());
            let (target, rest) = packed.split_at(length);
            *packed = rest;
            Bytes::from(target)
        });
    }
    Some(side)
}

/// Adds a number, seven bits a byte, the lowest first.
fn put(mut number: u64, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn byte(packed: &mut &[u8]) -> u8 {
    match packed.split_first() {
        Some((first, rest)) => {
            *packed = rest;
            *first
        }
        None => ABSENT,
    }
}

/// Takes a number off. It has the type that it was put in as, so that it fits.
fn number<N: TryFrom<u64> + Default>(packed: &mut &[u8]) -> N {
    let (mut number, mut shift) = (0, 0);
    loop {
        let next = byte(packed);
        number |= u64::from(next & 0x7f).unbounded_shl(shift);
        shift += 7;
        if next & 0x80 == 0 {
            return N::try_from(number).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_attributes() -> impl Strategy<Value = Attributes> {
        let target = prop::option::of(prop::collection::vec(any::<u8>(), 0..300));
        let device = prop::option::of((any::<u32>(), any::<u32>()));
        let numbers = (any::<u16>(), any::<u32>(), any::<u32>(), any::<u64>());
        let time = (any::<i64>(), any::<u32>(), any::<u32>());
        (
            prop::sample::select(&TYPES[..]),
            numbers,
            time,
            (device, target, any::<bool>(), any::<bool>()),
        )
            .prop_map(|(file_type, numbers, time, rest)| Attributes {
                file_type,
                mode: numbers.0,
                uid: numbers.1,
                gid: numbers.2,
                size: numbers.3,
                mtime: Timestamp {
                    seconds: time.0,
                    nanoseconds: time.1,
                },
                links: time.2,
                device: rest.0.map(|(major, minor)| Device { major, minor }),
                target: rest.1.map(Bytes::from),
                immutable: rest.2,
                append_only: rest.3,
            })
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(
            before in prop::option::of(any_attributes()),
            after in prop::option::of(any_attributes()),
            like in any::<bool>(),
        ) {
            // Most paths are on both sides, and differ in little.
            let after = match (&before, like) {
                (Some(before), true) => Some(Attributes { mode: 0o4755, ..before.clone() }),
                _ => after,
            };
            let sides = Sides::new(before.as_ref(), after.as_ref());
            prop_assert_eq!(sides.has_before(), before.is_some());
            prop_assert_eq!(sides.before(), before);
            prop_assert_eq!(sides.after(), after);
        }
    }

    #[test]
    fn an_ordinary_file_takes_little() {
        let before = Attributes {
            size: 40_000,
            mtime: Timestamp {
                seconds: 1_700_000_000,
                nanoseconds: 999_999_999,
            },
            ..PLAIN
        };
        let after = Attributes {
            mtime: Timestamp {
                seconds: 1_800_000_000,
                nanoseconds: 999_999_998,
            },
            ..before.clone()
        };
        let Sides(packed) = Sides::new(Some(&before), Some(&after));
        assert!(matches!(packed, Packed::Few { .. }), "{packed:?}");
        assert_eq!(size_of::<Sides>(), 32);
    }
}
