//! The on-disk form of EROFS (kernel `fs/erofs/erofs_fs.h`), as far as images of metadata have it.
//!
//! All numbers are little-endian. Compression, chunks, several devices and what newer kernels added are
//! not decoded: an image that has such a feature is refused, and so is a file that is kept so.

use plimsoll_core::model::{Device, FileType, Timestamp};
use rustix::io::{Errno, Result};

use crate::fs::Stat;

/// Where the superblock stands, and how long it is.
pub(super) const SUPERBLOCK_AT: u64 = 1024;
pub(super) const SUPERBLOCK_LENGTH: usize = 128;

/// Inode numbers count in these.
const SLOT: u64 = 32;

/// Length of an extended inode, and of a compact one.
pub(super) const EXTENDED: usize = 64;
const COMPACT: usize = 32;

/// Length of what stands before an inode's own attributes, and of one entry's head.
const XATTRS_HEAD: usize = 12;
pub(super) const XATTR_HEAD: usize = 4;

/// Length of an entry of a directory without its name.
const DIRENT: usize = 12;

/// Longest name (`EROFS_NAME_LEN`).
const NAME_MAX: usize = 255;

/// What an image says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Superblock {
    /// Size of a block, as a power of two.
    block_bits: u8,
    root: u16,
    /// When compact inodes were changed.
    time: Timestamp,
    inodes_at: u32,
    shared_xattrs_at: u32,
}

/// Why an image is refused: one clause.
pub(super) type Refusal = &'static str;

impl Superblock {
    pub(super) fn decode(raw: &[u8; SUPERBLOCK_LENGTH]) -> std::result::Result<Self, Refusal> {
        const MAGIC: u32 = 0xe0f5_e1e2;
        /// Files may be kept in chunks. They are not read here.
        const CHUNKED_FILE: u32 = 4;
        if u32_at(raw, 0) != MAGIC {
            return Err("it is no EROFS image");
        }
        if u32_at(raw, 80) & !CHUNKED_FILE != 0 || u16_at(raw, 86) != 0 {
            return Err("it has features of EROFS that Plimsoll does not know");
        }
        // 512 bytes to 64 KiB; blocks of directories are as large.
        if !(9..=16).contains(&raw[12]) || raw[90] != 0 {
            return Err("its blocks have a size that EROFS does not have");
        }
        Ok(Self {
            block_bits: raw[12],
            root: u16_at(raw, 14),
            time: Timestamp {
                seconds: u64_at(raw, 24).cast_signed(),
                nanoseconds: u32_at(raw, 32),
            },
            inodes_at: u32_at(raw, 40),
            shared_xattrs_at: u32_at(raw, 44),
        })
    }

    pub(super) fn root(&self) -> u64 {
        self.root.into()
    }

    pub(super) fn block(&self) -> u64 {
        1 << self.block_bits
    }

    /// Returns where an inode stands.
    pub(super) fn inode_at(&self, number: u64) -> Result<u64> {
        let from = u64::from(self.inodes_at) << self.block_bits;
        let offset = number.checked_mul(SLOT);
        let at = offset.and_then(|offset| from.checked_add(offset));
        at.ok_or(DAMAGED)
    }

    /// Returns where an attribute stands that inodes share.
    pub(super) fn shared_xattr_at(&self, id: u32) -> u64 {
        (u64::from(self.shared_xattrs_at) << self.block_bits) + 4 * u64::from(id)
    }
}

/// Something contradicts itself.
pub(super) const DAMAGED: Errno = Errno::UCLEAN;

/// How the content of an inode is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// In blocks that follow each other.
    Plain,
    /// The same, but for what is left after whole blocks: that follows the inode.
    Inline,
    /// Not here, or in a form that is not decoded.
    Other,
}

/// An inode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inode {
    /// What it is. Its device number is for who read it to fill in.
    pub(super) stat: Stat,
    layout: Layout,
    /// The first block of its content.
    block: u32,
    /// Where its attributes begin, and their length.
    pub(super) xattrs: (u64, usize),
}

/// A part of the content of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) at: u64,
    pub(super) length: u64,
}

impl Inode {
    /// Decodes the inode of this number, of which `raw` is what stands `at` its place, to the end of the
    /// image where that is nearer than [`EXTENDED`].
    pub(super) fn decode(of: &Superblock, number: u64, at: u64, raw: &[u8]) -> Result<Self> {
        let format = u16_at(raw.get(..COMPACT).ok_or(DAMAGED)?, 0);
        if format >> 4 != 0 {
            return Err(Errno::OPNOTSUPP);
        }
        let extended = format & 1 != 0;
        let length = if extended { EXTENDED } else { COMPACT };
        let raw = raw.get(..length).ok_or(DAMAGED)?;
        let layout = match format >> 1 {
            0 => Layout::Plain,
            2 => Layout::Inline,
            _ => Layout::Other,
        };
        let mode = u16_at(raw, 4);
        let file_type = FileType::from_mode(mode.into()).ok_or(DAMAGED)?;
        let word = u32_at(raw, 16);
        let (size, uid, gid, links, mtime) = match extended {
            true => {
                let mtime = Timestamp {
                    seconds: u64_at(raw, 32).cast_signed(),
                    nanoseconds: u32_at(raw, 40),
                };
                let owner = (u32_at(raw, 24), u32_at(raw, 28));
                (u64_at(raw, 8), owner.0, owner.1, u32_at(raw, 44), mtime)
            }
            false => {
                let seconds = of.time.seconds.checked_add(u32_at(raw, 12).into());
                let mtime = Timestamp {
                    seconds: seconds.ok_or(DAMAGED)?,
                    ..of.time
                };
                let owner = (u16_at(raw, 24).into(), u16_at(raw, 26).into());
                let size = u32_at(raw, 8).into();
                (size, owner.0, owner.1, u16_at(raw, 6).into(), mtime)
            }
        };
        let xattrs = match u16_at(raw, 2) {
            0 => 0,
            words => XATTRS_HEAD + 4 * (usize::from(words) - 1),
        };
        let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
        Ok(Self {
            stat: Stat {
                file_type,
                mode: mode & 0o7777,
                uid,
                gid,
                size,
                mtime,
                ctime: mtime,
                links,
                device: is_device.then(|| device(word)),
                ino: number,
                dev: (0, 0),
                immutable: false,
                append_only: false,
            },
            layout,
            block: word,
            xattrs: (at.checked_add(length as u64).ok_or(DAMAGED)?, xattrs),
        })
    }

    /// Returns where the content is: what fills blocks, and what follows the inode.
    ///
    /// # Errors
    /// `EOPNOTSUPP` when it is kept in another form.
    pub(super) fn content(&self, of: &Superblock) -> Result<[Run; 2]> {
        let (block, size) = (of.block(), self.stat.size);
        let blocks_at = u64::from(self.block) << of.block_bits;
        let tail = match self.layout {
            Layout::Other => return Err(Errno::OPNOTSUPP),
            Layout::Plain => 0,
            // Whole blocks alone have the last one here as well.
            Layout::Inline => match size % block {
                0 => size.min(block),
                rest => rest,
            },
        };
        let (after, length) = self.xattrs;
        let tail_at = after.checked_add(length as u64).ok_or(DAMAGED)?;
        if tail_at % block + tail > block {
            return Err(DAMAGED);
        }
        Ok([
            Run {
                at: blocks_at,
                length: size - tail,
            },
            Run {
                at: tail_at,
                length: tail,
            },
        ])
    }
}

/// Decodes the numbers of a device node (`new_decode_dev`).
fn device(word: u32) -> Device {
    Device {
        major: word >> 8 & 0xfff,
        minor: word & 0xff | word >> 12 & 0xf_ff00,
    }
}

/// The entries of a directory.
#[derive(Debug)]
pub(super) struct Entries {
    content: Vec<u8>,
    /// Sorted by name; `.` and `..` are left out.
    entries: Vec<Entry>,
    /// The inodes of all of them, sorted.
    inodes: Vec<u64>,
}

/// An entry: its name in the content, and its inode.
#[derive(Debug, Clone, Copy)]
struct Entry {
    at: u32,
    length: u8,
    inode: u64,
}

impl Entries {
    /// Decodes the content of the directory of this inode, which is one of the directory `parent`: a tree
    /// in which a directory had several places would have no end.
    pub(super) fn decode(
        of: &Superblock,
        content: Vec<u8>,
        inode: u64,
        parent: u64,
    ) -> Result<Self> {
        let block = usize::try_from(of.block()).map_err(|_| DAMAGED)?;
        let mut entries = Vec::new();
        let mut dots = [None; 2];
        for (n, part) in content.chunks(block).enumerate() {
            for entry in in_block(part) {
                let (from, to, inode) = entry?;
                let name = part.get(from..to).ok_or(DAMAGED)?;
                let dot = match name {
                    b"." => 0,
                    b".." => 1,
                    _ if name.is_empty() || name.len() > NAME_MAX => return Err(DAMAGED),
                    _ if name.iter().any(|b| [0, b'/'].contains(b)) => return Err(DAMAGED),
                    _ => {
                        entries.push(Entry {
                            at: u32::try_from(n * block + from).map_err(|_| DAMAGED)?,
                            length: u8::try_from(name.len()).map_err(|_| DAMAGED)?,
                            inode,
                        });
                        continue;
                    }
                };
                if dots[dot].replace(inode).is_some() {
                    return Err(DAMAGED);
                }
            }
        }
        if dots != [Some(inode), Some(parent)] {
            return Err(DAMAGED);
        }
        let mut inodes: Vec<u64> = entries.iter().map(|entry| entry.inode).collect();
        inodes.sort_unstable();
        let mut all = Self {
            content,
            entries,
            inodes,
        };
        let content = &all.content;
        all.entries
            .sort_by(|a, b| a.name(content).cmp(b.name(content)));
        let same = |pair: &[Entry]| pair[0].name(content) == pair[1].name(content);
        match all.entries.windows(2).any(same) {
            true => Err(DAMAGED),
            false => Ok(all),
        }
    }

    /// Returns the inode of a name.
    pub(super) fn inode(&self, name: &[u8]) -> Option<u64> {
        let by_name = |entry: &Entry| entry.name(&self.content).cmp(name);
        let found = self.entries.binary_search_by(by_name).ok()?;
        self.entries.get(found).map(|entry| entry.inode)
    }

    /// How many names an inode has here.
    pub(super) fn names_of(&self, inode: u64) -> usize {
        let to = self.inodes.partition_point(|other| *other <= inode);
        to - self.inodes.partition_point(|other| *other < inode)
    }

    /// Returns the names from the one with this number on.
    pub(super) fn names(&self, from: usize) -> impl Iterator<Item = &[u8]> {
        let rest = self.entries.get(from..).unwrap_or_default();
        rest.iter().map(|entry| entry.name(&self.content))
    }
}

impl Entry {
    fn name<'c>(&self, content: &'c [u8]) -> &'c [u8] {
        let from = usize::try_from(self.at).unwrap_or(usize::MAX);
        let rest = content.get(from..).unwrap_or_default();
        rest.get(..self.length.into()).unwrap_or_default()
    }
}

/// Returns the entries of a block: where each name begins and ends, and the inode. The first name stands
/// where the entries end.
fn in_block(block: &[u8]) -> impl Iterator<Item = Result<(usize, usize, u64)>> {
    let head = |n: usize| block.get(n * DIRENT..(n + 1) * DIRENT);
    let name_at = move |n: usize| head(n).map(|head| usize::from(u16_at(head, 8)));
    let names_from = name_at(0).unwrap_or(0);
    let count = match names_from {
        0 => 1,
        from => from / DIRENT,
    };
    (0..count).map(move |n| {
        let from = name_at(n).ok_or(DAMAGED)?;
        if names_from == 0 || names_from % DIRENT != 0 || from >= block.len() {
            return Err(DAMAGED);
        }
        let to = match n + 1 < count {
            true => name_at(n + 1).ok_or(DAMAGED)?,
            // The last one reaches to the end, or to the first zero.
            false => {
                let rest = block.get(from..).unwrap_or_default();
                from + rest.iter().position(|b| *b == 0).unwrap_or(rest.len())
            }
        };
        match from < to {
            true => Ok((from, to, u64_at(head(n).ok_or(DAMAGED)?, 0))),
            false => Err(DAMAGED),
        }
    })
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Xattr {
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// The head of an attribute.
#[derive(Debug, Clone, Copy)]
pub(super) struct XattrHead {
    name: usize,
    prefix: u8,
    value: usize,
}

impl XattrHead {
    pub(super) fn decode(raw: &[u8]) -> Result<Self> {
        let raw = raw.get(..XATTR_HEAD).ok_or(DAMAGED)?;
        Ok(Self {
            name: raw[0].into(),
            prefix: raw[1],
            value: u16_at(raw, 2).into(),
        })
    }

    /// Returns how much follows.
    pub(super) fn length(&self) -> usize {
        self.name + self.value
    }

    /// Decodes what follows; `None` for a name that the kernel does not show.
    pub(super) fn follow(&self, raw: &[u8]) -> Result<Option<Xattr>> {
        let (suffix, value) = raw.split_at_checked(self.name).ok_or(DAMAGED)?;
        let prefix: &[u8] = match self.prefix {
            1 => b"user.",
            2 => b"system.posix_acl_access",
            3 => b"system.posix_acl_default",
            4 => b"trusted.",
            6 => b"security.",
            // From a table, which needs a feature.
            128.. => return Err(Errno::OPNOTSUPP),
            _ => return Ok(None),
        };
        if suffix.contains(&0) {
            return Err(DAMAGED);
        }
        Ok(Some(Xattr {
            name: [prefix, suffix].concat(),
            value: value.get(..self.value).ok_or(DAMAGED)?.to_vec(),
        }))
    }
}

/// Splits an inode's attributes: those of its own, and the ids of those that it shares.
pub(super) fn xattrs(raw: &[u8]) -> Result<(Vec<Xattr>, Vec<u32>)> {
    if raw.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let (head, rest) = raw.split_at_checked(XATTRS_HEAD).ok_or(DAMAGED)?;
    let ids = rest.get(..4 * usize::from(head[4])).ok_or(DAMAGED)?;
    let mut rest = rest.get(ids.len()..).unwrap_or_default();
    let mut own = Vec::new();
    while !rest.is_empty() {
        let head = XattrHead::decode(rest)?;
        let follows = rest.get(XATTR_HEAD..).unwrap_or_default();
        let follows = follows.get(..head.length()).ok_or(DAMAGED)?;
        own.extend(head.follow(follows)?);
        let length = (XATTR_HEAD + head.length()).next_multiple_of(4);
        rest = rest.get(length..).ok_or(DAMAGED)?;
    }
    Ok((own, ids.chunks_exact(4).map(|id| u32_at(id, 0)).collect()))
}

fn u16_at(raw: &[u8], at: usize) -> u16 {
    bytes_at(raw, at).map_or(0, u16::from_le_bytes)
}

fn u32_at(raw: &[u8], at: usize) -> u32 {
    bytes_at(raw, at).map_or(0, u32::from_le_bytes)
}

fn u64_at(raw: &[u8], at: usize) -> u64 {
    bytes_at(raw, at).map_or(0, u64::from_le_bytes)
}

/// Bytes of what was seen to be long enough.
fn bytes_at<const N: usize>(raw: &[u8], at: usize) -> Option<[u8; N]> {
    raw.get(at..)?.first_chunk().copied()
}
