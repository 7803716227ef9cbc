//! The attributes that a header says, and in which respects an object on disk has others.

use plimsoll_core::model::{Aspect, Aspects, Attributes, Bytes, FileType, Timestamp};

use super::member::{Kind, Member};

/// Returns the attributes that a member says.
pub(super) fn attributes(member: &Member, links: u32) -> Attributes {
    let (file_type, size, device, target) = match &member.kind {
        Kind::File(size) => (FileType::File, *size, None, None),
        Kind::HardLink(_) => (FileType::File, 0, None, None),
        Kind::Symlink(target) => (
            FileType::Symlink,
            target.as_bytes().len() as u64,
            None,
            Some(target.clone()),
        ),
        Kind::Directory => (FileType::Directory, 0, None, None),
        Kind::CharDevice(device) => (FileType::CharDevice, 0, Some(*device), None),
        Kind::BlockDevice(device) => (FileType::BlockDevice, 0, Some(*device), None),
        Kind::Fifo => (FileType::Fifo, 0, None, None),
    };
    Attributes {
        file_type,
        mode: match file_type {
            // Linux gives links no mode of their own.
            FileType::Symlink => 0o777,
            _ => member.mode,
        },
        uid: member.uid,
        gid: member.gid,
        size,
        mtime: member.mtime,
        links,
        device,
        target,
        immutable: false,
        append_only: false,
    }
}

/// Returns in which respects an object differs from what its header says.
pub(super) fn aspects(before: &Attributes, after: &Attributes, is_exact: bool) -> Aspects {
    let mut aspects = Aspects::NONE;
    let mut note = |differs: bool, aspect| {
        if differs {
            aspects.insert(aspect);
        }
    };
    let known = |time: Timestamp| match is_exact {
        true => (time.seconds, time.nanoseconds),
        // A layer that was not unpacked but made in place has times that its headers cut off.
        false => (time.seconds, 0),
    };
    let is_file = before.file_type == FileType::File;
    note(is_file && before.size != after.size, Aspect::Content);
    note(before.mode != after.mode, Aspect::Mode);
    note(
        (before.uid, before.gid) != (after.uid, after.gid),
        Aspect::Owner,
    );
    note(before.target != after.target, Aspect::Target);
    note(before.device != after.device, Aspect::Device);
    note(after.immutable || after.append_only, Aspect::Flags);
    note(known(before.mtime) != known(after.mtime), Aspect::Times);
    aspects
}

/// Returns the names of the extended attributes that are not in both lists with the same value, sorted.
pub(super) fn differing(a: &[(Bytes, Bytes)], b: &[(Bytes, Bytes)]) -> Vec<Bytes> {
    let of = |list: &[(Bytes, Bytes)], other: &[(Bytes, Bytes)]| -> Vec<Bytes> {
        let own = list.iter().filter(|one| !other.contains(one));
        own.map(|(name, _)| name.clone()).collect()
    };
    let mut names = [of(a, b), of(b, a)].concat();
    names.sort();
    names.dedup();
    names
}
