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
    /// Its name in the plot.
    pub(crate) short: &'static str,
    /// Its name on the pages.
    pub(crate) label: &'static str,
    /// What it is.
    pub(crate) role: Role,
    /// What it goes by, and what it gets wrong by its nature.
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
        "`plimsoll check`",
        Role::Plimsoll,
        "by the data root; exact: the answer is the truth",
    ),
    about(
        "plimsoll-socket",
        "plimsoll check, by the socket",
        "`plimsoll check --docker-host`",
        Role::Plimsoll,
        "exact: the same, with one question over the daemon's socket",
    ),
    about(
        "plimsoll-never",
        "plimsoll check --confirm never",
        "`plimsoll check --confirm never`",
        Role::Plimsoll,
        "metadata alone: what was written to and is the same is told as unconfirmed",
    ),
    about(
        "plimsoll-blake3",
        "plimsoll --engine digest, BLAKE3",
        "`plimsoll check --engine digest`, BLAKE3",
        Role::Plimsoll,
        "exact; reads every file, with 2 threads, and compares with stored digests",
    ),
    about(
        "plimsoll-sha256",
        "plimsoll --engine digest, SHA-256",
        "`plimsoll check --engine digest`, SHA-256",
        Role::Plimsoll,
        "the same",
    ),
    about(
        "plimsoll-md5",
        "plimsoll --engine digest, MD5",
        "`plimsoll check --engine digest`, MD5",
        Role::Plimsoll,
        "the same, against who does not forge: MD5 is broken",
    ),
    about(
        "floor-overlay",
        "walk of upper, bare",
        "floor: getdents and statx over upper",
        Role::Floor,
        "answers nothing",
    ),
    about(
        "floor-btrfs",
        "syncfs and tree search, bare",
        "floor: syncfs and a pruned tree search",
        Role::Floor,
        "answers nothing",
    ),
    about(
        "floor-btrfs-nosync",
        "tree search, bare",
        "floor: a pruned tree search, nothing committed first",
        Role::Floor,
        "answers nothing, and does not see what was written last",
    ),
    about(
        "floor-compare",
        "comparison, bare",
        "floor: the same pairs of files, byte by byte",
        Role::Floor,
        "is told which files to read",
    ),
    about(
        "start",
        "plimsoll --version",
        "floor: `plimsoll --version`, the start alone",
        Role::Floor,
        "answers nothing",
    ),
    about(
        "get-bare",
        "one GET, bare",
        "floor: one GET over the daemon's socket",
        Role::Floor,
        "answers nothing",
    ),
    about(
        "get-curl",
        "one GET, curl",
        "`curl`: one GET over the daemon's socket",
        Role::Floor,
        "answers nothing",
    ),
    about(
        "find-upper",
        "find UPPER",
        "`find UPPER`",
        Role::Peer,
        "names whatever was opened for writing, changed or not, and does not say what became of it; somebody has to know where upper is",
    ),
    about(
        "find-new",
        "btrfs subvolume find-new",
        "`btrfs subvolume find-new`",
        Role::Peer,
        "goes by new extents: does not see what is deleted or has another mode, and names files rewritten with the same bytes",
    ),
    about(
        "btrfs-send",
        "snapshot, btrfs send --no-data",
        "snapshot, `btrfs send --no-data`",
        Role::Peer,
        "names files rewritten with the same bytes; writes a snapshot each time; that its stream must be decoded is not in the time",
    ),
    about(
        "podman-diff",
        "podman diff",
        "`podman diff`",
        Role::Peer,
        "overlay: names whatever lies in upper; btrfs: believes size and time; names `/etc`, where Podman itself makes a link",
    ),
    about(
        "docker-diff",
        "docker diff",
        "`docker diff`",
        Role::Peer,
        "believes size and time: does not see an edit that puts the time back; time and memory of the daemon's processors are not counted",
    ),
    about(
        "ctr-diff",
        "ctr snapshots diff",
        "`ctr snapshots diff`",
        Role::Peer,
        "reads the content where the time has no nanoseconds, as in these images, else believes size and time; makes a layer of what changed; the daemon's part is not counted",
    ),
    about(
        "b3sum-2",
        "b3sum, 2 processes",
        "`b3sum`, 2 processes",
        Role::Peer,
        "content of regular files alone: no mode, owner, link; needs digests taken before",
    ),
    about(
        "md5sum-2",
        "md5sum, 2 processes",
        "`md5sum`, 2 processes",
        Role::Peer,
        "the same",
    ),
    about(
        "md5sum-1",
        "md5sum",
        "`md5sum`, 1 process",
        Role::Peer,
        "the same",
    ),
    about(
        "sha256sum-2",
        "sha256sum, 2 processes",
        "`sha256sum`, 2 processes",
        Role::Peer,
        "the same",
    ),
    about(
        "sha256sum-1",
        "sha256sum",
        "`sha256sum`, 1 process",
        Role::Peer,
        "the same",
    ),
    about(
        "rsync",
        "rsync -anc",
        "`rsync -anc --delete -i`",
        Role::Peer,
        "reads both trees: needs the image's tree at hand",
    ),
    about(
        "aide",
        "aide, 2 workers",
        "`aide --check`, 2 workers",
        Role::Peer,
        "reads every file; needs a database made before",
    ),
];

const fn about(
    tool: &'static str,
    short: &'static str,
    label: &'static str,
    role: Role,
    note: &'static str,
) -> About {
    About {
        tool,
        short,
        label,
        role,
        note,
    }
}
