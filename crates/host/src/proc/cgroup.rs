//! The control groups of a container, and the processes in them.
//!
//! Every runtime names a container's group after its id, with every driver and parent
//! (`/docker/<id>`, `/system.slice/docker-<id>.scope`, `/machine.slice/libpod-<id>.scope`).

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use plimsoll_core::model::ContainerId;
use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::fs::{read_small_at, read_small_bytes};

/// Where the hierarchies are mounted.
pub(super) const ROOT: &str = "/sys/fs/cgroup";

/// Deepest group beneath a container's own that is looked into. Groups are made by the container
/// itself where it may.
const DEPTH_MAX: usize = 64;

/// A group of one hierarchy that is the container's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// The hierarchy's controllers; empty for the unified hierarchy.
    pub(crate) controllers: Vec<u8>,
    /// Its directory.
    pub(crate) dir: PathBuf,
}

/// The processes and threads of a container, by their numbers on the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Members {
    pub(crate) processes: Vec<u32>,
    pub(crate) threads: Vec<u32>,
}

/// Returns the groups of process `pid` that are named after the container: no other one may be
/// frozen, and no other one's processes are the container's.
///
/// # Errors
/// A sentence, when they cannot be read or there is none.
pub(crate) fn own(pid: u32, id: &ContainerId) -> Result<Vec<Group>, String> {
    let text = groups_of(pid)?;
    let groups: Vec<Group> = named(&text, id).collect();
    if groups.is_empty() {
        return Err(none_of(pid));
    }
    Ok(groups)
}

/// Whether the processes of a container are frozen by its own group.
pub(crate) fn is_frozen(pid: u32, id: &ContainerId) -> bool {
    own(pid, id).is_ok_and(|groups| groups.iter().any(|group| says_frozen(&group.dir)))
}

/// Whether a process is frozen by any group that it is in.
pub(crate) fn is_frozen_by_any(pid: u32) -> bool {
    let Ok(text) = groups_of(pid) else {
        return false;
    };
    let lines = text.split(|b| *b == b'\n').filter_map(|line| {
        let mut fields = line.splitn(3, |b| *b == b':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let climbs = |path: &[u8]| path.split(|b| *b == b'/').any(|part| part == b"..");
    lines
        .filter(|(_, path)| !climbs(path))
        .flat_map(|(controllers, path)| directories(controllers, path))
        .any(|dir| says_frozen(&dir))
}

/// Whether a group is frozen, in a hierarchy that can freeze (`cgroup.events` of cgroup v2,
/// `freezer.state` of the `freezer` controller).
fn says_frozen(group: &Path) -> bool {
    let says = |file: &str, word: &[u8]| {
        read_small_bytes(group.join(file))
            .is_ok_and(|text| text.split(|b| *b == b'\n').any(|line| line == word))
    };
    says("cgroup.events", b"frozen 1") || says("freezer.state", b"FROZEN")
}

fn groups_of(pid: u32) -> Result<Vec<u8>, String> {
    read_small_bytes(format!("/proc/{pid}/cgroup")).map_err(|e| format!("its cgroup: {e}"))
}

fn none_of(pid: u32) -> String {
    format!("no cgroup of process {pid} is the container's own")
}

/// The groups in the text of a `/proc/PID/cgroup` that are named after a container and that are there.
fn named<'t>(text: &'t [u8], id: &'t ContainerId) -> impl Iterator<Item = Group> {
    parse(text, id.as_str().as_bytes()).filter_map(|(controllers, path)| {
        let dir = directories(controllers, path)
            .into_iter()
            .find(|dir| dir.join("cgroup.procs").exists())?;
        Some(Group {
            controllers: controllers.to_vec(),
            dir,
        })
    })
}

/// Returns controllers and path of each line that names the container.
pub(super) fn parse<'t>(
    text: &'t [u8],
    id: &'t [u8],
) -> impl Iterator<Item = (&'t [u8], &'t [u8])> {
    text.split(|b| *b == b'\n').filter_map(move |line| {
        let mut fields = line.splitn(3, |b| *b == b':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let climbs = path.split(|b| *b == b'/').any(|part| part == b"..");
        // Groups that a container made beneath its own are left out.
        let own = own_part(path, id).filter(|_| !climbs)?;
        Some((controllers, own))
    })
}

/// Returns a path up to its first component that names a container; `None` when none does.
///
/// The name is the id, or one that systemd made of a word and the id (`docker-<id>.scope`,
/// `cri-containerd-<id>.scope`, `slice:word:<id>` where containerd was not told that systemd is there).
pub(super) fn own_part<'p>(path: &'p [u8], id: &[u8]) -> Option<&'p [u8]> {
    if id.is_empty() {
        return None;
    }
    let ends = |part: &[u8]| {
        let before = part.strip_suffix(id);
        before.is_some_and(|word| matches!(word.last(), None | Some(b'-' | b':')))
    };
    let names = |part: &[u8]| ends(part) || part.strip_suffix(b".scope").is_some_and(ends);
    let mut end = 0;
    for part in path.split(|b| *b == b'/') {
        end += part.len();
        if names(part) {
            return path.get(..end);
        }
        end += 1;
    }
    None
}

/// Returns where the directory of a group may be.
pub(super) fn directories(controllers: &[u8], path: &[u8]) -> Vec<PathBuf> {
    // An absolute path would take the place of what it is joined to.
    let leading = path.iter().take_while(|b| **b == b'/').count();
    let path = Path::new(OsStr::from_bytes(path.get(leading..).unwrap_or_default()));
    let root = Path::new(ROOT);
    let hierarchies = match controllers {
        b"" => vec![root.to_owned(), root.join("unified")],
        _ => {
            let name = controllers.strip_prefix(b"name=").unwrap_or(controllers);
            if name == b".." || name.contains(&b'/') {
                return Vec::new();
            }
            vec![root.join(OsStr::from_bytes(name))]
        }
    };
    hierarchies
        .into_iter()
        .map(|hierarchy| hierarchy.join(path))
        .collect()
}

/// Returns the identifier that a runtime gave to the container of a process, where its groups are named
/// after one of 64 hexadecimal digits: the innermost one.
pub(crate) fn hexadecimal_id(pid: u32) -> Option<String> {
    hexadecimal_id_in(&groups_of(pid).ok()?)
}

/// The same in the text of a `/proc/PID/cgroup`.
pub(super) fn hexadecimal_id_in(text: &[u8]) -> Option<String> {
    const LENGTH: usize = 64;
    let paths = text.split(|b| *b == b'\n').rev();
    let mut paths = paths.filter_map(|line| line.splitn(3, |b| *b == b':').nth(2));
    let id = paths.find_map(|path| {
        let words = path.split(|b| !b.is_ascii_hexdigit() || b.is_ascii_uppercase());
        let mut ids = words.rev().filter(|word| word.len() == LENGTH);
        ids.find(|id| own_part(path, id).is_some())
    })?;
    String::from_utf8(id.to_vec()).ok()
}

/// Lists who is in the container's groups, those beneath included.
///
/// # Errors
/// A sentence, when that cannot be known.
pub(crate) fn members(pid: u32, id: &ContainerId) -> Result<Members, String> {
    let text = groups_of(pid)?;
    let mut members = Members::default();
    // A process is in one group of every hierarchy: one of them is enough.
    let mut groups = parse(&text, id.as_str().as_bytes()).flat_map(|(controllers, path)| {
        let is_unified = controllers.is_empty();
        let dirs = directories(controllers, path).into_iter();
        dirs.map(move |dir| (dir, is_unified))
    });
    let found = groups.find_map(|(path, is_unified)| {
        let dir = open(CWD, &path).ok()?;
        let processes = read_small_at(&dir, Path::new(PROCESSES)).or_else(none_to_read);
        // Else it is no group, or is gone.
        (!is_gone(&processes)).then_some((dir, path, is_unified, processes))
    });
    let (dir, path, is_unified, processes) = found.ok_or_else(|| none_of(pid))?;
    let group = Directory {
        dir,
        path,
        is_unified,
    };
    group.collect(processes, 0, &mut members)?;
    members.processes.sort_unstable();
    members.processes.dedup();
    members.threads.sort_unstable();
    members.threads.dedup();
    Ok(members)
}

/// The file of a group that lists its processes.
const PROCESSES: &str = "cgroup.procs";

/// The directory of a group.
struct Directory {
    dir: OwnedFd,
    /// To show.
    path: PathBuf,
    /// Whether it is of the unified hierarchy.
    is_unified: bool,
}

impl Directory {
    /// Adds who is in it, of whom the `processes` were read, and in those beneath.
    fn collect(
        &self,
        processes: std::io::Result<Vec<u8>>,
        depth: usize,
        members: &mut Members,
    ) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("its cgroups are more than {DEPTH_MAX} levels deep"));
        }
        let read = |file: &str| read_small_at(&self.dir, Path::new(file)).or_else(none_to_read);
        let (file, threads) = match self.is_unified {
            true => ("cgroup.threads", read("cgroup.threads")),
            false => ("tasks", read("tasks")),
        };
        for (file, text, out) in [
            (PROCESSES, processes, &mut members.processes),
            (file, threads, &mut members.threads),
        ] {
            match text {
                Ok(text) => numbers(&text, out),
                // The group went away.
                gone if is_gone(&gone) => {}
                Err(e) => return Err(format!("{}: {e}", self.path.join(file).display())),
            }
        }
        for name in self.beneath().map_err(|e| format!("its cgroup: {e}"))? {
            let name = Path::new(OsStr::from_bytes(&name));
            let dir = match open(&self.dir, name) {
                Ok(dir) => dir,
                Err(Errno::NOENT | Errno::NODEV) => continue,
                Err(errno) => return Err(format!("its cgroup: {}", std::io::Error::from(errno))),
            };
            let processes = read_small_at(&dir, Path::new(PROCESSES)).or_else(none_to_read);
            let path = self.path.join(name);
            let group = Self { dir, path, ..*self };
            group.collect(processes, depth + 1, members)?;
        }
        Ok(())
    }

    /// Returns the names of the groups beneath it.
    fn beneath(&self) -> rustix::io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        // A directory of the kernel's has a link for each one in it, and two more (kernel
        // `fs/kernfs/inode.c`, `kernfs_refresh_inode`).
        if rustix::fs::fstat(&self.dir)?.st_nlink == 2 {
            return Ok(names);
        }
        let mut buffer = Vec::with_capacity(4096);
        let mut entries = RawDir::new(self.dir.as_fd(), buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = match entry {
                // It went away.
                Err(Errno::NOENT | Errno::NODEV) => break,
                entry => entry?,
            };
            let name = entry.file_name().to_bytes();
            if entry.file_type() == FileType::Directory && name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        Ok(names)
    }
}

fn open(dir: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, path, flags, Mode::empty())
}

/// Takes a group of threads alone for one without processes: those stand in the group above (cgroups(7)).
fn none_to_read(error: std::io::Error) -> std::io::Result<Vec<u8>> {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::OPNOTSUPP) => Ok(Vec::new()),
        _ => Err(error),
    }
}

/// Whether a file of a group is not there, or the group went away.
fn is_gone(read: &std::io::Result<Vec<u8>>) -> bool {
    let errno = |e: &std::io::Error| e.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        read.as_ref().map_err(errno),
        Err(Some(Errno::NOENT | Errno::NODEV))
    )
}

fn numbers(text: &[u8], out: &mut Vec<u32>) {
    let lines = text.split(|b| *b == b'\n');
    out.extend(lines.filter_map(|line| std::str::from_utf8(line).ok()?.parse::<u32>().ok()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_of_the_container() {
        let text = b"12:pids:/docker/abc123\n3:cpu,cpuacct:/docker/abc123/inner/deep\n2:freezer:/\n1:name=systemd:/../docker/abc123\n0::/system.slice/docker-abc123.scope/x\nnonsense\n";
        let found: Vec<_> = parse(text, b"abc123").collect();
        assert_eq!(
            found,
            [
                (&b"pids"[..], &b"/docker/abc123"[..]),
                (b"cpu,cpuacct", b"/docker/abc123"),
                (b"", b"/system.slice/docker-abc123.scope"),
            ]
        );
        assert_eq!(parse(text, b"").count(), 0);
        // Part of another name is no name.
        assert_eq!(parse(text, b"abc12").count(), 0);
        assert_eq!(parse(text, b"docker").count(), 2);
        let of = |path: &'static str, id: &str| own_part(path.as_bytes(), id.as_bytes());
        for (path, own) in [
            ("/default/one", Some("/default/one")),
            ("/default/one/one", Some("/default/one")),
            (
                "/a/system.slice:cri-containerd:one/x",
                Some("/a/system.slice:cri-containerd:one"),
            ),
            ("/libpod-one", Some("/libpod-one")),
            (
                "/x/cri-containerd-one.scope",
                Some("/x/cri-containerd-one.scope"),
            ),
            ("/default/lone", None),
            ("/default/ones", None),
            ("/", None),
        ] {
            assert_eq!(of(path, "one"), own.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn the_innermost_id() {
        let (outer, inner) = ("a".repeat(64), "0b".repeat(32));
        let text =
            format!("1:name=systemd:/docker/{outer}\n0::/docker/{outer}/libpod-{inner}.scope\n");
        assert_eq!(hexadecimal_id_in(text.as_bytes()), Some(inner));
        let none = format!("0::/docker/{outer}a/x\n0::/{}\n", "A".repeat(64));
        assert_eq!(hexadecimal_id_in(none.as_bytes()), None);
        assert!(!is_frozen_by_any(std::process::id()));
    }

    #[test]
    fn this_process_is_in_no_container() {
        let id = ContainerId::new("f".repeat(64));
        assert!(own(std::process::id(), &id).is_err());
        assert!(members(u32::MAX, &id).is_err());
    }
}
