//! What a runtime's own `diff` command said, held against the referee.
//!
//! It is judged by its own conventions: `C` of a directory above a change, `C` for another file type,
//! one line for a deleted or an added directory, and `C` of a file of which only the times moved are no
//! mistakes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::brute::Differences;

/// What a command said: the letter, by path in the form of the referee.
pub type Told = BTreeMap<String, BTreeSet<char>>;

/// What is wrong with it.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Differences that it does not name, each with why, as far as that can be told from outside.
    pub missed: Vec<Value>,
    /// Paths that it calls added or deleted, and that are on both sides or on none.
    pub invented: Vec<String>,
    /// Differences that it gives another letter than they have.
    pub misnamed: Vec<String>,
    /// Paths that it calls changed, and of which nothing differs, not even the times.
    pub unchanged: Vec<String>,
    /// Paths that it calls changed, and of which only the times differ.
    pub times: Vec<String>,
    /// What it said instead of an answer.
    pub failed: Option<String>,
}

impl Judgement {
    /// Returns the worst of it in one word.
    #[must_use]
    pub fn mark(&self) -> &'static str {
        if self.failed.is_some() {
            "fails"
        } else if !self.missed.is_empty() {
            "misses"
        } else if !self.invented.is_empty() {
            "invents"
        } else if !self.misnamed.is_empty() {
            "misnames"
        } else if !self.unchanged.is_empty() {
            "unchanged"
        } else if !self.times.is_empty() {
            "times"
        } else {
            "right"
        }
    }
}

/// Judges what came out of a command: see [`judge`].
#[must_use]
pub fn judge_output(
    output: &Output,
    expected: &Differences,
    image: &Path,
    container: &Path,
) -> Judgement {
    if output.status.success() {
        return judge(&parse(&output.stdout), expected, image, container);
    }
    let error = String::from_utf8_lossy(&output.stderr);
    // Without the paths of this run: what is wrong stands at the end.
    let error = error.trim().rsplit(": ").next().unwrap_or_default();
    Judgement {
        failed: Some(error.to_owned()),
        ..Judgement::default()
    }
}

/// Reads the output of `docker diff` or `podman diff`: a letter, a space and a raw path on each line.
#[must_use]
pub fn parse(output: &[u8]) -> Told {
    let mut told = Told::new();
    for line in output
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
    {
        let (letter, path) = match line {
            [letter @ (b'A' | b'C' | b'D'), b' ', path @ ..] => (*letter as char, path),
            // The rest of a name with a line end in it.
            rest => ('?', rest),
        };
        told.entry(plimsoll_core::model::escape(path).to_string())
            .or_default()
            .insert(letter);
    }
    told
}

/// Judges what was told of the container's tree, `expected` being what the referee says of it.
#[must_use]
pub fn judge(told: &Told, expected: &Differences, image: &Path, container: &Path) -> Judgement {
    let mut found = Judgement::default();
    for (path, (kind, aspects)) in expected {
        let letters = told.get(path);
        let fits = |letter: &char| letter == kind || (*kind == 'T' && *letter == 'C');
        if letters.is_some_and(|letters| letters.iter().any(fits)) {
            continue;
        }
        // Beneath a nested subvolume, which is a directory to whoever asks by path.
        let both = *kind == 'A' && stat(image, path).is_some();
        if both && letters.is_some_and(|letters| letters.contains(&'C')) {
            continue;
        }
        let replaced = |letters: &BTreeSet<char>| letters.contains(&'A') && letters.contains(&'D');
        if *kind == 'T' && letters.is_some_and(replaced) {
            continue;
        }
        if let Some(letters) = letters {
            let letters: String = letters.iter().collect();
            found.misnamed.push(format!("{path}: {letters} for {kind}"));
        } else if !above(path).any(|above| stands_for(told, above, *kind)) {
            let why = why(path, aspects, image, container);
            found.missed.push(json!({"path": path, "why": why}));
        }
    }
    for (path, letters) in told {
        if expected.contains_key(path) {
            continue;
        }
        let beneath = format!("{}/", path.trim_end_matches('/'));
        let (before, after) = (stat(image, path), stat(container, path));
        for letter in letters {
            match letter {
                'C' if expected.keys().any(|other| other.starts_with(&beneath)) => {}
                'C' => match (&before, &after) {
                    (Some(before), Some(after)) if mtime(before) != mtime(after) => {
                        found.times.push(path.clone());
                    }
                    (Some(_), Some(_)) => found.unchanged.push(path.clone()),
                    _ => found.invented.push(format!("C {path}")),
                },
                // Beneath what was deleted or became something else.
                'D' if before.is_some() && after.is_none() => {}
                _ => found.invented.push(format!("{letter} {path}")),
            }
        }
    }
    // A directory above one of which the times moved is named by convention.
    let times = found.times.clone();
    let holds = |path: &String| {
        times
            .iter()
            .any(|time| time.starts_with(&format!("{path}/")))
    };
    found.unchanged.retain(|path| !holds(path));
    found
}

fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/')
        .map(move |(at, _)| &path[..at])
        .filter(|above| !above.is_empty())
}

/// Whether what is told of a directory above stands for a change beneath.
fn stands_for(told: &Told, above: &str, kind: char) -> bool {
    let letters = told.get(above);
    letters.is_some_and(|letters| letters.contains(&kind) && (kind == 'A' || kind == 'D'))
}

/// What in the metadata makes it possible to miss a difference: the name of a note on the page.
fn why(path: &str, aspects: &[&str], image: &Path, container: &Path) -> &'static str {
    if path.contains('\\') {
        return "name";
    }
    if path == "/" {
        return "root";
    }
    let (Some(before), Some(after)) = (stat(image, path), stat(container, path)) else {
        return "other";
    };
    if aspects.is_empty() && before.file_type() == after.file_type() {
        return "subvolume";
    }
    let same_times = mtime(&before) == mtime(&after);
    let same_size = before.size() == after.size();
    match aspects {
        ["content"] if same_size && same_times => "content",
        ["target"] if same_size && same_times => "target",
        ["owner" | "xattr"] if before.is_dir() => "directory",
        ["xattr"] => "xattr",
        ["flags"] => "flags",
        _ => "other",
    }
}

fn stat(root: &Path, path: &str) -> Option<Metadata> {
    root.join(path.trim_start_matches('/'))
        .symlink_metadata()
        .ok()
}

fn mtime(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::{judge, parse};
    use crate::brute;
    use crate::command::shell;

    /// Two trees, the second one a copy that a script changed, and what a command said of it.
    fn mark(script: &str, output: &str) -> (&'static str, String) {
        let dir = tempfile::tempdir().expect("directory");
        let base = dir.path().display();
        shell(&format!(
            "cd {base}; mkdir -p image/d/e; echo a > image/d/a; echo b > image/b; ln -s x image/l
             cp -a image container; cd container; {script}"
        ));
        let (image, container) = (dir.path().join("image"), dir.path().join("container"));
        let expected = brute::compare(&image, &container);
        let found = judge(&parse(output.as_bytes()), &expected, &image, &container);
        (found.mark(), format!("{found:?}"))
    }

    #[test]
    fn each_mark() {
        let edit = "t=$(stat -c %y d/a); echo A > d/a; touch -d \"$t\" d/a";
        for (script, output, wanted) in [
            ("true", "", "right"),
            (edit, "C /d\nC /d/a\n", "right"),
            (edit, "C /d/a\n", "right"),
            (edit, "", "misses"),
            // A directory above is no answer.
            (edit, "C /d\n", "misses"),
            (edit, "C /d\nA /d/a\n", "misnames"),
            (edit, "C /d\nC /d/a\nC /b\n", "unchanged"),
            ("touch b", "C /b\n", "times"),
            ("touch d/a", "C /d\nC /d/a\n", "times"),
            ("true", "C /b\n", "unchanged"),
            ("true", "D /b\n", "invents"),
            ("true", "A /b\n", "invents"),
            ("true", "A /nowhere\n", "invents"),
            ("rm -r d", "D /d\n", "right"),
            ("rm -r d", "C /d\nD /d\nD /d/a\nD /d/e\n", "right"),
            ("rm -r d", "D /d/a\n", "misses"),
            ("rm -r d; mkdir d", "D /d\n", "invents"),
            ("rm -r d; mkdir d", "C /d\nD /d/a\nD /d/e\n", "right"),
            ("mkdir n; echo > n/f", "A /n\n", "right"),
            ("mkdir n; echo > n/f", "C /n\n", "misses"),
            ("rm b; mkdir b", "C /b\n", "right"),
            ("rm b; mkdir b", "D /b\nA /b\n", "right"),
            ("rm b; mkdir b", "D /b\n", "misnames"),
            ("touch $'n\\nm'", "A /n\nm\n", "misses"),
        ] {
            let (mark, found) = mark(script, output);
            assert_eq!(mark, wanted, "{script}, {output:?}: {found}");
        }
    }
}
