//! Operations on a tree that a process in a container can do, by groups.
//!
//! One list for every engine and for every other tool that says what changed. Here the operations are
//! only done. What must be reported is never written down: the brute-force referee says it.

mod attributes;
mod btrfs;
mod content;
mod directories;
mod image;
mod links;
mod names;
mod nothing;
mod tricks;
mod types;
mod xattrs;

pub use image::{build_flat_image, build_image};
pub use tricks::LATE_STORE;

use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, RenameFlags};

use crate::brute::Differences;

/// How an operation is done.
#[derive(Clone, Copy)]
pub enum Action {
    /// By a shell in the root of the container.
    Shell(&'static str),
    /// By a program in Python, for what no common program does.
    Python(&'static str),
    /// By a program in Python that says `ready`, and stays until the tree was compared.
    PythonThatStays(&'static str),
    /// By calls that no common program makes.
    Calls(fn(&Path) -> bool),
    /// By calls; what they return is kept open until the tree was compared.
    CallsThatHold(fn(&Path) -> Option<OwnedFd>),
}

/// One operation.
#[derive(Clone, Copy)]
pub struct Operation {
    /// Its name, unique.
    pub name: &'static str,
    /// What is done, in one line.
    pub done: &'static str,
    /// How it is done.
    pub action: Action,
}

/// Operations of one kind.
#[derive(Clone, Copy)]
pub struct Group {
    /// What they have in common.
    pub title: &'static str,
    /// The operations, most of them alone.
    pub operations: &'static [Operation],
    /// Whether something differs in the end.
    pub changes: bool,
    /// Whether only the root of a Btrfs subvolume will do.
    pub btrfs_only: bool,
}

/// Every operation.
pub const GROUPS: &[Group] = &[
    group(content::TITLE, content::OPERATIONS),
    group(tricks::TITLE, tricks::OPERATIONS),
    group(attributes::TITLE, attributes::OPERATIONS),
    group(xattrs::TITLE, xattrs::OPERATIONS),
    group(names::TITLE, names::OPERATIONS),
    group(directories::TITLE, directories::OPERATIONS),
    group(types::TITLE, types::OPERATIONS),
    group(links::TITLE, links::OPERATIONS),
    Group {
        title: nothing::TITLE,
        operations: nothing::OPERATIONS,
        changes: false,
        btrfs_only: false,
    },
    Group {
        title: btrfs::TITLE,
        operations: btrfs::OPERATIONS,
        changes: true,
        btrfs_only: true,
    },
];

/// Names an operation that the kernel here is known to get wrong; whoever sets it says so.
const LEFT_OUT: &str = "PLIMSOLL_OPERATION_LEFT_OUT";

/// Returns every operation.
pub fn all() -> impl Iterator<Item = &'static Operation> {
    let left_out = std::env::var(LEFT_OUT).ok();
    if let Some(name) = &left_out {
        let known = |o: &Operation| o.name == name;
        assert!(
            GROUPS
                .iter()
                .any(|group| group.operations.iter().any(known)),
            "{LEFT_OUT}: no operation is called \"{name}\""
        );
    }
    let operations = GROUPS.iter().flat_map(|group| group.operations);
    operations.filter(move |operation| left_out.as_deref() != Some(operation.name))
}

/// Returns the operations that can be tried on any file system.
pub fn anywhere() -> impl Iterator<Item = &'static Operation> {
    let anywhere = GROUPS.iter().filter(|group| !group.btrfs_only);
    anywhere.flat_map(|group| group.operations)
}

/// Returns the operation of this name.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn named(name: &str) -> &'static Operation {
    all()
        .find(|operation| operation.name == name)
        .unwrap_or_else(|| panic!("no operation is called \"{name}\""))
}

/// An operation that was done, or tried. What it holds open stays so until this is dropped.
#[derive(Debug)]
pub struct Performed {
    /// Whether the file system can do it at all.
    pub worked: bool,
    child: Option<Child>,
    file: Option<OwnedFd>,
}

impl Performed {
    fn worked(worked: bool) -> Self {
        Self {
            worked,
            child: None,
            file: None,
        }
    }

    /// Whether something is held open in the tree.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.child.is_some() || self.file.is_some()
    }
}

impl Drop for Performed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Operation {
    /// Returns what is wrong with the scenario itself: it was done, and the referee does not see what
    /// an operation of its group must leave. Else one that fails silently would pass everywhere.
    #[must_use]
    pub fn doubt(&self, performed: &Performed, expected: &Differences) -> Option<String> {
        let ours = |o: &Operation| o.name == self.name;
        let group = GROUPS
            .iter()
            .find(|group| group.operations.iter().any(ours))?;
        (performed.worked && group.changes == expected.is_empty()).then(|| {
            format!(
                "{}: done, and the referee says {expected:?}: not what \"{}\" is about",
                self.name, group.title
            )
        })
    }

    /// Does it in the tree at `root`.
    ///
    /// # Panics
    /// When a program cannot be started.
    #[must_use]
    pub fn perform(&self, root: &Path) -> Performed {
        match self.action {
            Action::Shell(script) => {
                let script = format!("{IO}{script}");
                Performed::worked(succeeds("/bin/bash", "-euc", &script, root))
            }
            Action::Python(script) => Performed::worked(succeeds("python3", "-c", script, root)),
            Action::PythonThatStays(script) => stays(script, root),
            Action::Calls(calls) => Performed::worked(calls(root)),
            Action::CallsThatHold(calls) => {
                let file = calls(root);
                Performed {
                    worked: file.is_some(),
                    child: None,
                    file,
                }
            }
        }
    }
}

/// xfs_io, which says what failed and succeeds nevertheless.
const IO: &str =
    "io() { local trouble; trouble=$(xfs_io \"$@\" 2>&1 >/dev/null) && [ -z \"$trouble\" ]; }\n";

fn program(name: &str, flag: &str, script: &str, root: &Path) -> Command {
    let mut command = Command::new(name);
    command
        .args([flag, script])
        .current_dir(root)
        .env("PATH", crate::command::PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn succeeds(name: &str, flag: &str, script: &str, root: &Path) -> bool {
    let status = program(name, flag, script, root).status();
    status
        .unwrap_or_else(|e| panic!("{name} cannot be started: {e}"))
        .success()
}

fn stays(script: &str, root: &Path) -> Performed {
    let mut child = program("python3", "-c", script, root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut line = String::new();
    let output = child.stdout.take().expect("its output");
    BufReader::new(output)
        .read_line(&mut line)
        .expect("its output");
    Performed {
        worked: line == "ready\n",
        child: Some(child),
        file: None,
    }
}

const fn group(title: &'static str, operations: &'static [Operation]) -> Group {
    Group {
        title,
        operations,
        changes: true,
        btrfs_only: false,
    }
}

const fn shell(name: &'static str, done: &'static str, script: &'static str) -> Operation {
    Operation {
        name,
        done,
        action: Action::Shell(script),
    }
}

const fn python(name: &'static str, done: &'static str, script: &'static str) -> Operation {
    Operation {
        name,
        done,
        action: Action::Python(script),
    }
}

const fn stay(name: &'static str, done: &'static str, script: &'static str) -> Operation {
    Operation {
        name,
        done,
        action: Action::PythonThatStays(script),
    }
}

const fn calls(name: &'static str, done: &'static str, calls: fn(&Path) -> bool) -> Operation {
    Operation {
        name,
        done,
        action: Action::Calls(calls),
    }
}

const fn hold(
    name: &'static str,
    done: &'static str,
    calls: fn(&Path) -> Option<OwnedFd>,
) -> Operation {
    Operation {
        name,
        done,
        action: Action::CallsThatHold(calls),
    }
}

fn exchange(root: &Path, a: &str, b: &str) -> bool {
    // Refused for directories where the overlay has no redirects: then nothing happened.
    rustix::fs::renameat_with(CWD, root.join(a), CWD, root.join(b), RenameFlags::EXCHANGE).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_fit_a_table() {
        let mut seen = BTreeSet::new();
        for operation in super::all() {
            assert!(
                seen.insert(operation.name),
                "{} is there twice",
                operation.name
            );
            for text in [operation.name, operation.done] {
                assert!(!text.is_empty() && !text.contains(['|', '\n']), "{text}");
            }
        }
    }
}
