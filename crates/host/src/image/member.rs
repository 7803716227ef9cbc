//! The members of a layer's tar stream, by their headers.
//!
//! Read as Go's `archive/tar` reads them, with which every runtime unpacks layers: what a header says
//! here must be what was made of it there.

use std::io::{BufRead, Error, ErrorKind, Read, Result, Seek, SeekFrom};

use plimsoll_core::model::{Bytes, Device, RootPath, Timestamp};
use tar::{EntryType, Header};

use super::pax;

/// Bytes of a block.
const BLOCK: u64 = 512;

/// Longest extended header or name, in bytes (`maxSpecialFileSize` of Go's `archive/tar`).
const EXTENSION_MAX: u64 = 1 << 20;

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) path: RootPath,
    pub(super) kind: Kind,
    /// Permission bits.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Modification time; most headers know it in whole seconds.
    pub(super) mtime: Timestamp,
    /// Whether it is known more exactly.
    pub(super) is_exact: bool,
    /// Extended attributes, sorted by name.
    pub(super) xattrs: Vec<(Bytes, Bytes)>,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file of so many bytes.
    File(u64),
    /// Another name of a file.
    HardLink(RootPath),
    /// A symbolic link to this target.
    Symlink(Bytes),
    Directory,
    CharDevice(Device),
    BlockDevice(Device),
    Fifo,
}

/// What extended headers say of the next member.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<Timestamp>,
    xattrs: Vec<(Bytes, Bytes)>,
}

/// The content of a member, as far as it was not read.
pub(super) struct Content<'s, S> {
    stream: &'s mut S,
    left: u64,
}

impl<S: BufRead> Content<'_, S> {
    /// Gives the next portion of it to `with`; false at its end.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn next(&mut self, with: impl FnOnce(&[u8])) -> Result<bool> {
        if self.left == 0 {
            return Ok(false);
        }
        let buffer = self.stream.fill_buf()?;
        if buffer.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let length = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        with(buffer.get(..length).unwrap_or_default());
        self.stream.consume(length);
        self.left -= length as u64;
        Ok(true)
    }
}

/// Gives each member of a stream, with its content, of which as much may be read as is wanted; stops at the
/// end of the archive, where the stream may go on.
///
/// # Errors
/// Those of reading and of `each`; `InvalidData` for what no runtime could have unpacked.
pub(super) fn each<S: BufRead + Seek>(
    stream: &mut S,
    mut each: impl FnMut(Member, &mut Content<'_, S>) -> Result<()>,
) -> Result<()> {
    let mut extension = Extension::default();
    loop {
        let mut block = [0; BLOCK as usize];
        if !read_block(stream, &mut block)? || block.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let header = Header::from_byte_slice(&block);
        if !has_its_checksum(header) {
            return Err(invalid("the checksum of a header is wrong"));
        }
        let stored = header.entry_size().map_err(|_| invalid("a size is none"))?;
        match header.entry_type() {
            EntryType::XHeader => extension.add_pax(&read_extension(stream, stored)?)?,
            EntryType::GNULongName => extension.name = Some(read_text(stream, stored)?),
            EntryType::GNULongLink => extension.link = Some(read_text(stream, stored)?),
            EntryType::XGlobalHeader => {
                read_extension(stream, stored)?;
            }
            kind => {
                let extension = std::mem::take(&mut extension);
                let size = match kind {
                    // As in Go's `isHeaderOnlyType`.
                    EntryType::Link
                    | EntryType::Symlink
                    | EntryType::Char
                    | EntryType::Block
                    | EntryType::Directory
                    | EntryType::Fifo => 0,
                    _ => extension.size.unwrap_or(stored),
                };
                let mut content = Content {
                    stream: &mut *stream,
                    left: size,
                };
                if let Some(member) = member(header, extension, size)? {
                    each(member, &mut content)?;
                }
                let left = content.left;
                skip(stream, size, left)?;
            }
        }
    }
}

impl Extension {
    fn add_pax(&mut self, bytes: &[u8]) -> Result<()> {
        for record in pax::records(bytes) {
            let (key, value) = record.ok_or_else(|| invalid("an extended header is malformed"))?;
            let number = || -> Result<u64> {
                let text = std::str::from_utf8(value).ok();
                text.and_then(|text| text.parse().ok())
                    .ok_or_else(|| invalid("a number of an extended header is none"))
            };
            let id = |number: u64| u32::try_from(number).map_err(|_| invalid("an id is none"));
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number()?),
                b"uid" => self.uid = Some(id(number()?)?),
                b"gid" => self.gid = Some(id(number()?)?),
                b"mtime" => {
                    let time = time(value).ok_or_else(|| invalid("a time is none"))?;
                    self.mtime = Some(time);
                }
                _ => {
                    if key.starts_with(b"GNU.sparse.") {
                        return Err(invalid("it has a sparse member, which cannot be rebuilt"));
                    }
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.push((name.into(), value.into()));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns what a header and its extensions say; `None` for a member of a kind that is not unpacked.
fn member(header: &Header, extension: Extension, size: u64) -> Result<Option<Member>> {
    let name = extension
        .name
        .unwrap_or_else(|| header.path_bytes().into_owned());
    let path = path(&name)?;
    let link = || {
        let own = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
        extension.link.clone().or_else(own).unwrap_or_default()
    };
    let device = || -> Result<Device> {
        let number = |number: Result<Option<u32>>| {
            number
                .ok()
                .flatten()
                .ok_or_else(|| invalid("a device has no numbers"))
        };
        Ok(Device {
            major: number(header.device_major())?,
            minor: number(header.device_minor())?,
        })
    };
    let kind = match header.entry_type() {
        // A name that ends so is a directory's, in old archives.
        EntryType::Regular if name.ends_with(b"/") && header.as_bytes()[156] == 0 => {
            Kind::Directory
        }
        EntryType::Regular | EntryType::Continuous => Kind::File(size),
        EntryType::Link => Kind::HardLink(self::path(&link())?),
        EntryType::Symlink => Kind::Symlink(link().into()),
        EntryType::Directory => Kind::Directory,
        EntryType::Char => Kind::CharDevice(device()?),
        EntryType::Block => Kind::BlockDevice(device()?),
        EntryType::Fifo => Kind::Fifo,
        EntryType::GNUSparse => {
            return Err(invalid("it has a sparse member, which cannot be rebuilt"));
        }
        _ => return Ok(None),
    };
    let number = |number: Result<u64>| number.map_err(|_| invalid("a number of a header is none"));
    let id = |n: Result<u64>| u32::try_from(number(n)?).map_err(|_| invalid("an id is none"));
    let mut xattrs = extension.xattrs;
    xattrs.sort();
    Ok(Some(Member {
        path,
        kind,
        mode: header
            .mode()
            .map_err(|_| invalid("a mode is none"))
            .map(|mode| u16::try_from(mode & 0o7777).unwrap_or_default())?,
        uid: extension.uid.map_or_else(|| id(header.uid()), Ok)?,
        gid: extension.gid.map_or_else(|| id(header.gid()), Ok)?,
        is_exact: extension.mtime.is_some_and(|time| time.nanoseconds > 0),
        mtime: match extension.mtime {
            Some(time) => time,
            None => Timestamp {
                seconds: number(header.mtime())?.cast_signed(),
                nanoseconds: 0,
            },
        },
        xattrs,
    }))
}

/// Returns the path that the name of a member means.
///
/// # Errors
/// `InvalidData` when it leads out, or is longer than any path.
pub(super) fn path(name: &[u8]) -> Result<RootPath> {
    let parts = name
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".");
    let mut path = Vec::with_capacity(name.len() + 1);
    for part in parts {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if path.is_empty() {
        return Ok(RootPath::root());
    }
    RootPath::parse(&path).map_err(|_| invalid("the name of a member leads out of the layer"))
}

/// Returns the time that decimal digits mean, with a fraction or none, before 1970 or after.
fn time(value: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    Some(match whole.starts_with('-') && nanoseconds > 0 {
        false => Timestamp {
            seconds,
            nanoseconds,
        },
        true => Timestamp {
            seconds: seconds.checked_sub(1)?,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

fn has_its_checksum(header: &Header) -> bool {
    const FIELD: std::ops::Range<usize> = 148..156;
    let bytes = header.as_bytes().iter().enumerate();
    let sum: u32 = bytes
        .map(|(at, byte)| match FIELD.contains(&at) {
            true => u32::from(b' '),
            false => u32::from(*byte),
        })
        .sum();
    header.cksum().is_ok_and(|stored| stored == sum)
}

/// Reads a block; false at the end of the stream.
fn read_block(stream: &mut impl Read, block: &mut [u8]) -> Result<bool> {
    match stream.read(block)? {
        0 => Ok(false),
        length => {
            stream.read_exact(block.get_mut(length..).unwrap_or_default())?;
            Ok(true)
        }
    }
}

fn read_extension(stream: &mut impl Read, size: u64) -> Result<Vec<u8>> {
    if size > EXTENSION_MAX {
        return Err(invalid("an extended header is too long"));
    }
    let whole = usize::try_from(size.next_multiple_of(BLOCK)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; whole];
    stream.read_exact(&mut bytes)?;
    bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    Ok(bytes)
}

/// Reads a long name, which a NUL byte ends.
fn read_text(stream: &mut impl Read, size: u64) -> Result<Vec<u8>> {
    let mut text = read_extension(stream, size)?;
    let end = text.iter().position(|byte| *byte == 0);
    text.truncate(end.unwrap_or(text.len()));
    Ok(text)
}

/// Passes over what is left of the content of a member, and what fills its last block.
fn skip(stream: &mut impl Seek, size: u64, left: u64) -> Result<()> {
    let whole = size
        .checked_next_multiple_of(BLOCK)
        .and_then(|whole| i64::try_from(whole - (size - left)).ok())
        .ok_or_else(|| invalid("a size is none"))?;
    stream.seek(SeekFrom::Current(whole)).map(drop)
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}
