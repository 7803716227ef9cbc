//! Names, paths, digests and times.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Digest as _;

use super::Input;
use crate::model::{Bytes, ChainId, DiffId, Digest, RootPath, Timestamp, escape};
use crate::trust::chain_ids;

/// Characters that show as nothing: Unicode 16, `DerivedCoreProperties.txt`,
/// `Default_Ignorable_Code_Point`.
const INVISIBLE: &[(u32, u32)] = &[
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x61c, 0x61c),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x202a, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfff8),
    (0x1_bca0, 0x1_bca3),
    (0x1_d173, 0x1_d17a),
    (0xe_0000, 0xe_0fff),
];

/// Any bytes are shown without harm and without loss, and come back from JSON unharmed.
pub fn names(data: &[u8]) {
    let shown = escape(data);
    if !data.is_empty() {
        says_plainly(&shown);
    }
    assert_eq!(unescape(&shown), data, "{shown}");
    assert!(shown.len() <= 4 * data.len());
    through_json(&Bytes::from(data));
    if let Ok(bytes) = serde_json::from_slice::<Bytes>(data) {
        through_json(&bytes);
        // A name in JSON is its own text, or base64: never longer than that.
        assert!(bytes.as_bytes().len() <= data.len());
    }
}

/// A parsed path holds its invariants, and what is refused breaks them.
pub fn path(data: &[u8]) {
    let parts = || data.split(|b| *b == b'/');
    let good = data.first() == Some(&b'/') && !data.contains(&0) && parts().all(|p| p != b"..");
    let parsed = RootPath::parse(data);
    assert_eq!(parsed.is_ok(), good);
    let path = match parsed {
        Ok(path) => path,
        Err(error) => return says_plainly(&error.to_string()),
    };
    let plain: Vec<&[u8]> = parts().filter(|p| !p.is_empty() && *p != b".").collect();
    assert!(path.components().eq(plain.iter().copied()));
    let built = plain.iter().fold(RootPath::root(), |path, p| path.join(p));
    assert_eq!(built, path);
    assert_eq!(RootPath::parse(path.as_bytes()).unwrap(), path);
    assert!(path.as_bytes().len() <= data.len());
    through_json(&path);
    match (path.parent(), plain.split_last()) {
        (None, None) => assert_eq!(path.as_bytes(), b"/"),
        (Some(parent), Some((name, rest))) => {
            assert!(parent.components().eq(rest.iter().copied()));
            assert_eq!(parent.join(name), path);
            assert!(path.is_within(&parent) && !parent.is_within(&path));
        }
        other => panic!("{other:?}"),
    }
    // Against the path that the first half of the bytes names.
    if let Ok(other) = RootPath::parse(data.get(..data.len() / 2).unwrap_or_default()) {
        let upper: Vec<&[u8]> = other.components().collect();
        assert_eq!(path.is_within(&other), plain.starts_with(&upper));
    }
}

/// Digests by the grammar of the OCI image specification, and the arithmetic of chainIDs.
///
/// A line each is a digest; together they are the layers of an image.
pub fn digest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut layers: Vec<DiffId> = Vec::new();
    for line in text.split('\n') {
        let expected = [("md5:", 32), ("sha256:", 64), ("blake3:", 64)]
            .into_iter()
            .find_map(|(name, length)| Some((line.strip_prefix(name)?, length)))
            .filter(|(hex, length)| hex.len() == *length)
            .is_some_and(|(hex, _)| hex.chars().all(|c| "0123456789abcdef".contains(c)));
        match line.parse::<Digest>() {
            Ok(digest) => {
                assert!(expected, "{line}");
                assert_eq!(digest.to_string(), line);
                assert_eq!(
                    Digest::new(digest.algorithm(), digest.as_bytes()),
                    Some(digest)
                );
                through_json(&digest);
                layers.push(digest.into());
            }
            Err(error) => {
                assert!(!expected, "{line}");
                says_plainly(&error.to_string());
            }
        }
    }
    let chain: Vec<String> = chain_ids(&layers).iter().map(ChainId::to_string).collect();
    let mut expected: Vec<String> = Vec::new();
    for layer in &layers {
        expected.push(match expected.last() {
            None => layer.to_string(),
            Some(below) => {
                let sum = sha2::Sha256::digest(format!("{below} {layer}"));
                let hex: String = sum.iter().map(|b| format!("{b:02x}")).collect();
                format!("sha256:{hex}")
            }
        });
    }
    assert_eq!(chain, expected);
}

/// A time shows as a moment of the calendar that is the same one, or as a bare number.
pub fn timestamp(data: &[u8]) {
    let mut input = Input::new(data);
    let mut time = || Timestamp {
        seconds: input.u64().cast_signed(),
        nanoseconds: input.u32(),
    };
    let (time, other) = (time(), time());
    let shown = time.to_string();
    says_plainly(&shown);
    assert_eq!(serde_json::to_value(time).unwrap(), shown.as_str());
    let pair = |time: Timestamp| (time.seconds, time.nanoseconds);
    assert_eq!(time.cmp(&other), pair(time).cmp(&pair(other)));
    // Above that a disk lies, and the file system passes it on.
    if time.nanoseconds >= 1_000_000_000 {
        return;
    }
    let total = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    match (shown.strip_prefix('@'), shown.parse::<jiff::Timestamp>()) {
        (None, Ok(back)) => assert_eq!(back.as_nanosecond(), total, "{shown}"),
        (Some(number), Err(_)) => {
            let (seconds, nanoseconds) = number.split_once('.').unwrap();
            assert_eq!(seconds.parse(), Ok(time.seconds));
            assert_eq!(nanoseconds.parse(), Ok(time.nanoseconds));
        }
        other => panic!("{shown}: {other:?}"),
    }
}

/// Sees that a message is there, and has nothing in it that a terminal would not show as it is.
pub fn says_plainly(text: &str) {
    assert!(!text.is_empty());
    for c in text.chars() {
        let number = c as u32;
        let invisible = INVISIBLE
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&number));
        let separator = matches!(c, '\u{2028}' | '\u{2029}');
        assert!(
            !c.is_control() && !invisible && !separator,
            "U+{number:04X} in {text:?}"
        );
    }
}

fn through_json<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let json = serde_json::to_string(value).unwrap();
    assert!(!json.chars().any(char::is_control), "{json:?}");
    let back: T = serde_json::from_str(&json).unwrap();
    assert_eq!(&back, value, "{json}");
}

/// Undoes [`escape`].
fn unescape(shown: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = shown;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            out.extend(c.to_string().into_bytes());
            continue;
        }
        let kind = rest.chars().next().unwrap();
        rest = &rest[1..];
        match kind {
            '\\' => out.push(b'\\'),
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            'r' => out.push(b'\r'),
            'x' => {
                out.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                rest = &rest[2..];
            }
            'u' => {
                let (hex, after) = rest.split_once('}').unwrap();
                let number = u32::from_str_radix(hex.strip_prefix('{').unwrap(), 16).unwrap();
                out.extend(char::from_u32(number).unwrap().to_string().into_bytes());
                rest = after;
            }
            other => panic!("\\{other} in {shown}"),
        }
    }
    out
}
