//! Which files differ, where the digest of a rebuilt stream does not agree.

use std::os::fd::OwnedFd;

use plimsoll_core::model::{Aspect, ChangeKind, Gap, RootPath, Sides};

use super::{Check, bare};
use crate::fs::{Stat, read_at};
use crate::image::checksum::Checksum;
use crate::image::member;
use crate::image::tar_split::Record;
use crate::layers::stored::TarSplit;
use crate::measure::Trouble;

impl Check<'_> {
    /// Names the files whose content is not what the records say.
    pub(super) fn contents(&mut self, records: &TarSplit) {
        let Ok(mut records) = records.open() else {
            // That was told already.
            return;
        };
        while let Ok(Some(record)) = records.next() {
            let Record::File {
                name,
                size,
                checksum: Some(expected),
            } = record
            else {
                continue;
            };
            let (Ok(path), Ok((fd, stat))) = (member::path(&name), self.tree.open(&name)) else {
                continue;
            };
            // Another length is another content, and was told.
            if stat.size != size {
                continue;
            }
            match checksum(&fd) {
                Ok(found) if found == expected => {}
                Ok(_) => self.other_content(path, &stat),
                Err(errno) => {
                    let gap = Gap::new(path.as_bytes(), Trouble::from(errno).0);
                    self.recorder.gap(gap);
                }
            }
        }
    }

    /// Tells that a file has another content, beside what was told of it already.
    fn other_content(&mut self, path: RootPath, stat: &Stat) {
        if let Some(change) = self.differing.get_mut(&path) {
            if change.kind == ChangeKind::Changed {
                change.aspects.insert(Aspect::Content);
            }
            return;
        }
        let mut change = bare(&path, ChangeKind::Changed);
        change.aspects.insert(Aspect::Content);
        change.sides = Sides::new(None, Some(&stat.attributes(None)));
        self.record(change);
    }
}

fn checksum(fd: &OwnedFd) -> rustix::io::Result<[u8; 8]> {
    let mut checksum = Checksum::default();
    let mut buffer = vec![0; 128 << 10];
    let mut at = 0;
    loop {
        match read_at(fd, &mut buffer, at)? {
            0 => return Ok(checksum.finish()),
            read => {
                checksum.update(buffer.get(..read).unwrap_or_default());
                at += read as u64;
            }
        }
    }
}
