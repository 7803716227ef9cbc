//! What must hold of the reader of EROFS images.
#![expect(
    clippy::unwrap_used,
    reason = "a property that does not hold is a panic: that is how a fuzzer is told"
)]

use std::collections::HashSet;

use plimsoll_core::fuzzing::says_plainly;
use plimsoll_core::model::FileType;

use super::decode::{SUPERBLOCK_AT, SUPERBLOCK_LENGTH};
use super::{Directory, Image};

/// Entries that are looked at.
const ENTRIES: usize = 4096;

/// Any file, as it is and with a superblock whose marks hold: reading it ends, each directory is met
/// once, and each name that is told is found again.
pub fn erofs(data: &[u8]) {
    read_all(data.to_vec());
    let mut mended = data.to_vec();
    let at = usize::try_from(SUPERBLOCK_AT).unwrap();
    if let Some(raw) = mended.get_mut(at..at + SUPERBLOCK_LENGTH) {
        raw[..4].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
        raw[12] = 9 + raw[12] % 8;
        raw[80..88].fill(0);
        raw[90] = 0;
        read_all(mended);
    }
}

fn read_all(data: Vec<u8>) {
    let length = data.len() as u64;
    let root = Image::open(Box::new(data), length).and_then(Directory::root_of);
    match root {
        Ok(root) => {
            let (mut left, mut met) = (ENTRIES, HashSet::new());
            look(&root, &mut left, &mut met);
        }
        Err(error) => says_plainly(&error.to_string()),
    }
}

fn look(directory: &Directory, left: &mut usize, met: &mut HashSet<u64>) {
    let of = directory.stat(b"").unwrap();
    assert_eq!(of.file_type, FileType::Directory);
    let mut names: Vec<Vec<u8>> = Vec::new();
    let told = directory.names(0, *left, |name| names.push(name.to_vec()));
    if told.is_err() {
        return;
    }
    assert!(met.insert(of.ino), "a directory has two places");
    assert!(names.is_sorted() && names.iter().collect::<HashSet<_>>().len() == names.len());
    for name in names {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let is_name = !name.is_empty() && !name.contains(&0) && !name.contains(&b'/');
        assert!(is_name && name != b"." && name != b"..");
        let mut buffer = vec![0; 1 << 16];
        let Ok(stat) = directory.stat(&name) else {
            continue;
        };
        if let Ok(length) = directory.list_xattrs(&name, &mut buffer) {
            let listed = buffer[..length].to_vec();
            for attribute in listed.split(|b| *b == 0).filter(|name| !name.is_empty()) {
                directory.get_xattr(&name, attribute, &mut buffer).unwrap();
            }
        }
        match stat.file_type {
            FileType::Directory => {
                if let Ok(child) = directory.child(&name) {
                    look(&child, left, met);
                }
            }
            FileType::Symlink => drop(directory.read_link(&name)),
            FileType::File => drop(directory.open_regular(&name)),
            _ => assert!(directory.child(&name).is_err()),
        }
    }
}
