//! What must hold of the kernel's list of mounts.
#![expect(
    clippy::unwrap_used,
    reason = "a property that does not hold is a panic: that is how a fuzzer is told"
)]

use plimsoll_core::fuzzing::Input;

use super::mountinfo::{Mount, OverlayMount, parse, unescape};

/// What is in a line of mountinfo is what was mounted, however it is escaped.
pub fn mountinfo(data: &[u8]) {
    let expected: Vec<Mount> = data
        .split(|b| *b == b'\n')
        .filter_map(|line| {
            let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
            // `ID PARENT MAJOR:MINOR ROOT MOUNT_POINT OPTIONS OPTIONAL.. - TYPE SOURCE SUPER_OPTIONS`
            let hyphen = 5 + fields.iter().skip(5).position(|field| *field == b"-")?;
            let field = |at: usize| fields.get(at).map(|text| plain(text));
            Some(Mount {
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
    assert_eq!(unescape(data), plain(data));

    // As `ovl_show_options` in `fs/overlayfs/params.c` prints what mount(2) was given.
    let mut input = Input::new(data);
    let separate = input.u8() & 1 != 0;
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
    };
    let shown = |text: &[u8]| escaped(text, b", \t\n\\");
    let mut options = b"rw".to_vec();
    let mut option = |key: &str, value: Vec<u8>| {
        options.extend([b",", key.as_bytes(), b"=", &shown(&value)].concat());
    };
    if separate {
        for lower in &expected.lower {
            option("lowerdir+", lower.clone());
        }
        for data in &expected.data_only {
            option("datadir+", data.clone());
        }
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
        option("lowerdir", value);
    }
    for (key, path) in [("upperdir", &expected.upper), ("workdir", &expected.work)] {
        option(key, with_backslashes(path.as_ref().unwrap()));
    }
    if separate {
        options.extend(b",userxattr");
    }
    options.extend(b",redirect_dir=on,index=off,metacopy=on");
    assert_eq!(OverlayMount::decode(&options), expected);
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
