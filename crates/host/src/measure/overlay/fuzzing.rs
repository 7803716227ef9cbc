//! What must hold of an overlay's marks, of its index and of the map of a file's extents.
#![expect(
    clippy::unwrap_used,
    reason = "a property that does not hold is a panic: that is how a fuzzer is told"
)]

use std::collections::BTreeMap;

use plimsoll_core::fuzzing::{Input, says_plainly};
use plimsoll_core::model::FileType;
use plimsoll_syscall::fiemap::{BATCH, EXTENT_LAST, Extent};

use super::content::all_same;
use super::fuse::{self, Entry};
use super::index::inode_of;
use super::marks::{Marks, shown};
use crate::layers::MarkNamespace;

/// Marks mean what the kernel takes them for (`fs/overlayfs/{namei,util,xattrs}.c`), and no process in
/// the container sees one.
pub fn overlay_marks(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let namespace = [MarkNamespace::Trusted, MarkNamespace::User][usize::from(mode & 1)];
    let prefix = namespace.prefix().unwrap();
    let file_type =
        [FileType::File, FileType::Directory, FileType::Symlink][usize::from(mode >> 1) % 3];
    let size = u64::from(mode >> 7);
    let mut attributes: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    while !input.is_empty() {
        let mut name = input.until(0).to_vec();
        // To save the fuzzer the trouble of spelling it.
        if let Some(mark) = name.strip_prefix(b"@") {
            name = [prefix, mark].concat();
        } else if let Some(mark) = name.strip_prefix(b"#") {
            name = [b"user.fuseoverlayfs.", mark].concat();
        }
        let length = usize::from(input.u8());
        let value = input.take(length).to_vec();
        if !name.is_empty() {
            attributes.insert(name, value);
        }
    }
    let mut names = Vec::new();
    for name in attributes.keys() {
        names.extend_from_slice(name);
        names.push(0);
    }
    let has = |mark: &str| attributes.get(&[prefix, mark.as_bytes()].concat());
    let value = |name: &[u8]| Ok(attributes.get(name).cloned());
    // `ovl_get_redirect_xattr`: one name, or a path from the root whose components are names.
    let redirect = has("redirect");
    let is_name = |name: &[u8]| {
        !name.is_empty() && !name.contains(&b'/') && !name.contains(&0) && !is_dots(name)
    };
    let may_follow = redirect.is_none_or(|to| match to.strip_prefix(b"/") {
        Some(path) => path.split(|b| *b == b'/').all(is_name),
        None => is_name(to),
    });
    match Marks::decode(prefix, &names, (file_type, size), value) {
        Ok(marks) => {
            assert!(may_follow, "{redirect:?}");
            let is_file = file_type == FileType::File;
            assert_eq!(marks.redirect.as_deref(), redirect.map(Vec::as_slice));
            assert_eq!(
                marks.opaque,
                file_type == FileType::Directory && has("opaque").is_some_and(|v| v == b"y")
            );
            assert_eq!(
                marks.whiteout,
                is_file && size == 0 && has("whiteout").is_some()
            );
            assert_eq!(marks.metacopy, is_file && has("metacopy").is_some());
            let flag = |flag| has("protattr").is_some_and(|flags| flags.contains(&flag));
            assert_eq!(marks.immutable, flag(b'i'));
            assert_eq!(marks.append_only, flag(b'a'));
        }
        Err(trouble) => {
            assert!(!may_follow, "{redirect:?}");
            says_plainly(&trouble.0);
        }
    }

    fuse_marks(&attributes, &names, file_type, mode & 0x40 != 0);

    // Where marks have no meaning, every attribute shows as it is.
    assert!(
        attributes
            .keys()
            .all(|name| shown(None, name).as_ref() == Some(name))
    );
    let mut seen = BTreeMap::new();
    for name in attributes.keys() {
        let own = name.starts_with(prefix);
        let escaped = name.starts_with(&[prefix, b"overlay."].concat());
        let shown = shown(Some(namespace), name);
        assert_eq!(shown.is_some(), !own || escaped);
        if let Some(shown) = shown {
            // What a process sets is stored under the name that it is shown by, or with one more
            // `overlay.` after the prefix (`ovl_xattr_escape_name`).
            let stored = match shown.strip_prefix(prefix) {
                Some(rest) => [prefix, b"overlay.", rest].concat(),
                None => shown.clone(),
            };
            assert_eq!(&stored, name);
            assert!(seen.insert(shown, name).is_none());
        }
    }
}

/// Marks of fuse-overlayfs mean what it takes them for (`is_directory_opaque`, `can_access_xattr` in its
/// `main.c`), and no process in the container sees one.
fn fuse_marks(
    attributes: &BTreeMap<Vec<u8>, Vec<u8>>,
    names: &[u8],
    file_type: FileType,
    trusted: bool,
) {
    let value = |name: &[u8]| Ok(attributes.get(name).cloned());
    let is_directory = file_type == FileType::Directory;
    let mut opaque = None;
    for name in [
        &b"user.fuseoverlayfs."[..],
        b"user.overlay.",
        b"trusted.overlay.",
    ] {
        let seen = trusted || !name.starts_with(b"trusted.");
        let value = attributes.get(&[name, b"opaque"].concat());
        opaque = value.filter(|_| seen && is_directory).or(opaque);
    }
    match fuse::decode(names, file_type, trusted, value) {
        Ok(decoded) => {
            assert_eq!(decoded.opaque, opaque.map(|value| value[0] == b'y'));
            if let Some(origin) = decoded.origin {
                let stored = &attributes[&b"user.fuseoverlayfs.origin"[..]];
                assert!(stored.starts_with(&origin) && stored.len() - origin.len() <= 1);
            }
        }
        Err(trouble) => {
            assert!(opaque.is_some_and(|value| value.is_empty() || value.len() > 16));
            says_plainly(&trouble.0);
        }
    }
    for name in attributes.keys() {
        let hidden = [
            &b"user.fuseoverlayfs."[..],
            b"user.overlay.",
            b"trusted.overlay.",
        ];
        let shown = shown(Some(MarkNamespace::Fuse { trusted }), name);
        assert!(shown.as_ref().is_none_or(|shown| shown == name));
        let is_hidden = hidden.iter().any(|prefix| name.starts_with(prefix));
        let is_trusted = !trusted && name.starts_with(b"trusted.");
        assert_eq!(shown.is_none(), is_hidden || is_trusted);
        // As a name of a file.
        match Entry::of(name) {
            Entry::Named(of) => assert!(of == name && !name.starts_with(b".wh.")),
            Entry::Gone(of) => assert!(!of.is_empty() && [b".wh.", of].concat() == *name),
            Entry::Hidden => assert!(name.starts_with(b".wh.")),
        }
    }
}

fn is_dots(name: &[u8]) -> bool {
    name == b"." || name == b".."
}

/// The name of an index entry is a `struct ovl_fb` in hexadecimal.
pub fn overlay_index(data: &[u8]) {
    let expected = (|| {
        if !data.len().is_multiple_of(2) {
            return None;
        }
        let text = std::str::from_utf8(data).ok()?;
        let hex = text.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex {
            return None;
        }
        let bytes: Vec<u8> = (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect();
        let mut handle = Input::new(&bytes);
        let (_version, magic, _length) = (handle.u8(), handle.u8(), handle.u8());
        let (flags, kind) = (handle.u8(), handle.u8());
        let _uuid = handle.take(16);
        let number = handle.rest().len();
        // All that is known of are little-endian here.
        if magic != 0xfb || flags & 1 != 0 || cfg!(target_endian = "big") {
            return None;
        }
        match kind {
            1 | 2 if number >= 4 => Some(u64::from(handle.u32())),
            0x81 | 0x82 | 0x4d..=0x4f if number >= 8 => Some(handle.u64()),
            _ => None,
        }
    })();
    assert_eq!(inode_of(data), expected);
}

/// Two files share all extents only when each byte of both is the same one on disk.
pub fn fiemap(data: &[u8]) {
    let mut input = Input::new(data);
    let (size, mode) = (u64::from(input.u32()), input.u8());
    let one_list = |input: &mut Input<'_>| {
        let mut list: Vec<Extent> = Vec::new();
        for _ in 0..input.u8() % 16 {
            let (gap, physical) = (u64::from(input.u8()), u64::from(input.u16()));
            let (length, flags) = (1 + u64::from(input.u8()), input.u8());
            // Many extents of few bytes: a map comes in portions.
            for n in 0..=u64::from(input.u8()) {
                let last = list.last();
                let mut extent = Extent::default();
                extent.logical = gap + last.map_or(0, |last| last.logical + last.length);
                extent.physical = physical + 2 * n * length;
                extent.length = length;
                // Mostly plain: merged, shared, or one that proves nothing.
                extent.flags = [0, 0x1000, 0x2000, 0x200][usize::from(flags) % 4];
                list.push(extent);
            }
        }
        if let Some(last) = list.last_mut() {
            last.flags |= EXTENT_LAST;
        }
        list
    };
    let a = one_list(&mut input);
    let b = match mode & 3 {
        // Mostly the same up to some point.
        0 => one_list(&mut input),
        1 => a.clone(),
        _ => {
            let keep = usize::from(input.u16()) % (a.len() + 1);
            let mut b = a[..keep].to_vec();
            for mut extent in one_list(&mut input) {
                extent.logical += b.last().map_or(0, |last| last.logical + last.length);
                b.iter_mut().for_each(|extent| extent.flags &= !EXTENT_LAST);
                b.push(extent);
            }
            if let Some(last) = b.last_mut() {
                last.flags |= EXTENT_LAST;
            }
            b
        }
    };
    let from = |list: &[Extent], at: u64| -> Vec<Extent> {
        let rest = list.iter().filter(|e| e.logical + e.length > at);
        rest.take(BATCH).copied().collect()
    };
    let same = all_same(size, |at| Ok((from(&a, at), from(&b, at)))).unwrap();

    let within = |list: &[Extent]| -> Vec<Extent> {
        list.iter().filter(|e| e.logical < size).copied().collect()
    };
    let (a, b) = (within(&a), within(&b));
    let plain = |list: &[Extent]| list.iter().all(|e| e.flags & 0x200 == 0);
    let places = |list: &[Extent]| -> Vec<(u64, u64, u64)> {
        let clipped = |e: &Extent| (e.logical, e.physical, e.length.min(size - e.logical));
        list.iter().map(clipped).collect()
    };
    let shared = plain(&a) && plain(&b) && places(&a) == places(&b);
    assert!(shared || !same, "{a:?}\n{b:?}");

    // A map that no file system would give is no proof, and ends.
    let mut calls = 0;
    let mut rest = input;
    let answered = all_same(size, |_| {
        calls += 1;
        assert!(calls <= data.len() + 2, "it does not get on");
        let mut lie = || {
            let mut extent = Extent::default();
            extent.logical = u64::from(rest.u8());
            extent.length = u64::from(rest.u8());
            extent
        };
        let list = vec![lie(), lie()];
        Ok((list.clone(), list))
    });
    assert!(answered.is_ok());
}
