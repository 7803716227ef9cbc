//! A stored baseline: what one tree was, with a digest of every regular file.
//!
//! One JSON object a line: first what it is, then the entries in the order of their paths. It is
//! what a comparison by digests has to keep for each image, and what the metadata engines do without.

use std::io::Write;

use plimsoll_core::model::{Algorithm, Bytes, Device, Digest, FileType, RootPath};
use serde::{Deserialize, Serialize};

use super::Readable;
use super::pool::{Job, Pool, Subject};
use crate::measure::{Listing, Names, Side, Trouble};

/// Version of the format.
pub(super) const VERSION: u32 = 1;

/// Why a baseline cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A line is not what it should be.
    #[error("line {line}: {why}")]
    Malformed {
        /// Number of the line, from 1 on.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A path of the tree cannot be read, so that it has no baseline.
    #[error("{path}: {why}")]
    Unreadable {
        /// The path.
        path: RootPath,
        /// Why not.
        why: String,
    },
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Header {
    pub(super) plimsoll_baseline: u32,
    pub(super) algorithm: Algorithm,
}

/// Every other line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) path: RootPath,
    #[serde(rename = "type")]
    pub(super) file_type: FileType,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) size: u64,
    pub(super) mtime: (i64, u32),
    pub(super) links: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<Device>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<Bytes>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) immutable: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) append_only: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) xattrs: Vec<(Bytes, Bytes)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<Digest>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_false(b: &bool) -> bool {
    !*b
}

/// Writes the baseline of one side of a pair, hashing with `jobs` threads, and returns how many
/// bytes it has.
///
/// # Errors
/// [`BaselineError`] when anything of the tree cannot be read: a baseline with holes is none.
pub fn write<P: Readable>(
    pair: &mut P,
    side: Side,
    algorithm: Algorithm,
    jobs: usize,
    out: &mut dyn Write,
) -> Result<u64, BaselineError> {
    let mut writer = Writer {
        pair,
        side,
        algorithm,
        pool: Pool::new(jobs),
        lines: Vec::new(),
    };
    let root = writer
        .pair
        .root(side)
        .map_err(|trouble| unreadable(&RootPath::root(), trouble))?;
    writer.tree(RootPath::root(), root)?;
    writer.settle(true)?;
    let mut written = line(
        out,
        &Header {
            plimsoll_baseline: VERSION,
            algorithm,
        },
    )?;
    writer.lines.sort_by(|a, b| a.path.cmp(&b.path));
    for entry in &writer.lines {
        written += line(out, entry)?;
    }
    out.flush()?;
    Ok(written)
}

struct Writer<'p, P: Readable> {
    pair: &'p mut P,
    side: Side,
    algorithm: Algorithm,
    pool: Pool,
    /// The entries so far; a ticket is an index.
    lines: Vec<Line>,
}

impl<P: Readable> Writer<'_, P> {
    fn tree(&mut self, path: RootPath, root: P::Node) -> Result<(), BaselineError> {
        self.entry(path.clone(), &root)?;
        let mut stack = vec![(path, root)];
        while let Some((path, dir)) = stack.pop() {
            let mut names = Names::default();
            let mut cursor = P::Cursor::default();
            loop {
                names.clear();
                let listing = Listing::All {
                    side: self.side,
                    dir: &dir,
                };
                let more = self
                    .pair
                    .list(listing, &mut cursor, &mut names)
                    .map_err(|t| unreadable(&path, t))?;
                for index in 0..names.len() {
                    let name = names.get(index).unwrap_or_default();
                    let child = path.join(name);
                    let node = self
                        .pair
                        .lookup(self.side, &dir, name)
                        .map_err(|t| unreadable(&child, t))?;
                    if let Some(node) = node
                        && self.entry(child.clone(), &node)?.has_entries()
                    {
                        stack.push((child, node));
                    }
                }
                if !more {
                    break;
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: RootPath, node: &P::Node) -> Result<FileType, BaselineError> {
        let failed = |trouble| unreadable(&path, trouble);
        let attributes = self.pair.attributes(self.side, node).map_err(failed)?;
        let xattrs = self.pair.xattrs(self.side, node).map_err(failed)?;
        let file_type = attributes.file_type;
        if file_type == FileType::File {
            let (fd, _) = self.pair.open(self.side, node).map_err(failed)?;
            let ticket = self.lines.len() as u64;
            self.pool.submit(Job {
                ticket,
                algorithm: self.algorithm,
                subjects: vec![Subject::File(fd)],
            });
        }
        self.lines.push(Line {
            path,
            file_type,
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            size: attributes.size,
            mtime: (attributes.mtime.seconds, attributes.mtime.nanoseconds),
            links: attributes.links,
            device: attributes.device,
            target: attributes.target,
            immutable: attributes.immutable,
            append_only: attributes.append_only,
            xattrs,
            digest: None,
        });
        self.settle(false)?;
        Ok(file_type)
    }

    fn settle(&mut self, all: bool) -> Result<(), BaselineError> {
        while let Some(done) = self.pool.next(all) {
            let index = usize::try_from(done.ticket).unwrap_or(usize::MAX);
            if let Some(line) = self.lines.get_mut(index) {
                let digests = done
                    .digests
                    .map_err(|trouble| unreadable(&line.path, trouble))?;
                line.digest = digests.first().copied();
            }
        }
        Ok(())
    }
}

fn unreadable(path: &RootPath, trouble: Trouble) -> BaselineError {
    BaselineError::Unreadable {
        path: path.clone(),
        why: trouble.0,
    }
}

pub(super) fn line(out: &mut dyn Write, value: &impl Serialize) -> Result<u64, BaselineError> {
    let mut text = serde_json::to_vec(value).map_err(std::io::Error::from)?;
    text.push(b'\n');
    out.write_all(&text)?;
    Ok(text.len() as u64)
}
