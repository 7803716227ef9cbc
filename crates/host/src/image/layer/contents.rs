//! Which files differ, where the digest of a rebuilt stream does not agree.

use plimsoll_core::model::{Aspect, ChangeKind, Gap};

use super::{Check, bare};
use crate::fs::read_at;
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
            if stat.size != size || self.changed.contains(&path) {
                continue;
            }
            let mut checksum = Checksum::default();
            let mut buffer = vec![0; 128 << 10];
            let mut at = 0;
            loop {
                match read_at(&fd, &mut buffer, at) {
                    Ok(0) => break,
                    Ok(read) => {
                        checksum.update(buffer.get(..read).unwrap_or_default());
                        at += read as u64;
                    }
                    Err(errno) => {
                        let gap = Gap::new(path.as_bytes(), Trouble::from(errno).0);
                        self.recorder.gap(gap);
                        break;
                    }
                }
            }
            if checksum.finish() != expected {
                let mut change = bare(&path, ChangeKind::Changed);
                change.aspects.insert(Aspect::Content);
                change.after = Some(Box::new(stat.attributes(None)));
                self.record(change);
            }
        }
    }
}
