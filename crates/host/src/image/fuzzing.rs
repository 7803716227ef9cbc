//! What must hold of blobs, of the records of tar-split, and of the headers of a layer's tar stream.

use std::io::{BufReader, Cursor};

use plimsoll_core::fuzzing::says_plainly;
use plimsoll_core::model::{Algorithm, Digest, RootPath};
use sha2::{Digest as _, Sha256};

use super::blob::Pieced;
use super::member::{self, Kind};
use super::pax;
use super::stream::{Pieces, Stream};
use super::tar_split::{Record, Records};
use crate::fs::{IdRange, Owners};

/// The gzip stream of tar-split's records: what is read are records or a refusal, and no more bytes than
/// were stored could have made.
pub fn image_records(data: &[u8]) {
    /// A hostile gzip stream is a thousand times as long as it looks; this is enough to see it end.
    const MANY: usize = 10_000;
    let mut records = Records::new(data);
    for _ in 0..MANY {
        match records.next() {
            Ok(Some(Record::Segment(_))) => {}
            Ok(Some(Record::File { name, .. })) => {
                if let Ok(path) = member::path(&name) {
                    check_path(&path);
                }
            }
            Ok(None) => return,
            Err(error) => return says_plainly(&error.to_string()),
        }
    }
}

/// A tar stream: each member has a path that stays inside, and all of the stream is hashed whatever it
/// holds.
pub fn image_members(data: &[u8]) {
    let mut stream = Stream::new(Bytes(data), &|_| {});
    let each = member::each(&mut stream, |member, content| {
        check_path(&member.path);
        if let Kind::HardLink(target) = &member.kind {
            check_path(target);
        }
        assert!(member.mode <= 0o7777 && member.mtime.nanoseconds < 1_000_000_000);
        assert!(member.xattrs.is_sorted());
        // Of each other content half is read: whether it is or not changes nothing.
        if member.path.as_bytes().len() % 2 == 0 {
            content.next(|portion| assert!(!portion.is_empty()))?;
        }
        Ok(())
    });
    if let Err(error) = each {
        says_plainly(&error.to_string());
    }
    if let Ok((digest, length, _)) = stream.finish() {
        let expected = Digest::new(Algorithm::Sha256, &Sha256::digest(data));
        assert_eq!((Some(digest), length), (expected, data.len() as u64));
    }
    // The records of an extended header are parts of it, none of them twice.
    let told: usize = pax::records(data)
        .flatten()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    assert!(told <= data.len());
    // As a file that can be sought anywhere in, it has the same members.
    let count = |result: std::io::Result<()>, n: usize| (result.is_ok(), n);
    let mut members = [0, 0];
    let first = member::each(&mut Cursor::new(data), |_, _| {
        members[0] += 1;
        Ok(())
    });
    let mut stream = Stream::new(Bytes(data), &|_| {});
    let second = member::each(&mut stream, |_, content| {
        members[1] += 1;
        while content.next(|_| {})? {}
        Ok(())
    });
    if first.is_ok() && second.is_ok() {
        assert_eq!(count(first, members[0]), count(second, members[1]));
    }
}

/// A blob: it holds the same however it is read, a plain one what it is, and what cannot be unpacked is
/// refused.
pub fn image_blob(data: &[u8]) {
    /// A hostile blob is a thousand times as long as it looks; this is enough to see it read.
    const MANY: usize = 1 << 20;
    /// Less than is taken of a real one: a fuzzer has less memory.
    const WINDOW_LOG: u32 = 23;
    let read = |portion: usize, buffered: usize| -> std::io::Result<Vec<u8>> {
        let data = BufReader::with_capacity(buffered, data);
        let mut pieces = Pieced::new(data, WINDOW_LOG)?;
        let mut all = Vec::new();
        let mut buffer = vec![0; portion];
        while all.len() < MANY {
            match pieces.fill(&mut buffer)? {
                0 => break,
                filled => all.extend_from_slice(buffer.get(..filled).unwrap_or_default()),
            }
        }
        all.truncate(MANY);
        Ok(all)
    };
    let (whole, slowly) = (read(MANY, MANY), read(4099, 512));
    match (&whole, &slowly) {
        (Ok(whole), Ok(slowly)) => assert!(whole == slowly),
        (Err(error), _) | (_, Err(error)) => says_plainly(&error.to_string()),
    }
    let is_compressed = matches!(
        data,
        [0x1f, 0x8b, ..] | [0x28, 0xb5, ..] | [0x50..=0x5f, 0x2a, ..]
    );
    if !is_compressed {
        let length = data.len().min(MANY);
        assert_eq!(whole.ok().as_deref(), data.get(..length));
    }
    // The value of an extended attribute that holds ids.
    let range = IdRange {
        from: 1000,
        to: 0,
        length: 1 << 16,
    };
    let owners = Owners {
        users: vec![range],
        groups: vec![range],
    };
    for name in ["security.capability", "system.posix_acl_access", "user.x"] {
        let seen = owners.seen_value(name.as_bytes(), data.to_vec());
        let shorter = if name == "security.capability" { 4 } else { 0 };
        assert!(seen.len() == data.len() || seen.len() + shorter == data.len());
    }
}

struct Bytes<'a>(&'a [u8]);

impl Pieces for Bytes<'_> {
    fn fill(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.0.len());
        let (now, later) = self.0.split_at(length);
        buffer
            .get_mut(..length)
            .unwrap_or_default()
            .copy_from_slice(now);
        self.0 = later;
        Ok(length)
    }
}

fn check_path(path: &RootPath) {
    assert!(path.components().all(|name| name != b".." && name != b"."));
    assert_eq!(RootPath::parse(path.as_bytes()).as_ref(), Ok(path));
}
