//! Every process of this machine, told apart by as few system calls as can be.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};

/// The process table.
#[derive(Debug)]
pub(crate) struct Table {
    proc: OwnedFd,
}

impl Table {
    /// Opens it.
    ///
    /// # Errors
    /// Those of open(2).
    pub(crate) fn open() -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
        Ok(Self { proc })
    }

    /// Returns the numbers of all processes. A system call for some hundreds of them.
    ///
    /// # Errors
    /// Those of getdents64(2).
    pub(crate) fn pids(&self) -> rustix::io::Result<Vec<u32>> {
        let mut buffer = Vec::with_capacity(32 << 10);
        let mut entries = rustix::fs::RawDir::new(self.proc.as_fd(), buffer.spare_capacity_mut());
        let mut pids = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_str().ok();
            pids.extend(name.and_then(|name| name.parse::<u32>().ok()));
        }
        Ok(pids)
    }

    /// Returns where a link of a process leads (`exe`, `ns/mnt`). One system call.
    ///
    /// # Errors
    /// Those of readlinkat(2): `ENOENT` or `ESRCH` when the process is gone, `EACCES` when it may not be
    /// looked at.
    pub(crate) fn link(&self, pid: u32, name: &str) -> rustix::io::Result<Vec<u8>> {
        let path = format!("{pid}/{name}");
        Ok(rustix::fs::readlinkat(&self.proc, path, [])?.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn this_process_is_in_it() {
        let table = Table::open().unwrap();
        let pid = std::process::id();
        assert!(table.pids().unwrap().contains(&pid));
        let exe = std::env::current_exe().unwrap();
        assert_eq!(table.link(pid, "exe").unwrap(), exe.as_os_str().as_bytes());
        assert!(table.link(u32::MAX, "exe").is_err());
    }
}
