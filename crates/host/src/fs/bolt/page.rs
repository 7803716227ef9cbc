//! The pages of a bbolt database (`go.etcd.io/bbolt`, `internal/common/{meta,page,bucket}.go`).
//!
//! Numbers are in the byte order of the machine that wrote them, which is little-endian on every
//! machine that Plimsoll runs on.

use std::ops::Range;
use std::rc::Rc;

use super::{BoltError, Bucket, damaged};

/// Bytes of a meta page that mean something: the header of every page, and the meta data.
pub(super) const META_LENGTH: usize = HEADER + 64;

/// Sizes that a page can have: those of the memory pages of machines, and what else bbolt looks for.
pub(super) const PAGE_SIZES: [u64; 7] = [1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];

/// Flag of an entry that holds a bucket.
pub(super) const BUCKET: u32 = 1;

const HEADER: usize = 16;
const ELEMENT: usize = 16;
/// Bytes before the page of a bucket that is kept in a value: the number of its root, which is none, and
/// a counter.
const BUCKET_HEADER: usize = 16;

const BRANCH_PAGE: u16 = 0x01;
const LEAF_PAGE: u16 = 0x02;
const META_PAGE: u16 = 0x04;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// A meta page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_size: u64,
    /// The page that the root of the root bucket is on.
    pub(super) root: u64,
    /// How many pages there are: all numbers are below.
    pub(super) pages: u64,
    pub(super) transaction: u64,
}

impl Meta {
    /// Decodes a meta page; `None` when it is none, or not whole.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let flags = u16_at(bytes, 8)?;
        let meta = bytes.get(HEADER..META_LENGTH)?;
        let page_size = u64::from(u32_at(meta, 8)?);
        let whole = flags == META_PAGE
            && u32_at(meta, 0)? == MAGIC
            && u32_at(meta, 4)? == VERSION
            && PAGE_SIZES.contains(&page_size)
            && u64_at(meta, 56)? == checksum(meta.get(..56)?);
        Some(Self {
            page_size,
            root: u64_at(meta, 16)?,
            pages: u64_at(meta, 40)?,
            transaction: u64_at(meta, 48)?,
        })
        .filter(|_| whole)
    }
}

/// FNV-1a of 64 bits.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Bytes of a page, without a copy of them.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    whole: Rc<[u8]>,
    range: Range<usize>,
}

impl Slice {
    pub(super) fn whole(bytes: Rc<[u8]>) -> Self {
        Self {
            range: 0..bytes.len(),
            whole: bytes,
        }
    }

    /// Returns the bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.whole.get(self.range.clone()).unwrap_or_default()
    }

    fn part(&self, from: usize, length: usize) -> Option<Self> {
        let from = self.range.start.checked_add(from)?;
        let end = from.checked_add(length)?;
        (end <= self.range.end).then(|| Self {
            whole: Rc::clone(&self.whole),
            range: from..end,
        })
    }
}

/// What a page of a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Keys and the pages beneath.
    Branch,
    /// Keys and values.
    Leaf,
}

/// A page of a tree.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    bytes: Slice,
    kind: Kind,
    count: usize,
}

/// Returns how many pages a page flows over into.
pub(super) fn overflow(bytes: &[u8]) -> Option<u64> {
    u32_at(bytes, 12).map(u64::from)
}

impl Page {
    /// Decodes a page, which must have this number when it has one of its own.
    pub(super) fn decode(bytes: Slice, number: Option<u64>) -> Result<Self, BoltError> {
        let of = |what: &str| match number {
            Some(number) => BoltError::Damaged(format!("page {number} {what}")),
            None => BoltError::Damaged(format!("a page within a value {what}")),
        };
        let header = || {
            let header = bytes.bytes();
            Some((
                u64_at(header, 0)?,
                u16_at(header, 8)?,
                usize::from(u16_at(header, 10)?),
            ))
        };
        let (told, flags, count) = header().ok_or_else(|| of("is too short"))?;
        if number.is_some_and(|number| number != told) {
            return Err(of("says that it is another one"));
        }
        let kind = match flags {
            BRANCH_PAGE => Kind::Branch,
            LEAF_PAGE => Kind::Leaf,
            _ => return Err(of("is no page of a tree")),
        };
        if bytes.bytes().len() < HEADER + count * ELEMENT || kind == Kind::Branch && count == 0 {
            return Err(of("cannot have as many entries as it says"));
        }
        Ok(Self { bytes, kind, count })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the key of an entry.
    pub(super) fn key(&self, at: usize) -> Result<Slice, BoltError> {
        let key = || {
            let (element, start) = self.element(at)?;
            let (position, length) = match self.kind {
                Kind::Branch => (u32_at(element, 0)?, u32_at(element, 4)?),
                Kind::Leaf => (u32_at(element, 4)?, u32_at(element, 8)?),
            };
            self.part(start, position, length)
        };
        key().ok_or_else(outside)
    }

    /// Returns the page beneath an entry of a branch.
    pub(super) fn child(&self, at: usize) -> Result<u64, BoltError> {
        let child = self.element(at).and_then(|(element, _)| u64_at(element, 8));
        child.ok_or_else(outside)
    }

    /// Returns flags and value of an entry of a leaf.
    pub(super) fn leaf_value(&self, at: usize) -> Result<(u32, Slice), BoltError> {
        let value = || {
            let (element, start) = self.element(at)?;
            let position = u32_at(element, 4)?.checked_add(u32_at(element, 8)?)?;
            let value = self.part(start, position, u32_at(element, 12)?)?;
            Some((u32_at(element, 0)?, value))
        };
        value().ok_or_else(outside)
    }

    /// Returns an entry and where it begins.
    fn element(&self, at: usize) -> Option<(&[u8], usize)> {
        let start = HEADER.checked_add(at.checked_mul(ELEMENT)?)?;
        let element = self.bytes.bytes().get(start..start.checked_add(ELEMENT)?)?;
        Some((element, start))
    }

    /// Positions count from the beginning of the entry that has them.
    fn part(&self, start: usize, position: u32, length: u32) -> Option<Slice> {
        let from = start.checked_add(usize::try_from(position).ok()?)?;
        self.bytes.part(from, usize::try_from(length).ok()?)
    }
}

/// Decodes the value of an entry that is a bucket.
pub(super) fn bucket(value: Slice) -> Result<Bucket, BoltError> {
    match u64_at(value.bytes(), 0) {
        Some(0) => {
            let length = value.bytes().len().saturating_sub(BUCKET_HEADER);
            let page = value.part(BUCKET_HEADER, length).ok_or_else(outside)?;
            let page = Page::decode(page, None)?;
            match page.kind {
                Kind::Leaf => Ok(Bucket::Inline(page)),
                Kind::Branch => Err(damaged("a page within a value has pages beneath")),
            }
        }
        Some(root) if value.bytes().len() >= BUCKET_HEADER => Ok(Bucket::Pages(root)),
        _ => Err(damaged("a bucket in it is too short")),
    }
}

fn outside() -> BoltError {
    damaged("an entry of a page lies outside of it")
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}
