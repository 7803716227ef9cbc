//! A child process whose use of the machine is its own, and which ends with its parent.

use std::io::{Error, Result};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// What a process used from its start to its end, its threads and the children that it waited for
/// among it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// How it ended.
    pub status: ExitStatus,
    /// Processor time in user mode.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// Most memory that was resident at once, in bytes.
    pub peak_memory: u64,
}

/// Makes `command` start a child that is killed when the thread that started it ends, and whose
/// [`Usage`] counts none of this process's memory but what little is private to it and in use now.
///
/// The standard library starts a program by vfork(2) where it can. The child then runs on its
/// parent's memory until execve(2), which enters the high-water mark of the memory that it leaves
/// into the child's own `ru_maxrss` (`exec_mmap` in the kernel's `fs/exec.c`): a small program would
/// seem to need whatever its parent once needed. Something to do between the two calls makes it
/// fork(2) instead. The memory left is then the child's copy, in which only private pages that were
/// written to are resident (`vma_needs_copy` in `mm/memory.c`), and its mark begins with these.
pub fn separate(command: &mut Command) -> &mut Command {
    let parent = rustix::process::getpid();
    let between = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // It may have ended before that was said.
        if rustix::process::getppid() == Some(parent) {
            Ok(())
        } else {
            Err(Error::from_raw_os_error(libc::ESRCH))
        }
    };
    // SAFETY: what runs between fork and exec is prctl(2) and getppid(2), which are safe to call
    // there, and neither allocates nor takes a lock.
    unsafe { command.pre_exec(between) }
}

/// Waits for the end of a child and returns what it used.
///
/// # Errors
/// Those of wait4(2), none of which is to be expected: the child is there until it was waited for.
pub fn reap(child: Child) -> Result<Usage> {
    let pid = libc::pid_t::try_from(child.id()).map_err(Error::other)?;
    let mut status = 0;
    // SAFETY: a `struct rusage` consists of integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are of live variables of the types that wait4(2) writes. The child is
        // ours, and nobody else waits for it: its handle was given to this function.
        let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
        if waited == pid {
            break;
        }
        let error = Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(Usage {
        status: ExitStatus::from_raw(status),
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        // getrusage(2): in KiB.
        peak_memory: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    })
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> Usage {
        let mut command = Command::new("/bin/sh");
        let child = separate(command.args(["-c", script])).spawn().unwrap();
        reap(child).unwrap()
    }

    #[test]
    fn the_memory_is_the_childs_own() {
        const MUCH: usize = 256 << 20;
        let before = run("exit 3");
        assert_eq!(before.status.code(), Some(3));
        assert!(before.peak_memory > 0);
        // A high-water mark of this process, which a child by vfork would be given.
        drop(std::hint::black_box(vec![1u8; MUCH]));
        let after = run("exit 3");
        assert!(after.peak_memory < MUCH as u64 / 4, "{after:?}");
    }

    #[test]
    fn processor_time() {
        let usage = run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
        assert!(usage.user + usage.system > Duration::from_millis(1));
        assert!(usage.status.success());
    }

    #[test]
    fn a_program_that_is_not_there() {
        let mut command = Command::new("/no/such/program");
        let error = separate(&mut command).spawn().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
}
