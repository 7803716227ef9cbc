//! Patterns of paths, against a matcher that tries everything.

use super::model::says_plainly;
use crate::policy::PathSet;

/// Steps after which the plain matcher gives up: it is exponential.
const STEPS_MAX: u32 = 20_000;

/// A pattern, a NUL byte and a path: whether the one matches the other is what the guide says.
pub fn globs(data: &[u8]) {
    let mut parts = data.splitn(2, |b| *b == 0);
    let (Some(glob), Some(path)) = (parts.next(), parts.next()) else {
        return;
    };
    let Ok(glob) = std::str::from_utf8(glob) else {
        return;
    };
    let set = match PathSet::new([glob.to_owned()]) {
        Ok(set) => set,
        Err(error) => return says_plainly(&error.to_string()),
    };
    // Only paths inside a rootfs are ever asked about.
    let Ok(path) = crate::model::RootPath::parse(path) else {
        return;
    };
    let path = path.as_bytes();
    let pattern = parse(glob);
    let mut steps = STEPS_MAX;
    if let Some(expected) = matches(&pattern, path, &mut steps) {
        assert_eq!(set.contains(path), expected, "{glob} {path:?}");
    }
}

/// One piece of a pattern.
#[derive(Debug)]
enum Piece {
    /// This byte.
    Byte(u8),
    /// Any byte but a slash.
    One,
    /// Any bytes but slashes.
    Some,
    /// Whole components, with the slash after them: `**/`.
    Components,
    /// Everything that is left: `**` at the end.
    Rest,
    /// One of these bytes, or none of them.
    List(bool, Vec<(u8, u8)>),
    /// One of these patterns.
    Alternatives(Vec<Vec<Piece>>),
}

/// Reads a pattern that is known to be one.
fn parse(glob: &str) -> Vec<Piece> {
    let mut rest = glob.as_bytes();
    // The alternatives of each brace that is open.
    let mut open: Vec<Vec<Vec<Piece>>> = Vec::new();
    let mut pieces = Vec::new();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let piece = match first {
            b'\\' => {
                let byte = rest[0];
                rest = &rest[1..];
                Piece::Byte(byte)
            }
            b'?' => Piece::One,
            b'*' => match rest {
                [b'*', b'/', tail @ ..] => {
                    rest = tail;
                    Piece::Components
                }
                [b'*'] => {
                    rest = &[];
                    Piece::Rest
                }
                _ => Piece::Some,
            },
            b'[' => list(&mut rest),
            b'{' => {
                open.push(vec![std::mem::take(&mut pieces)]);
                continue;
            }
            b',' if !open.is_empty() => {
                open.last_mut().unwrap().push(std::mem::take(&mut pieces));
                continue;
            }
            b'}' => {
                let mut alternatives = open.pop().unwrap();
                alternatives.push(std::mem::take(&mut pieces));
                pieces = alternatives.remove(0);
                Piece::Alternatives(alternatives)
            }
            byte => Piece::Byte(*byte),
        };
        pieces.push(piece);
    }
    pieces
}

/// Reads what stands in brackets.
fn list(rest: &mut &[u8]) -> Piece {
    let negated = matches!(rest, [b'!' | b'^', ..]);
    if negated {
        *rest = &rest[1..];
    }
    let end = 1 + rest[1..].iter().position(|b| *b == b']').unwrap();
    let mut inside = &rest[..end];
    *rest = &rest[end + 1..];
    let mut ranges = Vec::new();
    while let [low, tail @ ..] = inside {
        inside = tail;
        let mut high = *low;
        if let [b'-', to, tail @ ..] = inside {
            (high, inside) = (*to, tail);
        }
        ranges.push((*low, high));
    }
    Piece::List(negated, ranges)
}

/// Whether the pieces match all of `path`; `None` when that takes too long to find out.
fn matches(pieces: &[Piece], path: &[u8], steps: &mut u32) -> Option<bool> {
    *steps = steps.checked_sub(1)?;
    let Some((piece, later)) = pieces.split_first() else {
        return Some(path.is_empty());
    };
    let one = |taken: bool, steps: &mut u32| match path {
        [_, rest @ ..] if taken => matches(later, rest, steps),
        _ => Some(false),
    };
    let first = path.first().copied();
    match piece {
        Piece::Byte(byte) => one(first == Some(*byte), steps),
        Piece::One => one(first != Some(b'/'), steps),
        Piece::List(negated, ranges) => {
            let within = first.is_some_and(|b| ranges.iter().any(|(l, h)| (*l..=*h).contains(&b)));
            one(within != *negated, steps)
        }
        Piece::Some => {
            let end = path.iter().position(|b| *b == b'/').unwrap_or(path.len());
            any((0..=end).map(|n| &path[n..]), |rest| {
                matches(later, rest, steps)
            })
        }
        // At the beginning it also takes the slash that every path begins with.
        Piece::Components => any((0..=path.len()).map(|n| (n, &path[n..])), |(n, rest)| {
            if n == 0 || path[n - 1] == b'/' {
                matches(later, rest, steps)
            } else {
                Some(false)
            }
        }),
        Piece::Rest => Some(true),
        Piece::Alternatives(alternatives) => any(alternatives.iter(), |first| {
            // What follows is tried after each way in which the alternative takes a beginning.
            any(
                (0..=path.len()).map(|n| path.split_at(n)),
                |(head, tail)| Some(matches(first, head, steps)? && matches(later, tail, steps)?),
            )
        }),
    }
}

/// Whether one of them does; `None` when that took too long.
fn any<T>(items: impl Iterator<Item = T>, mut does: impl FnMut(T) -> Option<bool>) -> Option<bool> {
    for item in items {
        if does(item)? {
            return Some(true);
        }
    }
    Some(false)
}
