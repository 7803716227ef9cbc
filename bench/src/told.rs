//! What each tool says, as the set of paths that differ according to it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::changes::{Kind, Truth};
use crate::results::Answer;

/// Paths from the container's root, with a slash in front.
pub(crate) type Told = BTreeSet<String>;

/// Examples of what a tool invents that are kept.
const EXAMPLES: usize = 5;

/// Holds what a tool said against the truth. A directory above a change is nobody's error: many tools
/// name these, since the directory's time moved or since they hold it themselves.
pub(crate) fn judge(truth: &Truth, told: &Told) -> Answer {
    let differs = |kind: Kind| kind != Kind::Rewritten;
    let mut answer = Answer {
        differ: truth.values().filter(|kind| differs(**kind)).count(),
        ..Answer::default()
    };
    for (_, kind) in truth.iter().filter(|(path, _)| !told.contains(*path)) {
        if differs(*kind) {
            *answer.missed.entry(*kind).or_default() += 1;
        }
    }
    for path in told {
        match truth.get(path) {
            Some(kind) if differs(*kind) => {}
            Some(kind) => *answer.invented.entry(*kind).or_default() += 1,
            None if is_above(truth, path) => {}
            None => {
                answer.untouched += 1;
                if answer.examples.len() < EXAMPLES {
                    answer.examples.push(path.clone());
                }
            }
        }
    }
    answer
}

fn is_above(truth: &Truth, path: &str) -> bool {
    let beneath = format!("{}/", path.trim_end_matches('/'));
    truth
        .range(beneath.clone()..)
        .next()
        .is_some_and(|(first, _)| first.starts_with(&beneath))
}

fn lines(output: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(output)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Plimsoll's report of one container.
pub(crate) fn plimsoll(output: &[u8]) -> Told {
    changes(output, |_| String::new())
}

/// The same of several: a path stands beneath the container's name.
pub(crate) fn plimsoll_each(output: &[u8]) -> Told {
    changes(output, |name| format!("/{name}"))
}

/// Everything must have been seen. What the runtime writes itself is told too, and is no change.
fn changes(output: &[u8], beneath: impl Fn(&str) -> String) -> Told {
    let report: Value = serde_json::from_slice(output).expect("a report");
    let nothing = Value::Array(Vec::new());
    assert_eq!(report["gaps"], nothing, "gaps of the run");
    let containers = report["containers"].as_array().expect("containers");
    assert!(!containers.is_empty(), "no container was looked at");
    let mut told = Told::new();
    for container in containers {
        let name = container["name"].as_str().expect("a name");
        assert_eq!(container["gaps"], nothing, "{name}");
        for change in container["changes"].as_array().expect("changes") {
            if change["rule"] != "builtin-runtime" {
                let path = change["path"].as_str().unwrap_or("not UTF-8");
                told.insert(format!("{}{path}", beneath(name)));
            }
        }
    }
    told
}

/// `docker diff`, `podman diff`: a letter and a path.
pub(crate) fn letters(output: &[u8]) -> Told {
    let lines = lines(output);
    lines
        .iter()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, path)| path.to_owned())
        .collect()
}

/// A layer's archive, as `ctr snapshots diff` writes it.
pub(crate) fn layer(output: &[u8]) -> Told {
    let mut archive = tar::Archive::new(output);
    let mut told = Told::new();
    for entry in archive.entries().expect("a tar archive") {
        let entry = entry.expect("entry");
        let path = entry.path().expect("path").display().to_string();
        let path = format!("/{}", path.trim_start_matches("./").trim_matches('/'));
        told.insert(path.replace("/.wh.", "/"));
    }
    told.remove("/");
    told
}

/// Paths alone, beneath a directory.
pub(crate) fn paths(output: &[u8], beneath: &str) -> Told {
    let lines = lines(output);
    lines
        .iter()
        .filter_map(|line| line.strip_prefix(beneath))
        .map(str::to_owned)
        .collect()
}

/// Digests with relative paths, as `sha256sum` writes them.
pub(crate) fn digests(output: &[u8]) -> BTreeMap<String, String> {
    let lines = lines(output);
    lines
        .iter()
        .filter_map(|line| line.split_once("  "))
        .map(|(digest, path)| (path.trim_start_matches('.').to_owned(), digest.to_owned()))
        .collect()
}

/// What differs between two lists of digests.
pub(crate) fn between(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Told {
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path))
        .cloned()
        .collect()
}

/// `aide --check` with `report_level=list_entries`: `f > ... C    : /path`.
pub(crate) fn aide(output: &[u8]) -> Told {
    let lines = lines(output);
    lines
        .iter()
        .filter_map(|line| line.split_once(": /"))
        .filter(|(marks, _)| {
            marks.starts_with(['f', 'd', 'l', 'b', 'c', 'p', 's']) && marks.len() > 10
        })
        .filter(|(marks, _)| !marks.contains("database"))
        .map(|(_, path)| format!("/{path}"))
        .collect()
}

/// `rsync -anci --delete`: eleven marks and a path, or `*deleting`. What differs only in its time
/// does not differ.
pub(crate) fn rsync(output: &[u8]) -> Told {
    let lines = lines(output);
    lines
        .iter()
        .filter_map(|line| line.split_once(' '))
        .filter(|(marks, _)| *marks == "*deleting" || (marks.len() == 11 && !only_time(marks)))
        .map(|(_, path)| format!("/{}", path.trim_start().trim_matches('/')))
        .collect()
}

fn only_time(marks: &str) -> bool {
    marks.starts_with('.') && marks[2..].chars().all(|mark| mark == '.' || mark == 't')
}

/// `btrfs subvolume find-new`: the path stands behind the flags.
pub(crate) fn find_new(output: &[u8]) -> Told {
    let lines = lines(output);
    lines
        .iter()
        .filter_map(|line| line.split_once(" flags "))
        .filter_map(|(_, rest)| rest.split_once(' '))
        .map(|(_, path)| format!("/{path}"))
        .collect()
}

/// `btrfs receive --dump`: the paths in a stream, by the names that they have in the end. Times alone
/// are no difference.
pub(crate) fn stream(output: &[u8]) -> Told {
    let lines = lines(output);
    let mut told = Told::new();
    for line in &lines {
        let mut words = line.split_whitespace();
        let (Some(operation), Some(path)) = (words.next(), words.next()) else {
            continue;
        };
        if matches!(operation, "utimes" | "snapshot" | "subvol") {
            continue;
        }
        let target = words.find_map(|word| word.strip_prefix("dest="));
        // What is made gets a name of the stream's own first, and what is replaced last.
        if operation == "rename" {
            told.extend(target.and_then(beneath_snapshot));
        }
        told.extend(beneath_snapshot(path));
    }
    told.retain(|path| !is_of_stream(path));
    told
}

/// `./snapshot/usr/bin` is `/usr/bin`.
fn beneath_snapshot(path: &str) -> Option<String> {
    let (_, path) = path.strip_prefix("./")?.split_once('/')?;
    Some(format!("/{path}"))
}

/// `/o258-12-0`, a name until the right one is free.
fn is_of_stream(path: &str) -> bool {
    let numbers = path.strip_prefix("/o").map(|rest| rest.split('-'));
    numbers.is_some_and(|mut numbers| numbers.all(|n| n.parse::<u64>().is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(paths: &[&str]) -> Told {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn an_answer_and_the_truth() {
        let truth: Truth = [
            ("/a/edited", Kind::Edited),
            ("/a/b/gone", Kind::Deleted),
            ("/a/same", Kind::Rewritten),
        ]
        .map(|(path, kind)| (path.to_owned(), kind))
        .into();
        let exact = judge(&truth, &told(&["/a", "/a/b", "/a/edited", "/a/b/gone"]));
        assert!(exact.is_exact());
        assert_eq!(exact.differ, 2);
        let wrong = judge(&truth, &told(&["/a/same", "/a/b/gone", "/a/other", "/c"]));
        assert_eq!(wrong.missed, [(Kind::Edited, 1)].into());
        assert_eq!(wrong.invented, [(Kind::Rewritten, 1)].into());
        assert_eq!(wrong.untouched, 2);
    }

    #[test]
    fn what_rsync_says() {
        let output = b"*deleting   a/gone\n>fc.t...... a/edited\n.d..t...... a/\n.f...p..... m\n.f..t...... t\n>f+++++++++ new\n";
        assert_eq!(rsync(output), told(&["/a/gone", "/a/edited", "/m", "/new"]));
    }

    #[test]
    fn what_find_new_says() {
        let output = b"inode 8 file offset 0 len 9 disk start 0 offset 0 gen 9 flags INLINE etc/passwd\ntransid marker was 9\n";
        assert_eq!(find_new(output), told(&["/etc/passwd"]));
    }

    #[test]
    fn what_a_stream_says() {
        let output = b"snapshot        ./s uuid=1 transid=2\nmkfile          ./s/o258-9-0\nrename          ./s/o258-9-0  dest=./s/etc/new\nutimes          ./s/etc  atime=1\nupdate_extent   ./s/etc/passwd  offset=0 len=9\nunlink          ./s/gone\n";
        assert_eq!(stream(output), told(&["/etc/new", "/etc/passwd", "/gone"]));
    }

    #[test]
    fn what_digests_say() {
        let before = digests(b"aa  ./x\nbb  ./y\n");
        assert_eq!(
            between(&before, &digests(b"aa  ./x\ncc  ./z\n")),
            told(&["/y", "/z"])
        );
    }
}
