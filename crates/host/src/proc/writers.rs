//! Which files of a file system the processes of a container may have written to without its having been
//! told: those that they have open for writing, or mapped so.
//!
//! A file system in a program that lets the kernel keep writes back (FUSE, `FUSE_WRITEBACK_CACHE`) gets
//! them when a file is closed or unmapped, or after the time that dirty memory may have (`fuse_flush` and
//! `fuse_vma_close` in the kernel's `fs/fuse/file.c`).

use std::io::{Error, ErrorKind};

use plimsoll_core::model::ContainerId;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;

use super::life::is_gone;
use super::table::Table;
use super::{cgroup, maps};
use crate::fs::read_small_bytes;

/// Most open files of one thread, and threads of one process, that are looked at.
const MOST: usize = 100_000;

/// How the kernel ends the name of a file that has none any more.
const DELETED: &[u8] = b" (deleted)";

/// What may have been written to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Writers {
    /// Names of files as their processes opened them.
    pub(crate) paths: Vec<Vec<u8>>,
    /// Whether there are files of which the name is not known.
    pub(crate) nameless: bool,
}

/// Looks at the processes whose root is on the file system of the root of `pid`, and those in the
/// container's control group. Nothing is opened, and the file system is not asked.
///
/// # Errors
/// One clause that says why it cannot be known.
pub(crate) fn of(pid: u32, id: &ContainerId) -> Result<Writers, String> {
    let of_root = |pid: u32| place(&format!("/proc/{pid}/root"));
    let root = match of_root(pid) {
        Ok(root) => root,
        Err(error) if is_gone(&error) => return Ok(Writers::default()),
        Err(error) => return Err(format!("/proc/{pid}/root: {error}")),
    };
    let table = Table::open().and_then(|table| table.pids());
    let table = table.map_err(|errno| format!("/proc: {}", Error::from(errno)))?;
    let is_its = |pid: &u32| of_root(*pid).is_ok_and(|its| its.device == root.device);
    let mut pids: Vec<u32> = table.into_iter().filter(is_its).collect();
    // Without a group of its own the container has the processes on its rootfs.
    pids.extend(cgroup::members(pid, id).unwrap_or_default().processes);
    pids.sort_unstable();
    pids.dedup();
    let mut writers = Writers::default();
    for pid in pids {
        match writers.look_at(pid, root) {
            Err(error) if !is_gone(&error) => return Err(format!("process {pid}: {error}")),
            _ => {}
        }
    }
    writers.paths.sort();
    writers.paths.dedup();
    Ok(writers)
}

impl Writers {
    fn look_at(&mut self, pid: u32, root: Place) -> std::io::Result<()> {
        for task in names(&format!("/proc/{pid}/task"))? {
            let task = format!("/proc/{pid}/task/{task}");
            for file in names(&format!("{task}/fd")).or_else(gone)? {
                let info = match read_small_bytes(format!("{task}/fdinfo/{file}")) {
                    Err(error) if is_gone(&error) => continue,
                    info => info?,
                };
                if may_write(&info) {
                    self.note(&format!("{task}/fd/{file}"), root)
                        .or_else(gone)?;
                }
            }
        }
        for mapping in maps::written_by(pid)? {
            self.note(&format!("/proc/{pid}/map_files/{}", mapping.range), root)
                .or_else(gone)?;
        }
        Ok(())
    }

    /// Notes what a link of `/proc` leads to, if it is a file on the file system of the root. Through another
    /// mount of that it has another name.
    fn note(&mut self, link: &str, root: Place) -> std::io::Result<()> {
        let its = place(link)?;
        if its.device != root.device {
            return Ok(());
        }
        let mask = StatxFlags::NLINK;
        match rustix::fs::statx(CWD, link, AtFlags::STATX_DONT_SYNC, mask) {
            Ok(stat) if stat.stx_nlink == 0 => return Ok(()),
            // A user's file system in a program says no more to anybody else.
            Ok(_) | Err(Errno::ACCESS) => {}
            Err(errno) => return Err(errno.into()),
        }
        let path = rustix::fs::readlinkat(CWD, link, Vec::new())?.into_bytes();
        let is_named = path.first() == Some(&b'/') && !path.ends_with(DELETED);
        match its.mount == root.mount && is_named {
            true => self.paths.push(path),
            false => self.nameless = true,
        }
        Ok(())
    }
}

/// Where something is: all that everybody is told, when nothing is asked (`fuse_getattr` in the kernel's
/// `fs/fuse/dir.c`, `vfs_statx_path` in `fs/stat.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    device: (u32, u32),
    mount: u64,
}

/// Returns where what a link of `/proc` leads to is.
fn place(link: &str) -> std::io::Result<Place> {
    let stat = rustix::fs::statx(CWD, link, AtFlags::STATX_DONT_SYNC, StatxFlags::empty())?;
    Ok(Place {
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        mount: stat.stx_mnt_id,
    })
}

/// Takes what went away meanwhile for nothing.
fn gone<T: Default>(error: Error) -> std::io::Result<T> {
    match is_gone(&error) {
        true => Ok(T::default()),
        false => Err(error),
    }
}

/// Returns the names in a directory of `/proc`.
fn names(path: &str) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        if names.len() == MOST {
            let why = format!("{path} has more than {MOST} entries");
            return Err(Error::new(ErrorKind::InvalidData, why));
        }
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

/// Whether a `/proc/PID/fdinfo/N` (proc_pid_fdinfo(5)) is of a file that is open for writing; also where it
/// does not say.
fn may_write(info: &[u8]) -> bool {
    const ACCESS: u32 = 0o3;
    let lines = info.split(|b| *b == b'\n');
    let flags = lines.filter_map(|line| line.strip_prefix(b"flags:")).next();
    let flags = flags.and_then(|flags| {
        let text = std::str::from_utf8(flags.trim_ascii()).ok()?;
        u32::from_str_radix(text, 8).ok()
    });
    flags.is_none_or(|flags| flags & ACCESS != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn flags_of_open_files() {
        for (info, may) in [
            (&b"pos:\t0\nflags:\t0100000\nmnt_id:\t9\n"[..], false),
            (b"pos:\t0\nflags:\t0100002\n", true),
            (b"flags:\t01", true),
            (b"flags:\tx", true),
            (b"", true),
        ] {
            assert_eq!(may_write(info), may);
        }
    }

    #[test]
    fn what_this_process_may_write_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (kept, unlinked) = (
            File::create(path("kept")).unwrap(),
            File::create(path("x")).unwrap(),
        );
        std::fs::remove_file(path("x")).unwrap();
        std::fs::write(path("closed"), "").unwrap();
        let read = File::open(path("closed")).unwrap();
        let root = place(&dir.path().display().to_string()).unwrap();
        let mut writers = Writers::default();
        writers.look_at(std::process::id(), root).unwrap();
        let has = |name: &str| {
            let path = path(name).into_os_string().into_encoded_bytes();
            writers.paths.contains(&path)
        };
        assert!(has("kept") && !has("closed") && !has("x"));
        drop((kept, read, unlinked));
    }
}
