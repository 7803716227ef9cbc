//! Reading a bbolt database while its owner may be writing it: no lock, no mapping, nothing written.
//!
//! A file of pages. Two of them are meta pages, written in turn by each commit; the one with the
//! higher transaction whose checksum holds names the root of a tree that is never changed in place
//! (`go.etcd.io/bbolt`, `db.go` and `tx.go`). Pages that a commit sets free are written over only by the
//! transaction after it, so what was read is one state of the database as long as the newest
//! transaction is the same before and after. Nothing in the file is believed: every bound is checked,
//! and what is read and looked at has an end.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod page;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;

use self::page::{BUCKET, Kind, META_LENGTH, Meta, PAGE_SIZES, Page};
use super::RECORD_LIMIT;
use super::source::Source;

pub(crate) use self::page::Slice;

/// Times that a database is read anew because it changed meanwhile.
const TRIES: usize = 50;

/// Bytes of pages that are read at most for one question, and entries that are looked at.
const BYTES_MAX: u64 = 1 << 30;
const ENTRIES_MAX: u64 = 8 << 20;

/// Longest page with those that it flows over into, in bytes: the values on it are records.
const PAGE_MAX: u64 = RECORD_LIMIT as u64;

/// Bytes of pages that are remembered: those of one way from the root to a value, many times over.
const REMEMBERED_MAX: u64 = 8 << 20;

/// Deepest tree: with the smallest fan-out that a writer leaves, this many levels are more keys than fit
/// into any file.
const DEPTH_MAX: usize = 40;

/// Why a database cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BoltError {
    /// It cannot be read at all.
    #[error("{0}")]
    Io(String),
    /// It is no whole database: one clause.
    #[error("{0}")]
    Damaged(String),
    /// It was written to faster than it could be read.
    #[error("it changes faster than it can be read")]
    Busy,
}

/// Answers a question by one state of the database in `file`. The question is asked again when the
/// database changed meanwhile, so it must have no effects.
///
/// # Errors
/// [`BoltError`], and what the question itself returns.
pub(crate) fn read<T>(
    file: &OwnedFd,
    question: impl Fn(&View<'_>) -> Result<T, BoltError>,
) -> Result<T, BoltError> {
    ask(file, question)
}

fn ask<T>(
    source: &dyn Source,
    question: impl Fn(&View<'_>) -> Result<T, BoltError>,
) -> Result<T, BoltError> {
    for _ in 0..TRIES {
        let meta = match newest(source) {
            Ok(meta) => meta,
            // Both may have been caught half written.
            Err(BoltError::Damaged(_)) => newest(source)?,
            Err(error) => return Err(error),
        };
        let answer = question(&View::new(source, meta));
        if newest(source)?.transaction == meta.transaction {
            return answer;
        }
    }
    Err(BoltError::Busy)
}

/// Returns the newest of the meta pages that are whole.
fn newest(source: &dyn Source) -> Result<Meta, BoltError> {
    let at = |offset: u64| -> Result<Option<Meta>, BoltError> {
        let mut buffer = [0; META_LENGTH];
        let length = source.read_at(&mut buffer, offset).map_err(io)?;
        Ok(buffer.get(..length).and_then(Meta::decode))
    };
    let first = at(0)?;
    // Without the first the size of its page is not known: the second is where it would be.
    let second = match first {
        Some(meta) => at(meta.page_size)?,
        None => {
            let mut found = None;
            for size in PAGE_SIZES {
                found = found.or(at(size)?.filter(|meta| meta.page_size == size));
            }
            found
        }
    };
    let whole = [first, second].into_iter().flatten();
    whole
        .max_by_key(|meta| meta.transaction)
        .ok_or_else(|| damaged("it has no whole meta page: it is no bbolt database, or damaged"))
}

fn io(errno: rustix::io::Errno) -> BoltError {
    BoltError::Io(std::io::Error::from(errno).to_string())
}

fn damaged(why: &str) -> BoltError {
    BoltError::Damaged(why.to_owned())
}

/// One state of a database.
pub(crate) struct View<'s> {
    source: &'s dyn Source,
    meta: Meta,
    pages: RefCell<HashMap<u64, Page>>,
    /// Bytes of those that are remembered, and of all that were read.
    remembered: Cell<u64>,
    bytes: Cell<u64>,
    entries: Cell<u64>,
}

/// A bucket: keys with values or buckets in them.
#[derive(Debug, Clone)]
pub(crate) enum Bucket {
    /// Its tree has pages of its own: the number of the root.
    Pages(u64),
    /// Its only page is the value that it is kept in.
    Inline(Page),
}

/// What a key leads to.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// Bytes.
    Value(Slice),
    /// More keys.
    Bucket(Bucket),
}

impl<'s> View<'s> {
    fn new(source: &'s dyn Source, meta: Meta) -> Self {
        Self {
            source,
            meta,
            pages: RefCell::default(),
            remembered: Cell::new(0),
            bytes: Cell::new(0),
            entries: Cell::new(0),
        }
    }

    /// Returns the bucket that everything is in.
    pub(crate) fn root(&self) -> Bucket {
        Bucket::Pages(self.meta.root)
    }

    /// Returns the bucket that a path of names leads to; `None` where there is none.
    ///
    /// # Errors
    /// [`BoltError`].
    pub(crate) fn bucket(
        &self,
        from: &Bucket,
        path: &[&[u8]],
    ) -> Result<Option<Bucket>, BoltError> {
        let mut bucket = from.clone();
        for name in path {
            match self.get(&bucket, name)? {
                Some(Entry::Bucket(next)) => bucket = next,
                Some(Entry::Value(_)) | None => return Ok(None),
            }
        }
        Ok(Some(bucket))
    }

    /// Returns the value of a key; `None` where there is none.
    ///
    /// # Errors
    /// [`BoltError`].
    pub(crate) fn value(&self, bucket: &Bucket, key: &[u8]) -> Result<Option<Slice>, BoltError> {
        Ok(match self.get(bucket, key)? {
            Some(Entry::Value(value)) => Some(value),
            Some(Entry::Bucket(_)) | None => None,
        })
    }

    /// Returns what a key of a bucket leads to.
    ///
    /// # Errors
    /// [`BoltError`].
    pub(crate) fn get(&self, bucket: &Bucket, key: &[u8]) -> Result<Option<Entry>, BoltError> {
        let mut page = self.root_page(bucket)?;
        for _ in 0..DEPTH_MAX {
            self.spend_entries(1)?;
            let at = self.last_not_after(&page, key)?;
            match page.kind() {
                Kind::Branch => {
                    // A key before the first one can only be beneath the first.
                    page = self.page(page.child(at.unwrap_or(0))?)?;
                }
                Kind::Leaf => {
                    let Some(at) = at else { return Ok(None) };
                    return match page.key(at)?.bytes() == key {
                        true => self.entry(&page, at).map(Some),
                        false => Ok(None),
                    };
                }
            }
        }
        Err(damaged("its tree is too deep"))
    }

    /// Gives each key of a bucket and what it leads to, in their order.
    ///
    /// # Errors
    /// [`BoltError`], and what `each` returns.
    pub(crate) fn each(
        &self,
        bucket: &Bucket,
        each: &mut dyn FnMut(Slice, Entry) -> Result<(), BoltError>,
    ) -> Result<(), BoltError> {
        let root = self.root_page(bucket)?;
        self.each_beneath(&root, 0, &mut HashSet::new(), each)
    }

    fn each_beneath(
        &self,
        page: &Page,
        depth: usize,
        seen: &mut HashSet<u64>,
        each: &mut dyn FnMut(Slice, Entry) -> Result<(), BoltError>,
    ) -> Result<(), BoltError> {
        if depth >= DEPTH_MAX {
            return Err(damaged("its tree is too deep"));
        }
        for at in 0..page.count() {
            self.spend_entries(1)?;
            match page.kind() {
                Kind::Leaf => each(page.key(at)?, self.entry(page, at)?)?,
                Kind::Branch => {
                    let child = page.child(at)?;
                    if !seen.insert(child) {
                        return Err(BoltError::Damaged(format!(
                            "page {child} is in its tree more than once"
                        )));
                    }
                    self.each_beneath(&self.page(child)?, depth + 1, seen, each)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the last entry of a page whose key is not after `key`.
    fn last_not_after(&self, page: &Page, key: &[u8]) -> Result<Option<usize>, BoltError> {
        let (mut low, mut high) = (0, page.count());
        while low < high {
            self.spend_entries(1)?;
            let middle = low + (high - low) / 2;
            match page.key(middle)?.bytes() <= key {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low.checked_sub(1))
    }

    fn entry(&self, page: &Page, at: usize) -> Result<Entry, BoltError> {
        let (flags, value) = page.leaf_value(at)?;
        if flags & BUCKET == 0 {
            return Ok(Entry::Value(value));
        }
        page::bucket(value).map(Entry::Bucket)
    }

    fn root_page(&self, bucket: &Bucket) -> Result<Page, BoltError> {
        match bucket {
            Bucket::Pages(number) => self.page(*number),
            Bucket::Inline(page) => Ok(page.clone()),
        }
    }

    /// Returns a page of a tree, with those that it flows over into.
    fn page(&self, number: u64) -> Result<Page, BoltError> {
        if let Some(page) = self.pages.borrow().get(&number) {
            return Ok(page.clone());
        }
        let missing = || BoltError::Damaged(format!("page {number} is not in it"));
        // Two meta pages come before all others.
        if number < 2 || number >= self.meta.pages {
            return Err(missing());
        }
        let size = self.meta.page_size;
        let offset = number.checked_mul(size).ok_or_else(missing)?;
        let mut bytes = self.bytes_at(offset, size)?;
        let more = page::overflow(&bytes).ok_or_else(missing)?;
        if more > 0 {
            if more >= self.meta.pages - number {
                return Err(missing());
            }
            let rest = more.checked_mul(size).ok_or_else(missing)?;
            if rest > PAGE_MAX {
                return Err(BoltError::Damaged(format!(
                    "page {number} is longer than {PAGE_MAX} bytes"
                )));
            }
            bytes.extend(self.bytes_at(offset + size, rest)?);
        }
        let length = bytes.len() as u64;
        let page = Page::decode(Slice::whole(bytes.into()), Some(number))?;
        if self.remembered.get() + length > REMEMBERED_MAX {
            self.pages.borrow_mut().clear();
            self.remembered.set(0);
        }
        self.remembered.set(self.remembered.get() + length);
        self.pages.borrow_mut().insert(number, page.clone());
        Ok(page)
    }

    fn bytes_at(&self, offset: u64, length: u64) -> Result<Vec<u8>, BoltError> {
        let spent = self.bytes.get().saturating_add(length);
        self.bytes.set(spent);
        let length = usize::try_from(length).ok().filter(|_| spent <= BYTES_MAX);
        let length = length.ok_or_else(|| damaged("it is longer than can be read"))?;
        // A file that claims more than it has must not take the memory for it.
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let before = bytes.len();
            bytes.resize(length.min(before + (1 << 20)), 0);
            let wanted = bytes.len() - before;
            let at = offset.saturating_add(before as u64);
            let part = bytes.get_mut(before..).unwrap_or_default();
            if self.source.read_at(part, at).map_err(io)? != wanted {
                return Err(damaged("it ends too early"));
            }
        }
        Ok(bytes)
    }

    fn spend_entries(&self, count: u64) -> Result<(), BoltError> {
        self.entries.set(self.entries.get() + count);
        match self.entries.get() <= ENTRIES_MAX {
            true => Ok(()),
            false => Err(damaged("it has more entries than can be looked at")),
        }
    }
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

impl Entry {
    /// Returns the bucket that it is, if it is one.
    pub(crate) fn into_bucket(self) -> Option<Bucket> {
        match self {
            Self::Bucket(bucket) => Some(bucket),
            Self::Value(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
