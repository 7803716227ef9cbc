//! What must hold of the kernel's process table.
#![expect(
    clippy::unwrap_used,
    reason = "a property that does not hold is a panic: that is how a fuzzer is told"
)]

use std::path::Component;

use plimsoll_core::fuzzing::Input;
use plimsoll_core::model::ContainerId;

use super::cgroup::{self, directories};
use super::life::{has_ended, is_in_group_of};
use super::maps;
use super::mountinfo::{Mount, OverlayMount, parse, unescape};
use super::root::parent_in;

/// What is in a line of mountinfo is what was mounted, however it is escaped.
pub fn mountinfo(data: &[u8]) {
    let expected: Vec<Mount> = data
        .split(|b| *b == b'\n')
        .filter_map(|line| {
            let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
            // `ID PARENT MAJOR:MINOR ROOT MOUNT_POINT OPTIONS OPTIONAL.. - TYPE SOURCE SUPER_OPTIONS`
            let hyphen = 6 + fields.iter().skip(6).position(|field| *field == b"-")?;
            let field = |at: usize| fields.get(at).map(|text| plain(text));
            Some(Mount {
                id: std::str::from_utf8(fields[0]).ok()?.parse().ok()?,
                device: fields[2].into(),
                read_only: fields[5]
                    .split(|b| *b == b',')
                    .any(|option| option == b"ro"),
                root: field(3)?.into(),
                mount_point: field(4)?.into(),
                fs_type: field(hyphen + 1)?.into(),
                source: field(hyphen + 2)?.into(),
                super_options: (*fields.get(hyphen + 3)?).into(),
            })
        })
        .collect();
    assert_eq!(parse(data), expected);

    // The other way round: any names, as the kernel prints them.
    let mut input = Input::new(data);
    let mut field = || input.until(0).to_vec();
    let [root, mount_point, fs_type, source, super_options] = [(); 5].map(|()| field());
    let printed = |text: &[u8]| escaped(text, b" \t\n\\#");
    let line = [
        b"36 35 98:0".to_vec(),
        printed(&root),
        printed(&mount_point),
        b"rw,noatime shared:1 -".to_vec(),
        printed(&fs_type),
        printed(&source),
        printed(&super_options),
    ]
    .join(&b' ');
    let mounts = parse(&[b"\n", line.as_slice(), b"\n"].concat());
    assert_eq!(
        mounts,
        [Mount {
            id: 36,
            device: "98:0".into(),
            read_only: false,
            root: root.into(),
            mount_point: mount_point.into(),
            fs_type: fs_type.into(),
            source: source.into(),
            super_options: printed(&super_options).into(),
        }]
    );
}

/// The layers of an overlay are those that it was mounted with, whatever their names are.
pub fn overlay_options(data: &[u8]) {
    let any = OverlayMount::decode(data);
    let layers = || any.lower.iter().chain(&any.data_only);
    let length: usize = layers()
        .chain(&any.upper)
        .chain(&any.work)
        .map(Vec::len)
        .sum();
    assert!(length <= data.len());
    assert!(layers().count() <= data.len());
    if let Ok(whole) = OverlayMount::decode_whole(data) {
        assert_eq!(whole, any);
        assert!(!whole.lower.is_empty() && layers().all(|path| !path.is_empty()));
        assert_eq!(whole.upper.is_some(), whole.work.is_some());
    }
    assert_eq!(unescape(data), plain(data));

    // As `ovl_show_options` in `fs/overlayfs/params.c` prints what mount(2) was given.
    let mut input = Input::new(data);
    let form = input.u8();
    let separate = form & 1 != 0;
    let counts = (1 + input.u8() % 4, input.u8() % 3);
    let mut path = || {
        let name = input.until(0);
        [b"/", name].concat()
    };
    let expected = OverlayMount {
        lower: (0..counts.0).map(|_| path()).collect(),
        data_only: (0..counts.1).map(|_| path()).collect(),
        upper: Some(path()),
        work: Some(path()),
        userxattr: separate,
        uuid: false,
    };
    let lowers = expected.lower.iter().chain(&expected.data_only);
    // As Linux 6.5 prints them, which can be told by a colon in a name alone.
    let as_names = form & 2 != 0 && lowers.clone().any(|path| path.contains(&b':'));
    let shown = |text: &[u8]| escaped(text, b", \t\n\\");
    let mut options = b"rw".to_vec();
    let mut option = |key: &str, printed: Vec<u8>| {
        options.extend([b",", key.as_bytes(), b"=", &printed].concat());
    };
    if separate {
        for lower in &expected.lower {
            option("lowerdir+", shown(lower));
        }
        for data in &expected.data_only {
            option("datadir+", shown(data));
        }
    } else if as_names {
        let printed = |path: &Vec<u8>| escaped(path, b":, \t\n\\");
        let lower: Vec<Vec<u8>> = expected.lower.iter().map(printed).collect();
        let mut value = lower.join(&b':');
        for data in &expected.data_only {
            value.extend([b"::".to_vec(), printed(data)].concat());
        }
        option("lowerdir", value);
    } else {
        let listed = |paths: &[Vec<u8>], separator: &[u8]| -> Vec<u8> {
            let paths: Vec<Vec<u8>> = paths.iter().map(|path| with_backslashes(path)).collect();
            paths.join(separator)
        };
        let mut value = listed(&expected.lower, b":");
        if !expected.data_only.is_empty() {
            value.extend(b"::");
            value.extend(listed(&expected.data_only, b"::"));
        }
        option("lowerdir", shown(&value));
    }
    for (key, path) in [("upperdir", &expected.upper), ("workdir", &expected.work)] {
        option(key, shown(&with_backslashes(path.as_ref().unwrap())));
    }
    if separate {
        options.extend(b",userxattr");
    }
    options.extend(b",redirect_dir=on,index=off,metacopy=on");
    assert_eq!(OverlayMount::decode(&options), expected);
}

/// A `/proc/PID/stat`.
pub fn process_stat(data: &[u8]) {
    let after: Vec<&[u8]> = match data.iter().rposition(|b| *b == b')') {
        Some(end) => data[end + 1..].split(|b| *b == b' ').collect(),
        None => return assert!(!has_ended(data)),
    };
    // The fields from the third one on, after the space behind the name.
    let field = |number: usize| after.get(number - 2).copied().unwrap_or_default();
    let expected =
        (field(3) == b"Z" || field(3) == b"X") && (field(20) == b"0" || field(20) == b"1");
    assert_eq!(has_ended(data), expected);
    let parent = std::str::from_utf8(field(4)).ok();
    assert_eq!(parent_in(data), parent.and_then(|text| text.parse().ok()));
}

/// An id in the first line, then a `/proc/PID/cgroup`: only a group that is the container's, beneath the
/// root of all hierarchies, can ever be frozen.
pub fn process_cgroup(data: &[u8]) {
    let mut input = Input::new(data);
    let Ok(id) = std::str::from_utf8(input.until(b'\n')) else {
        return;
    };
    let text = input.rest();
    let groups: Vec<_> = cgroup::parse(text, id.as_bytes()).collect();
    assert!(groups.len() <= text.split(|b| *b == b'\n').count());
    for (controllers, path) in &groups {
        // The container's own: its name is in the last component.
        let last = path.rsplit(|b| *b == b'/').next().unwrap();
        let short = last.strip_suffix(b".scope").unwrap_or(last);
        let ends = |last: &[u8]| last.ends_with(id.as_bytes());
        assert!(!id.contains('/') && (ends(last) || ends(short)));
        for dir in directories(controllers, path) {
            let beneath = dir.strip_prefix(cgroup::ROOT).unwrap();
            let down =
                |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
            assert!(beneath.components().all(down), "{dir:?}");
        }
    }
    let named = is_in_group_of(text, &ContainerId::new(id.to_owned()));
    if let Ok(text) = std::str::from_utf8(text) {
        let fields = text.split('\n').map(|line| line.splitn(3, ':').nth(2));
        let mut parts = fields.flatten().flat_map(|path| path.split('/'));
        let forms = ["", "-", ":"].map(|before| format!("{before}{id}"));
        let is = |part: &str| part == id || forms[1..].iter().any(|form| part.ends_with(form));
        let is_name = |part: &str| is(part) || part.strip_suffix(".scope").is_some_and(is);
        assert_eq!(named, !id.is_empty() && parts.any(is_name));
    }
    assert!(groups.is_empty() || named);
    if let Some(id) = cgroup::hexadecimal_id_in(text) {
        assert!(id.len() == 64 && is_in_group_of(text, &ContainerId::new(id)));
    }
}

/// A line of `/proc/PID/maps`: what is executable and of a file is told, under a name that leads nowhere
/// else in `/proc/PID/map_files`.
pub fn process_maps(data: &[u8]) {
    let fields: Vec<&[u8]> = data.splitn(5, |b| *b == b' ').collect();
    let expected = match fields.as_slice() {
        [range, permissions, _offset, device, rest] => {
            let inode = rest.split(|b| *b == b' ').next().unwrap();
            let file = [*device, b" ", rest].concat();
            let runs = permissions.get(2) == Some(&b'x') && inode != b"0";
            runs.then_some((*range, file))
        }
        _ => None,
    };
    match (maps::parse(data), expected) {
        (None, None) => {}
        (Some(mapping), Some((range, file))) => {
            assert_eq!(mapping.range.as_bytes(), range);
            assert_eq!(mapping.file, file);
            let (from, to) = mapping.range.split_once('-').unwrap();
            let is_address =
                |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(is_address(from) && is_address(to), "{}", mapping.range);
        }
        (None, Some((range, _))) => {
            let known = |b: &u8| b.is_ascii_hexdigit() || *b == b'-';
            let hyphens = range.iter().filter(|b| **b == b'-').count();
            let good = range.iter().all(known) && hyphens == 1 && range.len() > 2;
            assert!(!good || range.starts_with(b"-") || range.ends_with(b"-"));
        }
        other => panic!("{other:?}"),
    }
}

/// Undoes octal escapes: a backslash and three octal digits.
fn plain(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let digits = text.get(at + 1..at + 4).unwrap_or_default();
        let octal = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| u32::from_str_radix(digits, 8).ok());
        match octal {
            Some(value) if text[at] == b'\\' && digits.len() == 3 => {
                out.push(u8::try_from(value).unwrap_or(b'?'));
                at += 4;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

/// Prints a text as the kernel's `seq_escape` does.
fn escaped(text: &[u8], special: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in text {
        if special.contains(byte) {
            out.extend(format!("\\{byte:03o}").into_bytes());
        } else {
            out.push(*byte);
        }
    }
    out
}

/// Writes a path into mount options as overlayfs wants it.
fn with_backslashes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in path {
        if b":\\,".contains(byte) {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out
}
