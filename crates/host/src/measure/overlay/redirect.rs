//! An absolute redirect, walked through the layers beneath as the kernel's lookup does
//! (`ovl_lookup_layer` and `ovl_check_redirect` in `fs/overlayfs/namei.c`).
//!
//! The directories on the way are not those of the merged tree: each layer is walked from its own
//! root, and what a directory on the way says there (a whiteout, `opaque`, a redirect of its own)
//! holds for the layers beneath it.

use rustix::io::Errno;

use super::marks::MarkReader;
use crate::fs::Dir;
use crate::measure::Trouble;

/// Where an absolute redirect leads, from one layer to the next.
#[derive(Debug)]
pub(super) struct Redirect {
    /// The path to look up in the next layer; begins with a slash.
    path: Vec<u8>,
    /// Whether a directory on the way hides every layer beneath.
    pub(super) stopped: bool,
}

impl Redirect {
    /// Begins with the value of the mark, which begins with a slash.
    pub(super) fn new(path: Vec<u8>) -> Self {
        Self {
            path,
            stopped: false,
        }
    }

    /// Takes over what an entry at the end of the path says: another path, or another name in the
    /// same directory.
    pub(super) fn follow(&mut self, redirect: &[u8]) {
        if redirect.first() == Some(&b'/') {
            self.path = redirect.to_vec();
            self.stopped = false;
            return;
        }
        let keep = self
            .path
            .iter()
            .rposition(|b| *b == b'/')
            .map_or(0, |at| at + 1);
        self.path.truncate(keep);
        self.path.extend_from_slice(redirect);
    }

    /// Walks one layer from its root. Returns the directory in which the last name is to be looked
    /// up, and that name; `None` when the layer has no such directory.
    pub(super) fn walk(
        &mut self,
        root: &Dir,
        marks: &mut MarkReader,
        marked: bool,
    ) -> Result<Option<(Dir, Vec<u8>)>, Trouble> {
        let mut dir = root.open_beneath(b".")?;
        // What is left is counted from the end: a redirect changes what stands before.
        let mut left = self.path.len().saturating_sub(1);
        loop {
            let from = self.path.len() - left;
            let rest = self.path.get(from..).unwrap_or_default();
            let Some(length) = rest.iter().position(|b| *b == b'/') else {
                return Ok((!rest.is_empty()).then(|| (dir, rest.to_vec())));
            };
            let (name, after) = rest.split_at(length);
            let stat = match dir.stat(name) {
                Ok(stat) => stat,
                Err(Errno::NOENT | Errno::NAMETOOLONG) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            };
            if !stat.file_type.has_entries() {
                // A whiteout, or a file over what the layers beneath have.
                self.stopped = true;
                return Ok(None);
            }
            let (name, after) = (name.to_vec(), after.to_vec());
            let child = match dir.child(&name) {
                Ok(child) => child,
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            };
            if marked {
                let marks = marks.of(&child, b"", &stat)?;
                if marks.opaque {
                    self.stopped = true;
                } else if let Some(redirect) = &marks.redirect {
                    if redirect.first() == Some(&b'/') {
                        self.stopped = false;
                        self.path = [redirect, &after[..]].concat();
                    } else {
                        self.path = [&self.path[..from], redirect, &after].concat();
                    }
                }
            }
            dir = child;
            left = after.len() - 1;
        }
    }
}
