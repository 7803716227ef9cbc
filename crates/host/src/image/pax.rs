//! The records of a PAX extended header (POSIX.1-2017, pax, "pax Extended Header").
//!
//! Each is its own length in decimal digits, a space, a keyword, `=`, a value and a line feed. The length
//! counts: a value may hold line feeds of its own, as file capabilities do.

/// Returns the records in their order, and `None` for what is none, which ends them.
pub(super) fn records(mut bytes: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let split = split(bytes);
        bytes = split.map_or(&[], |(_, rest)| rest);
        Some(split.map(|(record, _)| record))
    })
}

/// A record, keyword and value, and what follows it.
type Split<'a> = ((&'a [u8], &'a [u8]), &'a [u8]);

fn split(bytes: &[u8]) -> Option<Split<'_>> {
    /// Digits of a length: more than memory holds have fewer.
    const DIGITS: usize = 10;
    let space = bytes.iter().take(DIGITS + 1).position(|b| *b == b' ')?;
    let digits = bytes.get(..space).filter(|digits| !digits.is_empty())?;
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    Some((
        (record.get(..equals)?, record.get(equals + 1..)?),
        bytes.get(length..)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Option<(&[u8], &[u8])>> {
        records(bytes).collect()
    }

    #[test]
    fn values_may_hold_anything() {
        assert_eq!(
            read(b"12 path=a\nb\n15 key=a=\x00\xff\nc\n\n5 k=\n"),
            [
                Some((&b"path"[..], &b"a\nb"[..])),
                Some((b"key", b"a=\x00\xff\nc\n")),
                Some((b"k", b"")),
            ]
        );
        assert_eq!(read(b""), []);
    }

    #[test]
    fn what_is_no_record_ends_them() {
        for bad in [
            &b"path=a\n"[..],
            b"11 path=a\n",
            b"8 path=a\n",
            b"99 path=a\n",
            b" path=a\n",
            b"-9 path=a\n",
            b"9 path a\n",
            b"99999999999999999999 k=v\n",
        ] {
            assert_eq!(read(bad).last(), Some(&None), "{}", bad.escape_ascii());
        }
    }
}
