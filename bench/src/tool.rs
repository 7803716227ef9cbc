//! A tool: what it is called, how it is run at one place, and how its answer is read.

use std::path::PathBuf;
use std::process::Command;

use crate::told::Told;

/// How a tool's output becomes the paths that it names.
pub(crate) type Reader = Box<dyn Fn(&[u8]) -> Told>;

/// Undoes what a run leaves; not part of what is measured.
pub(crate) type Undo = Box<dyn Fn()>;

/// A tool at one place.
pub(crate) struct Task {
    /// Its name, which the results go by.
    pub(crate) tool: &'static str,
    /// The command.
    pub(crate) command: Command,
    /// What it reads from standard input.
    pub(crate) input: Option<PathBuf>,
    /// How its answer is read; none when it is not asked which files differ.
    pub(crate) reader: Option<Reader>,
    /// What is done after each run.
    pub(crate) undo: Option<Undo>,
    /// The exit codes that are no failure: 0 up to this one.
    pub(crate) highest_exit: i32,
}

impl Task {
    /// Takes a command that ends with 0.
    pub(crate) fn new(tool: &'static str, command: Command) -> Self {
        Self {
            tool,
            command,
            input: None,
            reader: None,
            undo: None,
            highest_exit: 0,
        }
    }

    /// Says how its answer is read.
    pub(crate) fn told(mut self, reader: impl Fn(&[u8]) -> Told + 'static) -> Self {
        self.reader = Some(Box::new(reader));
        self
    }

    /// Says which exit codes are no failure.
    pub(crate) fn exits(mut self, highest: i32) -> Self {
        self.highest_exit = highest;
        self
    }
}

/// What a tool is, for the pages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About {
    /// Its name in the results.
    pub(crate) tool: &'static str,
    /// Its name on the pages.
    pub(crate) label: &'static str,
    /// What it is.
    pub(crate) role: Role,
    /// What it does not see or sees wrongly, by its nature.
    pub(crate) note: &'static str,
}

/// What a tool is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Plimsoll itself, in one of its ways.
    Plimsoll,
    /// A tool that somebody would use in its place.
    Peer,
    /// The least that has to be done, which answers nothing.
    Floor,
}

/// Every tool, in the order of the pages.
pub(crate) const TOOLS: &[About] = &[
    about(
        "plimsoll",
        "plimsoll check",
        Role::Plimsoll,
        "exact: the answer is the truth",
    ),
    about(
        "plimsoll-socket",
        "plimsoll check, asking the daemon",
        Role::Plimsoll,
        "exact: the same, with one question over the daemon's socket",
    ),
    about(
        "plimsoll-never",
        "plimsoll check --confirm never",
        Role::Plimsoll,
        "names files that were written to and are the same, as unconfirmed",
    ),
    about(
        "plimsoll-blake3",
        "plimsoll check --engine digest, BLAKE3, stored digests",
        Role::Plimsoll,
        "exact: reads every file; 2 threads",
    ),
    about(
        "plimsoll-sha256",
        "plimsoll check --engine digest, SHA-256, stored digests",
        Role::Plimsoll,
        "exact: reads every file; 2 threads",
    ),
    about(
        "plimsoll-md5",
        "plimsoll check --engine digest, MD5, stored digests",
        Role::Plimsoll,
        "exact on what nobody forged: MD5 is broken; 2 threads",
    ),
    about(
        "floor-overlay",
        "floor: getdents and statx over upper",
        Role::Floor,
        "answers nothing",
    ),
    about(
        "floor-btrfs",
        "floor: syncfs and one pruned tree search",
        Role::Floor,
        "answers nothing",
    ),
    about(
        "floor-btrfs-nosync",
        "floor: one pruned tree search, nothing committed first",
        Role::Floor,
        "answers nothing, and does not see the last half minute",
    ),
    about(
        "floor-compare",
        "floor: the same pairs of files, byte by byte",
        Role::Floor,
        "is told which files to read",
    ),
    about(
        "get-bare",
        "floor: one GET over the daemon's socket",
        Role::Floor,
        "answers nothing",
    ),
    about(
        "get-curl",
        "curl: one GET over the daemon's socket",
        Role::Floor,
        "answers nothing",
    ),
    about(
        "find-upper",
        "find UPPER",
        Role::Peer,
        "names whatever was opened for writing, changed or not; a deleted file looks like a device; needs the layer's place on disk",
    ),
    about(
        "find-new",
        "btrfs subvolume find-new",
        Role::Peer,
        "sees new extents alone: no deletion, no change of mode; names files rewritten with the same bytes",
    ),
    about(
        "btrfs-send",
        "snapshot, btrfs send --no-data",
        Role::Peer,
        "names files rewritten with the same bytes; writes a snapshot; its stream has yet to be read (btrfs receive --dump, not in the time)",
    ),
    about(
        "podman-diff",
        "podman diff",
        Role::Peer,
        "by what lies in upper (overlay), by size and time (btrfs)",
    ),
    about(
        "docker-diff",
        "docker diff",
        Role::Peer,
        "believes size and time: does not see an edit that puts the time back; most of its work is in the daemon, whose CPU time and memory are not counted",
    ),
    about(
        "ctr-diff",
        "ctr snapshots diff",
        Role::Peer,
        "believes size and time where the time has nanoseconds; makes a layer of what changed, in the daemon",
    ),
    about(
        "b3sum-2",
        "b3sum, 2 processes",
        Role::Peer,
        "content of regular files alone: no modes; compared with digests taken before",
    ),
    about(
        "md5sum-2",
        "md5sum, 2 processes",
        Role::Peer,
        "content of regular files alone: no modes; compared with digests taken before",
    ),
    about(
        "md5sum-1",
        "md5sum, 1 process",
        Role::Peer,
        "content of regular files alone: no modes; compared with digests taken before",
    ),
    about(
        "sha256sum-2",
        "sha256sum, 2 processes",
        Role::Peer,
        "content of regular files alone: no modes; compared with digests taken before",
    ),
    about(
        "sha256sum-1",
        "sha256sum, 1 process",
        Role::Peer,
        "content of regular files alone: no modes; compared with digests taken before",
    ),
    about(
        "rsync",
        "rsync -anc --delete -i",
        Role::Peer,
        "reads both trees; needs the image's tree at hand",
    ),
    about(
        "aide",
        "aide --check, 2 workers",
        Role::Peer,
        "reads every file; needs a database made before",
    ),
];

const fn about(tool: &'static str, label: &'static str, role: Role, note: &'static str) -> About {
    About {
        tool,
        label,
        role,
        note,
    }
}
