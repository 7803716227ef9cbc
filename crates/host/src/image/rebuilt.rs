//! A layer's tar stream, rebuilt from tar-split's records and the files of the layer.

use std::collections::VecDeque;
use std::io::{Read, Result};
use std::os::fd::OwnedFd;

use super::stream::Pieces;
use super::tar_split::{Record, Records};
use super::tree::Tree;
use crate::fs::read_at;

/// The pieces of a rebuilt stream.
pub(super) struct Rebuilt<'t, R: Read> {
    records: Records<R>,
    tree: &'t Tree,
    segment: VecDeque<u8>,
    file: Option<Open>,
}

/// A file whose content comes next.
struct Open {
    /// `None` when it cannot be read: zeros stand for it then, so that what follows is at its place.
    fd: Option<OwnedFd>,
    size: u64,
    at: u64,
}

impl<'t, R: Read> Rebuilt<'t, R> {
    pub(super) fn new(records: Records<R>, tree: &'t Tree) -> Self {
        Self {
            records,
            tree,
            segment: VecDeque::new(),
            file: None,
        }
    }
}

impl<R: Read> Pieces for Rebuilt<'_, R> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while let Some(space) = buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
            if let Some(file) = &mut self.file {
                filled += file.fill(space);
                if file.at == file.size {
                    self.file = None;
                }
            } else if !self.segment.is_empty() {
                // Never an error: it is memory.
                filled += self.segment.read(space)?;
            } else {
                match self.records.next()? {
                    None => break,
                    Some(Record::Segment(bytes)) => self.segment = bytes.into(),
                    Some(Record::File { size: 0, .. }) => {}
                    Some(Record::File { name, size, .. }) => {
                        // What is in the way is told where its header is held against it.
                        let fd = self.tree.open(&name).ok().map(|(fd, _)| fd);
                        self.file = Some(Open { fd, size, at: 0 });
                    }
                }
            }
        }
        Ok(filled)
    }
}

impl Open {
    /// Fills a buffer with what comes next of the file, and with zeros where it has ended too early.
    fn fill(&mut self, space: &mut [u8]) -> usize {
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
        let length = space.len().min(left);
        let space = space.get_mut(..length).unwrap_or_default();
        let read = match &self.fd {
            Some(fd) => read_at(fd, space, self.at).unwrap_or(0),
            None => 0,
        };
        space.get_mut(read..).unwrap_or_default().fill(0);
        self.at += length as u64;
        length
    }
}
