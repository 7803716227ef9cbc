//! A stored baseline: what one tree was, with a digest of every regular file.
//!
//! One JSON object a line: first what it is, then the entries in the order of their paths. It is
//! what a comparison by digests has to keep for each image, and what the metadata engines do without.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use plimsoll_core::model::{
    Algorithm, Attributes, Bytes, Device, DiffId, Digest, FileType, RootPath, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::Readable;
use super::pool::{Job, Pool, Subject};
use crate::fs::Stat;
use crate::measure::{Content, Listing, Names, Pair, Side, Trouble};

/// Version of the format.
const VERSION: u32 = 1;

/// Longest line that is read, in bytes: a path, a target and 64 KiB of attributes in base64.
const LINE_LIMIT: u64 = 4 << 20;

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
struct Header {
    plimsoll_baseline: u32,
    algorithm: Algorithm,
}

/// Every other line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    path: RootPath,
    #[serde(rename = "type")]
    file_type: FileType,
    mode: u16,
    uid: u32,
    gid: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    size: u64,
    mtime: (i64, u32),
    links: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<Device>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<Bytes>,
    #[serde(default, skip_serializing_if = "is_false")]
    immutable: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    append_only: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<(Bytes, Bytes)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_false(b: &bool) -> bool {
    !*b
}

/// An object of a stored baseline.
#[derive(Debug)]
pub struct Entry {
    attributes: Attributes,
    xattrs: Vec<(Bytes, Bytes)>,
    digest: Option<Digest>,
    children: BTreeMap<Box<[u8]>, Rc<Entry>>,
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

fn line(out: &mut dyn Write, value: &impl Serialize) -> Result<u64, BaselineError> {
    let mut text = serde_json::to_vec(value).map_err(std::io::Error::from)?;
    text.push(b'\n');
    out.write_all(&text)?;
    Ok(text.len() as u64)
}

/// A stored baseline as the image's side, and a tree as the container's.
#[derive(Debug)]
pub struct BaselinePair<P> {
    tree: P,
    root: Rc<Entry>,
    algorithm: Algorithm,
    pool: Pool,
    next_ticket: u64,
    bytes_read: u64,
}

/// An object of one of the two.
#[derive(Debug)]
pub enum Node<N> {
    /// Of the baseline.
    Stored(Rc<Entry>),
    /// Of the tree.
    Live(N),
}

impl<P: Readable> BaselinePair<P> {
    /// Reads a baseline; the tree's own image side is not looked at.
    ///
    /// # Errors
    /// [`BaselineError`] when it cannot be read or is not a baseline.
    pub fn read(stored: &mut dyn BufRead, tree: P, jobs: usize) -> Result<Self, BaselineError> {
        let malformed = |line, why: String| BaselineError::Malformed { line, why };
        let mut number = 0;
        let mut next = |number: &mut u64| -> Result<Option<Vec<u8>>, BaselineError> {
            let mut text = Vec::new();
            *number += 1;
            std::io::Read::take(&mut *stored, LINE_LIMIT).read_until(b'\n', &mut text)?;
            Ok((!text.is_empty()).then_some(text))
        };
        let header = next(&mut number)?.unwrap_or_default();
        let header: Header = serde_json::from_slice(&header).map_err(|_| {
            malformed(
                1,
                "this is no Plimsoll baseline: write one with --write-baseline".into(),
            )
        })?;
        if header.plimsoll_baseline != VERSION {
            return Err(malformed(
                1,
                format!(
                    "version {} is not known, only {VERSION}",
                    header.plimsoll_baseline
                ),
            ));
        }
        let mut builder = Builder::default();
        while let Some(text) = next(&mut number)? {
            let line: Line =
                serde_json::from_slice(&text).map_err(|e| malformed(number, e.to_string()))?;
            builder.add(line).map_err(|why| malformed(number, why))?;
        }
        let root = builder
            .root
            .ok_or_else(|| malformed(number, "it has no root".into()))?;
        Ok(Self {
            tree,
            root: Rc::new(root),
            algorithm: header.algorithm,
            pool: Pool::new(jobs),
            next_ticket: 0,
            bytes_read: 0,
        })
    }
}

/// Builds the tree from entries in the order of their paths.
#[derive(Default)]
struct Builder {
    root: Option<Entry>,
    last: Option<RootPath>,
}

impl Builder {
    fn add(&mut self, line: Line) -> Result<(), String> {
        if self.last.as_ref().is_some_and(|last| *last >= line.path) {
            return Err(format!("{} is not after the entry before it", line.path));
        }
        if (line.file_type == FileType::File) != line.digest.is_some() {
            return Err(format!(
                "{} must have a digest if, and only if, it is a regular file",
                line.path
            ));
        }
        let depth = line.path.components().count();
        let name: Box<[u8]> = line.path.components().last().unwrap_or_default().into();
        let parents: Vec<Box<[u8]>> = line
            .path
            .components()
            .take(depth.saturating_sub(1))
            .map(Into::into)
            .collect();
        let entry = Entry {
            attributes: Attributes {
                file_type: line.file_type,
                mode: line.mode,
                uid: line.uid,
                gid: line.gid,
                size: line.size,
                mtime: Timestamp {
                    seconds: line.mtime.0,
                    nanoseconds: line.mtime.1,
                },
                links: line.links,
                device: line.device,
                target: line.target,
                immutable: line.immutable,
                append_only: line.append_only,
            },
            xattrs: line.xattrs,
            digest: line.digest,
            children: BTreeMap::new(),
        };
        if depth == 0 {
            self.root = Some(entry);
        } else {
            let mut at = self
                .root
                .as_mut()
                .ok_or("the first entry is not the root")?;
            for parent in parents {
                at = at
                    .children
                    .get_mut(&parent)
                    .and_then(Rc::get_mut)
                    .ok_or_else(|| format!("{} has no parent directory in it", line.path))?;
            }
            at.children.insert(name, Rc::new(entry));
        }
        self.last = Some(line.path);
        Ok(())
    }
}

impl<P: Readable> Pair for BaselinePair<P> {
    type Node = Node<P::Node>;
    type Cursor = (bool, P::Cursor);
    const KEEPS_COPIES: bool = false;

    fn root(&mut self, side: Side) -> Result<Self::Node, Trouble> {
        match side {
            Side::Image => Ok(Node::Stored(Rc::clone(&self.root))),
            Side::Container => self.tree.root(side).map(Node::Live),
        }
    }

    fn list(
        &mut self,
        what: Listing<'_, Self::Node>,
        cursor: &mut Self::Cursor,
        out: &mut Names,
    ) -> Result<bool, Trouble> {
        let (stored, live) = match what {
            Listing::Suspects { image, container } => (Some(image), Some(container)),
            Listing::All {
                dir: dir @ Node::Stored(_),
                ..
            } => (Some(dir), None),
            Listing::All { dir, .. } => (None, Some(dir)),
        };
        let known = match stored {
            Some(Node::Stored(entry)) => Some(entry),
            _ => None,
        };
        if !cursor.0 {
            cursor.0 = true;
            for name in known.iter().flat_map(|entry| entry.children.keys()) {
                out.push(name);
            }
        }
        let Some(Node::Live(dir)) = live else {
            return Ok(false);
        };
        let mut names = Names::default();
        let more = self.tree.list(
            Listing::All {
                side: Side::Container,
                dir,
            },
            &mut cursor.1,
            &mut names,
        )?;
        for name in (0..names.len()).filter_map(|index| names.get(index)) {
            if !known.is_some_and(|entry| entry.children.contains_key(name)) {
                out.push(name);
            }
        }
        Ok(more)
    }

    fn lookup(
        &mut self,
        side: Side,
        dir: &Self::Node,
        name: &[u8],
    ) -> Result<Option<Self::Node>, Trouble> {
        Ok(match dir {
            Node::Stored(entry) => entry
                .children
                .get(name)
                .map(|child| Node::Stored(Rc::clone(child))),
            Node::Live(dir) => self.tree.lookup(side, dir, name)?.map(Node::Live),
        })
    }

    fn proven_same(&self, _: &Self::Node, _: &Self::Node) -> bool {
        false
    }

    fn identity(&self, node: &Self::Node) -> (u64, u64) {
        match node {
            Node::Stored(entry) => (0, Rc::as_ptr(entry) as u64),
            Node::Live(node) => self.tree.identity(node),
        }
    }

    fn attributes(&mut self, side: Side, node: &Self::Node) -> Result<Attributes, Trouble> {
        match node {
            Node::Stored(entry) => Ok(entry.attributes.clone()),
            Node::Live(node) => self.tree.attributes(side, node),
        }
    }

    fn xattrs(&mut self, side: Side, node: &Self::Node) -> Result<Vec<(Bytes, Bytes)>, Trouble> {
        match node {
            Node::Stored(entry) => Ok(entry.xattrs.clone()),
            Node::Live(node) => self.tree.xattrs(side, node),
        }
    }

    fn same_content(
        &mut self,
        image: &Self::Node,
        container: &Self::Node,
    ) -> Result<Content, Trouble> {
        let (Node::Stored(stored), Node::Live(node)) = (image, container) else {
            return Err(Trouble("the sides are not a baseline and a tree".into()));
        };
        let digest = stored
            .digest
            .ok_or_else(|| Trouble("the baseline has no digest of it".into()))?;
        let (fd, _): (OwnedFd, Stat) = self.tree.open(Side::Container, node)?;
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let subjects = vec![Subject::Known(digest), Subject::File(fd)];
        self.pool.submit(Job {
            ticket,
            algorithm: self.algorithm,
            subjects,
        });
        Ok(Content::Pending(ticket))
    }

    fn settle(&mut self, all: bool) -> Option<(u64, Result<Content, Trouble>)> {
        let done = self.pool.next(all)?;
        self.bytes_read += done.bytes_read;
        Some((done.ticket, done.content()))
    }

    fn renamed_from(&mut self, _: &Self::Node, _: &RootPath) -> Option<RootPath> {
        None
    }

    fn origin(&self, _: &Self::Node) -> Option<DiffId> {
        None
    }

    fn cost(&self) -> (u64, u64) {
        (self.tree.cost().0, self.bytes_read)
    }
}
