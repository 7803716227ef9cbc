//! A stored baseline in the place of the image.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_core::model::{
    Algorithm, Attributes, Bytes, DiffId, Digest, FileType, RootPath, Timestamp, escape,
};

use super::Readable;
use super::baseline::{BaselineError, Header, Line, VERSION};
use super::pool::{Contents, Subject};
use crate::fs::Stat;
use crate::measure::walk::PATH_LIMIT;
use crate::measure::{Content, Listing, Names, Pair, Settled, Side, Trouble};

/// Longest line that is read, in bytes: a path, a target and 64 KiB of attributes in base64.
const LINE_LIMIT: u64 = 4 << 20;

/// An object of a stored baseline.
#[derive(Debug)]
pub struct Entry {
    pub(super) attributes: Attributes,
    pub(super) xattrs: Vec<(Bytes, Bytes)>,
    pub(super) digest: Option<Digest>,
    pub(super) children: BTreeMap<Box<[u8]>, Rc<Entry>>,
}

impl Drop for Entry {
    /// Takes the tree down level by level: how deep it is was a container's choice, and the stack is not.
    fn drop(&mut self) {
        let mut todo: Vec<Rc<Self>> = std::mem::take(&mut self.children).into_values().collect();
        while let Some(child) = todo.pop() {
            if let Ok(mut child) = Rc::try_unwrap(child) {
                todo.extend(std::mem::take(&mut child.children).into_values());
            }
        }
    }
}

/// A stored baseline as the image's side, and a tree as the container's.
#[derive(Debug)]
pub struct BaselinePair<P> {
    tree: P,
    root: Rc<Entry>,
    contents: Contents,
}

/// An object of one of the two.
#[derive(Debug)]
pub enum Node<N> {
    /// Of the baseline.
    Stored(Rc<Entry>),
    /// Of the tree.
    Live(N),
}

/// A baseline as it was read.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) algorithm: Algorithm,
    pub(super) root: Entry,
}

impl Stored {
    /// Reads a baseline.
    pub(super) fn read(stored: &mut dyn BufRead) -> Result<Self, BaselineError> {
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
                "this is no Plimsoll baseline: plimsoll bench --keep DIR writes them".into(),
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
        let mut builder = Builder::new(header.algorithm);
        while let Some(text) = next(&mut number)? {
            let line: Line = serde_json::from_slice(&text)
                .map_err(|e| malformed(number, escape(e.to_string().as_bytes()).into_owned()))?;
            builder.add(line).map_err(|why| malformed(number, why))?;
        }
        let root = builder
            .root
            .ok_or_else(|| malformed(number, "it has no root".into()))?;
        Ok(Self {
            algorithm: header.algorithm,
            root,
        })
    }
}

impl<P: Readable> BaselinePair<P> {
    /// Reads a baseline; the tree's own image side is not looked at.
    ///
    /// # Errors
    /// [`BaselineError`] when it cannot be read or is not a baseline.
    pub fn read(stored: &mut dyn BufRead, tree: P, jobs: usize) -> Result<Self, BaselineError> {
        let Stored { algorithm, root } = Stored::read(stored)?;
        Ok(Self {
            tree,
            root: Rc::new(root),
            contents: Contents::new(algorithm, jobs),
        })
    }
}

/// Builds the tree from entries in the order of their paths.
struct Builder {
    algorithm: Algorithm,
    root: Option<Entry>,
    last: Option<RootPath>,
}

impl Builder {
    fn new(algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            root: None,
            last: None,
        }
    }

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
        if line.digest.is_some_and(|d| d.algorithm() != self.algorithm) {
            return Err(format!(
                "{} has a digest that is not of {}",
                line.path,
                self.algorithm.as_str()
            ));
        }
        if line.path.as_bytes().len() > PATH_LIMIT {
            return Err(format!("a path is longer than {PATH_LIMIT} bytes"));
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
                    .filter(|parent| parent.attributes.file_type.has_entries())
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

    fn doubt(&mut self, _: Option<&Self::Node>, container: &Self::Node) -> Option<Trouble> {
        match container {
            Node::Stored(_) => None,
            Node::Live(node) => self.tree.doubt(None, node),
        }
    }

    fn doubt_alone(&mut self, container: &Self::Node) -> Option<Trouble> {
        match container {
            Node::Stored(_) => None,
            Node::Live(node) => self.tree.doubt_alone(node),
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
        Ok(self
            .contents
            .compare(Subject::Known(digest), Subject::File(fd)))
    }

    fn settle(&mut self, all: bool) -> Option<Settled<Self::Node>> {
        self.contents.settle(all)
    }

    fn renamed_from(&mut self, _: &Self::Node, _: &RootPath) -> Option<RootPath> {
        None
    }

    fn origin(&mut self, _: &Self::Node) -> Option<Arc<DiffId>> {
        None
    }

    fn cost(&self) -> (u64, u64) {
        (self.tree.cost().0, self.contents.bytes_read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_tree_goes_without_a_deep_stack() {
        let line = br#"{"path":"/","type":"directory","mode":493,"uid":0,"gid":0,"mtime":[0,0],"links":1}"#;
        let header = br#"{"plimsollBaseline":1,"algorithm":"sha256"}"#;
        let text = [&header[..], b"\n", line].concat();
        let entry = || Stored::read(&mut text.as_slice()).unwrap().root;
        let mut tree = entry();
        for _ in 0..50_000 {
            let mut above = entry();
            above.children.insert((*b"a").into(), Rc::new(tree));
            tree = above;
        }
        drop(tree);
    }

    #[test]
    fn lines_that_make_no_tree() {
        let header = r#"{"plimsollBaseline":1,"algorithm":"sha256"}"#;
        let line = |path: &str, kind: &str, more: &str| {
            format!(
                r#"{{"path":"{path}","type":"{kind}","mode":420,"uid":0,"gid":0,"mtime":[0,0],"links":1{more}}}"#
            )
        };
        let digest = |name: &str, length: usize| {
            let hex = "0a".repeat(length);
            format!(r#","digest":"{name}:{hex}""#)
        };
        let root = line("/", "directory", "");
        let long = format!("/{}", "a".repeat(PATH_LIMIT));
        for (lines, why) in [
            (vec![], "it has no root"),
            (
                vec![line("/a", "fifo", "")],
                "the first entry is not the root",
            ),
            (
                vec![root.clone(), line("/f", "file", &digest("md5", 16))],
                "a digest that is not of sha256",
            ),
            (
                vec![root.clone(), line("/f", "file", "")],
                "must have a digest",
            ),
            (
                vec![
                    root.clone(),
                    line("/a", "fifo", ""),
                    line("/a/b", "fifo", ""),
                ],
                "/a/b has no parent directory",
            ),
            (vec![root.clone(), line(&long, "fifo", "")], "longer than"),
            (vec![line("/", "\\u001b", "")], "unknown variant `\\x1b`"),
        ] {
            let text = [vec![header.to_owned()], lines].concat().join("\n");
            let told = Stored::read(&mut text.as_bytes()).unwrap_err().to_string();
            assert!(told.contains(why), "{told}");
        }
    }
}
