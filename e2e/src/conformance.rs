//! The conformance table: what is written down of each run, so that `cargo xtask conformance` can make
//! `docs/reference/conformance.md` of it.
//!
//! With `PLIMSOLL_CONFORMANCE_DIR` set, each test that runs scenarios adds a line of JSON for each of
//! them to a file there, named for its column. Without it nothing is written. Nothing is judged here.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::brute::Differences;
use crate::operations::GROUPS;
use crate::told::Judgement;

/// What a column is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Plimsoll on an overlay mount.
    Overlay,
    /// Plimsoll on a Btrfs subvolume.
    Btrfs,
    /// Plimsoll by the digests of both trees.
    Digest,
    /// Plimsoll on containers of a runtime.
    Container,
    /// The runtime's own command.
    Tool,
    /// Plimsoll on containers in one state.
    State,
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Btrfs => "btrfs",
            Self::Digest => "digest",
            Self::Container => "container",
            Self::Tool => "tool",
            Self::State => "state",
        }
    }
}

/// One column of the table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name in the results.
    pub id: &'static str,
    /// Its name on the page.
    pub title: &'static str,
    /// What it is about.
    pub part: Part,
}

const fn column(part: Part, id: &'static str, title: &'static str) -> Column {
    Column { id, title, part }
}

/// Every column.
pub const COLUMNS: &[Column] = &[
    column(Part::Overlay, "ext4", "ext4"),
    column(Part::Overlay, "xfs", "XFS"),
    column(Part::Overlay, "btrfs", "Btrfs"),
    column(Part::Overlay, "ext4-redirect", "ext4, `redirect_dir=on`"),
    column(
        Part::Overlay,
        "ext4-metacopy",
        "ext4, `metacopy=on,redirect_dir=on`",
    ),
    column(
        Part::Overlay,
        "xfs-metacopy-index",
        "XFS, `metacopy=on,index=on`",
    ),
    column(Part::Overlay, "ext4-index", "ext4, `index=on`"),
    column(Part::Overlay, "btrfs-index", "Btrfs, `index=on`"),
    column(
        Part::Overlay,
        "ext4-nfs-export",
        "ext4, `index=on,nfs_export=on`",
    ),
    column(Part::Overlay, "ext4-userxattr", "ext4, `userxattr`"),
    column(Part::Overlay, "xfs-volatile", "XFS, `volatile`"),
    column(Part::Overlay, "ext4-xino", "ext4, `xino=on,uuid=off`"),
    column(
        Part::Overlay,
        "ext4-xwhiteouts",
        "ext4, the image deletes by xattrs",
    ),
    column(
        Part::Overlay,
        "ext4-data-only",
        "ext4, image with a data-only layer",
    ),
    column(
        Part::Overlay,
        "xfs-data-only",
        "XFS, image with a data-only layer",
    ),
    column(
        Part::Overlay,
        "ext4-nested",
        "ext4, the image is an overlay mount",
    ),
    column(Part::Btrfs, "subvolume", "default"),
    column(Part::Btrfs, "subvolume-zlib", "`compress-force=zlib`"),
    column(
        Part::Btrfs,
        "subvolume-zstd",
        "`compress-force=zstd,max_inline=0`",
    ),
    column(
        Part::Btrfs,
        "subvolume-sha256",
        "`mkfs.btrfs --csum sha256`",
    ),
    column(Part::Btrfs, "subvolume-nodatacow", "`nodatacow`"),
    column(
        Part::Digest,
        "digest",
        "MD5, SHA-256, BLAKE3, on overlay and Btrfs",
    ),
    column(
        Part::Container,
        "in-docker-overlay2",
        "Docker, overlay2 on XFS",
    ),
    column(Part::Container, "in-docker-btrfs", "Docker, Btrfs"),
    column(
        Part::Container,
        "in-containerd-overlayfs",
        "containerd, overlayfs on XFS",
    ),
    column(Part::Container, "in-containerd-btrfs", "containerd, Btrfs"),
    column(Part::Container, "in-podman", "Podman, overlay on ext4"),
    column(
        Part::Container,
        "in-podman-fuse",
        "Podman, fuse-overlayfs on ext4",
    ),
    column(
        Part::Tool,
        "docker-diff-overlay2",
        "`docker diff`, overlay2",
    ),
    column(Part::Tool, "docker-diff-btrfs", "`docker diff`, Btrfs"),
    column(Part::Tool, "podman-diff", "`podman diff`, overlay"),
    column(
        Part::Tool,
        "podman-diff-fuse",
        "`podman diff`, fuse-overlayfs",
    ),
    column(Part::State, "running", "running"),
    column(Part::State, "paused", "paused"),
    column(Part::State, "daemon-dead", "running, daemon killed"),
    column(Part::State, "exited", "exited"),
    column(Part::State, "exited-daemon-dead", "exited, daemon killed"),
    column(Part::State, "created", "created, never started"),
    column(
        Part::State,
        "created-then-run",
        "created, changed, then started",
    ),
];

/// Scenarios that are more than an operation in the container: name, what is done. Tests of their own
/// do them, on Btrfs.
pub const OF_THE_HOST: &[(&str, &str)] = &[
    (
        "balance",
        "every block of the file system is moved after a line was written and a file deleted",
    ),
    ("mounted again", "the file system is unmounted and mounted"),
    (
        "an inode number used again",
        "the file of the highest number is deleted; after a remount a new file gets its number",
    ),
    (
        "power cut after fsync",
        "the log is replayed over an overwritten file, with its time put back, and a new one",
    ),
    (
        "not a snapshot of the image",
        "a subvolume filled by hand: there is no common history, so digests decide",
    ),
    (
        "the image has a nested subvolume",
        "which is empty in every snapshot of it",
    ),
    (
        "two names of one hash",
        "files and xattrs whose names share one item; each deleted, swapped, rewritten",
    ),
    (
        "three hundred names of one file",
        "more than one item holds; written through one of them, some deleted",
    ),
];

/// The group of [`OF_THE_HOST`].
pub const OF_THE_HOST_TITLE: &str = "Btrfs, what a host does";

/// Scenarios of every group but those of Btrfs, for containers in each state.
pub const IN_EACH_STATE: &[&str] = &[
    "read and list",
    "rename a directory away and back",
    "overwrite, same size",
    "punch a hole",
    "overwrite, same size and old mtime",
    "swap two files by renames",
    "xattrs that look like overlay marks",
    "set-uid bit",
    "chown a directory",
    "file capability",
    "names that are not text",
    "rename a file into another directory",
    "delete a directory",
    "delete and make a directory, some of it the same",
    "rename a directory and change in it",
    "file becomes link",
    "device gets other numbers",
    "write through one of several names",
];

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// The group that it stands in.
    pub group: &'static str,
    /// Its name, unique.
    pub name: &'static str,
    /// What is done.
    pub done: &'static str,
    /// Where it can be tried: `anywhere`, in a subvolume of `btrfs`, or as a `host` with Btrfs.
    pub needs: &'static str,
}

/// Returns every scenario.
pub fn scenarios() -> impl Iterator<Item = Scenario> {
    let operations = GROUPS.iter().flat_map(|group| {
        group.operations.iter().map(|operation| Scenario {
            group: group.title,
            name: operation.name,
            done: operation.done,
            needs: if group.btrfs_only {
                "btrfs"
            } else {
                "anywhere"
            },
        })
    });
    let of_the_host = OF_THE_HOST.iter().map(|(name, done)| Scenario {
        group: OF_THE_HOST_TITLE,
        name,
        done,
        needs: "host",
    });
    operations.chain(of_the_host)
}

/// Returns what the page must be made from: every column and every scenario, in their order.
#[must_use]
pub fn outline() -> Value {
    let columns = COLUMNS
        .iter()
        .map(|c| json!({"id": c.id, "title": c.title, "part": c.part.as_str()}));
    let scenarios = scenarios()
        .map(|s| json!({"group": s.group, "name": s.name, "done": s.done, "needs": s.needs}));
    json!({
        "columns": columns.collect::<Vec<_>>(),
        "scenarios": scenarios.collect::<Vec<_>>(),
        "states": IN_EACH_STATE,
    })
}

/// Returns where the results of this run are to be written, if anywhere.
#[must_use]
pub fn directory() -> Option<PathBuf> {
    std::env::var_os("PLIMSOLL_CONFORMANCE_DIR").map(PathBuf::from)
}

/// Writes down what came out in one column.
#[derive(Debug)]
pub struct Record {
    column: &'static Column,
    dir: Option<PathBuf>,
}

impl Record {
    /// Returns the record of a column.
    ///
    /// # Panics
    /// When there is no such column.
    #[must_use]
    pub fn of(id: &str) -> Self {
        let column = COLUMNS.iter().find(|column| column.id == id);
        Self {
            column: column.unwrap_or_else(|| panic!("no column is called \"{id}\"")),
            dir: directory(),
        }
    }

    /// Writes down what an engine said of a scenario: whether it could be done there, what the referee
    /// says, and whether the engine said exactly that.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn engine(&self, scenario: &str, worked: bool, expected: &Differences, exact: bool) {
        let mark = match (worked, exact) {
            (_, false) => "wrong",
            (true, true) => "exact",
            (false, true) => "impossible",
        };
        self.word(scenario, mark, expected);
    }

    /// Writes down one word of a scenario, where it is another one.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn word(&self, scenario: &str, mark: &str, expected: &Differences) {
        self.write(scenario, json!({"mark": mark, "expected": shown(expected)}));
    }

    /// Writes down what another tool said of a scenario.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn tool(&self, scenario: &str, worked: bool, expected: &Differences, found: &Judgement) {
        let mark = if worked { found.mark() } else { "impossible" };
        self.write(
            scenario,
            json!({
                "mark": mark,
                "expected": shown(expected),
                "missed": found.missed,
                "invented": found.invented,
                "misnamed": found.misnamed,
                "unchanged": found.unchanged,
                "times": found.times,
                "failed": found.failed,
            }),
        );
    }

    /// Writes down what the column was made with.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn version(&self, version: &str) {
        self.line(&json!({"column": self.column.id, "version": version}));
    }

    fn write(&self, scenario: &str, mut cell: Value) {
        assert!(
            scenarios().any(|known| known.name == scenario),
            "no scenario is called \"{scenario}\""
        );
        cell["column"] = self.column.id.into();
        cell["scenario"] = scenario.into();
        self.line(&cell);
    }

    fn line(&self, value: &Value) {
        let Some(dir) = &self.dir else { return };
        let path = dir.join(format!("{}.jsonl", self.column.id));
        // Whole lines at once: tests beside each other write to one column.
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{value}\n").as_bytes()))
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

/// What the referee says, a string a path: `C /etc/small content`. Very long paths are cut.
fn shown(differences: &Differences) -> Vec<String> {
    let one = |(path, (kind, aspects)): (&String, &(char, Vec<&str>))| {
        const LONGEST: usize = 60;
        let aspects = aspects.join(", ");
        let path = match path.char_indices().nth(LONGEST) {
            Some((at, _)) => format!("{}…", &path[..at]),
            None => path.clone(),
        };
        format!("{kind} {path} {aspects}").trim_end().to_owned()
    };
    differences.iter().map(one).collect()
}
