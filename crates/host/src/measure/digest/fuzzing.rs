//! What must hold of a stored baseline.
#![expect(
    clippy::unwrap_used,
    reason = "a property that does not hold is a panic: that is how a fuzzer is told"
)]

use std::rc::Rc;

use plimsoll_core::fuzzing::says_plainly;
use plimsoll_core::model::{FileType, RootPath};

use super::baseline::{self, BaselineError, Header, Line, VERSION};
use super::stored::{Entry, Stored};
use crate::measure::walk::PATH_LIMIT;

/// A text is a tree that can be written and read again, or is refused with the number of a line.
pub fn baseline(data: &[u8]) {
    let stored = match Stored::read(&mut &*data) {
        Ok(stored) => stored,
        Err(BaselineError::Malformed { line, why }) => {
            let lines = data.split(|b| *b == b'\n').count() as u64;
            assert!((1..=lines + 1).contains(&line), "{line} of {lines}");
            return says_plainly(&why);
        }
        Err(error) => panic!("{error}"),
    };
    let mut lines = Vec::new();
    flatten(&RootPath::root(), &stored.root, &mut lines);
    lines.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(lines.len() < data.split(|b| *b == b'\n').count().max(2));
    for line in &lines {
        let is_file = line.file_type == FileType::File;
        assert_eq!(line.digest.is_some(), is_file);
        assert!(
            line.digest
                .is_none_or(|d| d.algorithm() == stored.algorithm)
        );
        assert!(line.path.as_bytes().len() <= PATH_LIMIT);
        let parent = line.path.parent();
        assert!(parent.is_none_or(|parent| {
            let above = lines.iter().find(|line| line.path == parent);
            above.unwrap().file_type.has_entries()
        }));
    }
    let text = written(&stored, &lines);
    let again = Stored::read(&mut text.as_slice()).unwrap();
    let mut second = Vec::new();
    flatten(&RootPath::root(), &again.root, &mut second);
    second.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(written(&again, &second), text);
}

fn written(stored: &Stored, lines: &[Line]) -> Vec<u8> {
    let mut out = Vec::new();
    let header = Header {
        plimsoll_baseline: VERSION,
        algorithm: stored.algorithm,
    };
    baseline::line(&mut out, &header).unwrap();
    for line in lines {
        baseline::line(&mut out, line).unwrap();
    }
    out
}

fn flatten(path: &RootPath, entry: &Entry, out: &mut Vec<Line>) {
    let attributes = &entry.attributes;
    out.push(Line {
        path: path.clone(),
        file_type: attributes.file_type,
        mode: attributes.mode,
        uid: attributes.uid,
        gid: attributes.gid,
        size: attributes.size,
        mtime: (attributes.mtime.seconds, attributes.mtime.nanoseconds),
        links: attributes.links,
        device: attributes.device,
        target: attributes.target.clone(),
        immutable: attributes.immutable,
        append_only: attributes.append_only,
        xattrs: entry.xattrs.clone(),
        digest: entry.digest,
    });
    for (name, child) in &entry.children {
        assert_eq!(Rc::strong_count(child), 1);
        flatten(&path.join(name), child, out);
    }
}
