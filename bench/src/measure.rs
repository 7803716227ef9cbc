//! Runs a program and takes its times and its peak of memory.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::results::Sample;

/// Where programs are run from.
#[derive(Debug)]
pub(crate) struct Stand {
    dir: tempfile::TempDir,
    floor: PathBuf,
}

/// One run.
#[derive(Debug)]
pub(crate) struct Run {
    /// What it took.
    pub(crate) sample: Sample,
    /// How it ended.
    pub(crate) status: i32,
    /// What it wrote to standard output, when that was kept.
    pub(crate) output: Vec<u8>,
    /// What it wrote to standard error.
    pub(crate) talk: String,
}

impl Stand {
    /// Takes the directory of the bare programs.
    pub(crate) fn new(floor: PathBuf) -> Self {
        Self {
            dir: tempfile::Builder::new()
                .prefix("plimsoll-bench-")
                .tempdir()
                .expect("temporary directory"),
            floor,
        }
    }

    /// Returns a directory that is removed at the end.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns a command of one of the bare programs.
    pub(crate) fn floor(&self, name: &str) -> Command {
        Command::new(self.floor.join(name))
    }

    /// Runs a command with an empty environment but for what it sets itself. Its output goes nowhere
    /// unless it is to be kept.
    pub(crate) fn run(&self, command: &Command, input: Option<&Path>, keep: bool) -> Run {
        let file = |name: &str| self.dir.path().join(name);
        let create = |name: &str| File::create(file(name)).expect("file");
        let mut launcher = self.floor("bench-run");
        launcher
            .arg(file("report"))
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .env("PATH", plimsoll_e2e::command::PATH)
            .env("HOME", "/root")
            .env("LC_ALL", "C")
            .env("PLIMSOLL_CONFIG", "/dev/null")
            .envs(
                command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .stdin(input.map_or_else(Stdio::null, |path| File::open(path).expect("input").into()))
            .stdout(if keep {
                create("output").into()
            } else {
                Stdio::null()
            })
            .stderr(create("talk"));
        let status = launcher.status().expect("bench-run: make -C bench/floor");
        let read = |name: &str| std::fs::read(file(name)).unwrap_or_default();
        let talk = String::from_utf8_lossy(&read("talk")).into_owned();
        assert!(status.success(), "{command:?}: {talk}");
        let report = String::from_utf8_lossy(&read("report")).into_owned();
        let numbers: Vec<u64> = report
            .split_whitespace()
            .map(|number| number.parse().expect("a number"))
            .collect();
        let [wall, user, system, peak, status] = numbers[..] else {
            panic!("bench-run wrote {report:?}");
        };
        Run {
            sample: Sample(wall, user, system, peak),
            status: i32::try_from(status).expect("a status"),
            output: if keep { read("output") } else { Vec::new() },
            talk,
        }
    }
}

/// Returns a command as it is written in a shell, with what it sets in the environment, and without
/// what is another one in each run: the top of the repository, identifiers, names of temporary
/// directories.
pub(crate) fn written(command: &Command) -> String {
    let environment = command.get_envs().filter_map(|(name, value)| {
        let value = value?;
        // Given to every program alike.
        (name != "PATH").then(|| format!("{}={}", name.display(), value.display()))
    });
    let words = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quoted(&word.to_owned()));
    let line = environment.chain(words).collect::<Vec<_>>().join(" ");
    let top = format!("{}/", crate::root().display());
    lasting(&line.replace(&top, ""))
}

/// Puts `ID` for each identifier, and takes the random end of each temporary directory's name away.
fn lasting(line: &str) -> String {
    let mut out = String::new();
    let is_part = |c: char| c.is_ascii_alphanumeric();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (part, after) = rest.split_at(length.max(first.len_utf8()));
        if part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            out.push_str("ID");
        } else if part.len() == 6 && TEMPORARY.iter().any(|name| out.ends_with(name)) {
            out.pop();
        } else {
            out.push_str(part);
        }
        rest = after;
    }
    out
}

/// The beginnings of temporary directories' names.
const TEMPORARY: &[&str] = &[
    "/plimsoll-bench-",
    "/plimsoll-dockerd-",
    "/plimsoll-fs-",
    "/plimsoll-podman-",
];

fn quoted(word: &OsString) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Empties the page cache and those of names and inodes.
pub(crate) fn drop_caches() {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").expect("drop_caches");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_another_one_in_each_run_is_not_written() {
        let id = "a".repeat(64);
        let line = format!("find /tmp/plimsoll-fs-aB3dE6/mnt/{id}-init 'x y' btrfs-secret");
        assert_eq!(
            lasting(&line),
            "find /tmp/plimsoll-fs/mnt/ID-init 'x y' btrfs-secret"
        );
    }

    #[test]
    fn words_of_a_shell() {
        let mut command = Command::new("sh");
        command.env("A", "b").args(["-c", "it's"]);
        assert_eq!(written(&command), r"A=b sh -c 'it'\''s'");
    }
}
