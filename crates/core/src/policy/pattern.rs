//! What a pattern of paths says beside what it seems to say.
//!
//! Some texts are globs to the compiler and mean something else than the guide promises: a `**` that
//! stops at a slash, a list in brackets that takes one. A rule that denies would then be about less than
//! its author believes, and one that allows about more, so they are refused.

/// Returns what is wrong with a glob that compiles, as one clause.
pub(super) fn ambiguity(glob: &str) -> Option<&'static str> {
    let mut before = None;
    let mut rest = glob.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => before = rest.next(),
            '[' => {
                if let Some(why) = list(&mut rest) {
                    return Some(why);
                }
                before = Some(']');
            }
            '*' => {
                let mut stars = 1;
                while rest.as_str().starts_with('*') {
                    rest.next();
                    stars += 1;
                }
                // The compiler takes `**/` with nothing after it for everything.
                let after = rest.as_str();
                let alone = matches!(before, None | Some('/'))
                    && (after.is_empty() || after.starts_with('/') && after != "/");
                if stars > 2 || stars == 2 && !alone {
                    return Some("** stands alone between slashes, at the beginning or at the end");
                }
                before = Some('*');
            }
            c => before = Some(c),
        }
    }
    None
}

/// Reads a list up to its closing bracket.
fn list(rest: &mut std::str::Chars<'_>) -> Option<&'static str> {
    let negated = rest.as_str().starts_with(['!', '^']);
    if negated {
        rest.next();
    }
    // A bracket or a hyphen that comes first stands for itself.
    let mut inside: Vec<char> = rest.next().into_iter().collect();
    inside.extend(rest.by_ref().take_while(|c| *c != ']'));
    if !inside.iter().all(char::is_ascii) {
        return Some("only ASCII can stand in brackets, since names are matched byte by byte");
    }
    let mut takes_slash = false;
    let mut left = inside.as_slice();
    while let [low, tail @ ..] = left {
        let high = match tail {
            ['-', high, tail @ ..] => {
                // The compiler would take `a-c-e` for `a-e`.
                if let ['-', _, ..] = tail {
                    return Some("a range in brackets ends where another one begins");
                }
                left = tail;
                high
            }
            _ => {
                left = tail;
                low
            }
        };
        takes_slash |= (*low..=*high).contains(&'/');
    }
    match (negated, takes_slash) {
        (true, false) => Some("a list in brackets that begins with ! takes a slash: put / into it"),
        (false, true) => Some("a list in brackets takes a slash: leave it out"),
        _ => None,
    }
}

/// Returns whether `glob` can match a path inside a rootfs at all: those begin with a slash, end with
/// none, and have neither an empty component nor `.` or `..`.
pub(super) fn is_rooted(glob: &str) -> bool {
    if glob == "/" || glob == "**" {
        return true;
    }
    let mut components = glob.split('/');
    let first = components.next();
    matches!(first, Some("" | "**"))
        && components.clone().next().is_some()
        && components.all(|part| !["", ".", ".."].contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_else_is_told() {
        for glob in [
            "/a/**",
            "**/a",
            "/a/**/b",
            "**",
            "/*a*",
            "/\\**",
            "/[*]*",
            "/[ab]",
            "/[!a/]",
            "/[]a]",
            "/[a-]",
            "/[-a]",
            "/{a,b}",
            "/gr\u{fc}n*",
        ] {
            assert_eq!(ambiguity(glob), None, "{glob}");
        }
        for glob in [
            "**.key",
            "**/",
            "/a**",
            "/a/**b",
            "/***",
            "/{a,**}",
            "/a/\\***",
            "/[!a]",
            "/[^a]",
            "/[/]",
            "/[.-0]",
            "/[a-c-e]",
            "/[\u{e0}-\u{fc}]",
            "/[!a-\u{fc}/]",
        ] {
            assert!(ambiguity(glob).is_some(), "{glob}");
        }
    }

    #[test]
    fn what_matches_no_path_is_told() {
        for glob in ["/", "/a", "**", "**/a", "/**", "/{a,/b}/c"] {
            assert!(is_rooted(glob), "{glob}");
        }
        for glob in [
            "", "a", "*", "*.log", "**.key", "/a/", "//a", "/a//b", "/a/../b", "/./a", "**/",
        ] {
            assert!(!is_rooted(glob), "{glob}");
        }
    }
}
