//! What a process has mounted, read once and known to be the same for as long as the kernel tells of no
//! change.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags};

use super::mountinfo::{self, Mount};
use crate::fs::{Identity, known_identity, read_small_of};

/// From where a process looks at what is mounted: its mount namespace, and its root in that.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Outlook {
    namespace: Vec<u8>,
    root: Identity,
}

impl Outlook {
    /// Returns that of a process or thread.
    ///
    /// # Errors
    /// Those of `/proc/PID`.
    pub(crate) fn of(process: u32) -> std::io::Result<Self> {
        let proc = format!("/proc/{process}");
        Ok(Self {
            namespace: rustix::fs::readlinkat(CWD, format!("{proc}/ns/mnt"), Vec::new())?
                .into_bytes(),
            root: known_identity(format!("{proc}/root").as_ref())?,
        })
    }
}

/// The mounts that a process sees.
#[derive(Debug)]
pub struct Mounts {
    /// As the kernel lists them.
    pub(crate) list: Vec<Mount>,
    process: u32,
    /// From where; `None` where that is not told.
    outlook: Option<Outlook>,
    /// The file that they were read from.
    file: OwnedFd,
}

impl Mounts {
    /// Reads those of a process or thread, which looks from there, where that is known.
    ///
    /// # Errors
    /// Those of reading `/proc/PID/mountinfo`.
    pub(crate) fn read(process: u32, outlook: Option<Outlook>) -> std::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let path = format!("/proc/{process}/mountinfo");
        let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let text = read_small_of(&mut file)?;
        Ok(Self {
            list: mountinfo::parse(&text),
            process,
            outlook,
            file: file.into(),
        })
    }

    /// Whether they are those that this process still sees from there. The kernel marks the file of a list
    /// when anything is mounted, moved, unmounted or mounted otherwise in that namespace since it was opened
    /// (proc_pid_mountinfo(5); `mounts_poll` in `fs/proc_namespace.c`).
    pub(crate) fn are_still(&self, process: u32, outlook: &Outlook) -> bool {
        const CHANGED: PollFlags = PollFlags::PRI.union(PollFlags::ERR);
        if process != self.process || Some(outlook) != self.outlook.as_ref() {
            return false;
        }
        let mut file = [PollFd::new(&self.file, CHANGED)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut file, Some(&now)).is_ok()
            && file.iter().all(|file| !file.revents().intersects(CHANGED))
    }

    /// Returns what is mounted at the root of the process: the topmost one.
    pub(crate) fn root(&self) -> Option<&Mount> {
        let mut mounts = self.list.iter();
        mounts.rfind(|mount| mount.mount_point.as_bytes() == b"/")
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::time::Duration;

    use super::*;

    #[test]
    fn those_of_this_process() {
        let this = std::process::id();
        let outlook = Outlook::of(this).unwrap();
        let mounts = Mounts::read(this, Some(outlook.clone())).unwrap();
        assert!(mounts.root().is_some());
        assert!(!mounts.are_still(1 + this, &outlook));
        let elsewhere = Outlook {
            namespace: b"mnt:[1]".to_vec(),
            ..outlook.clone()
        };
        assert!(!mounts.are_still(this, &elsewhere));
        assert!(Outlook::of(u32::MAX).is_err());
        assert!(Mounts::read(u32::MAX, None).is_err());
        assert!(!Mounts::read(this, None).unwrap().are_still(this, &outlook));
    }

    /// A process that ends with the test.
    struct Ended(Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    #[test]
    fn whatever_is_mounted_meanwhile_is_told() {
        let own = Outlook::of(std::process::id()).unwrap();
        let apart = ["--user", "--map-root-user", "--mount"];
        let child = Command::new("unshare")
            .args(apart)
            .args(["sleep", "1000"])
            .spawn()
            .unwrap();
        let child = Ended(child);
        let process = child.0.id();
        // It is done with its own mounts once it has become the other program.
        let comm = format!("/proc/{process}/comm");
        while crate::fs::read_small(&comm).unwrap() != "sleep\n" {
            std::thread::sleep(Duration::from_millis(5));
        }
        let outlook = Outlook::of(process).unwrap();
        assert_ne!(outlook.namespace, own.namespace);
        let before = Mounts::read(process, Some(outlook.clone())).unwrap();
        let inside = |command: &[&str]| {
            let target = process.to_string();
            let mut enter = Command::new("nsenter");
            enter.args(["--preserve-credentials", "--user", "--mount", "--target"]);
            assert!(enter.arg(target).args(command).status().unwrap().success());
        };
        inside(&["true"]);
        assert!(before.are_still(process, &outlook));
        for change in [
            &["mount", "-t", "tmpfs", "none", "/mnt"][..],
            &["mount", "-o", "remount,bind,ro", "/mnt"],
            &["umount", "/mnt"],
        ] {
            let mounts = Mounts::read(process, Some(outlook.clone())).unwrap();
            assert!(mounts.are_still(process, &outlook));
            inside(change);
            assert!(!mounts.are_still(process, &outlook), "{change:?}");
        }
        assert!(!before.are_still(process, &outlook));
    }
}
