//! How many system calls a program makes: ptrace(2), which counts every one, and slows it down.

use std::collections::HashMap;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};

/// How C libraries declare the first argument of ptrace(2).
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;
#[cfg(target_env = "musl")]
type Request = libc::c_int;

/// Stops at a system call carry this bit beside SIGTRAP (`PTRACE_O_TRACESYSGOOD`).
const AT_CALL: libc::c_int = libc::SIGTRAP | 0x80;

/// What is asked of the kernel: to tell stops at calls from signals, to trace what the program
/// starts, threads and processes, and to end all of it with this process.
const OPTIONS: libc::c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_EXITKILL;

/// Runs a program to its end and returns how it ended, and how many system calls it made after its
/// execve(2): in all its threads, and in the processes that it started.
///
/// `go_on` is asked at every call; when it says no, the program is killed.
///
/// # Errors
/// Those of starting the program; `EPERM` where it may not be traced.
pub fn count_calls(command: &mut Command, go_on: &dyn Fn() -> bool) -> Result<(ExitStatus, u64)> {
    // SAFETY: what runs between fork and exec is ptrace(2) alone, which is safe to call there.
    unsafe { command.pre_exec(|| request(libc::PTRACE_TRACEME, 0, 0)) };
    let child = command.spawn()?;
    let program = libc::pid_t::try_from(child.id()).map_err(Error::other)?;
    let outcome = follow(program, go_on);
    if outcome.is_err() {
        // SAFETY: kill(2) takes two integers; the child is ours, and not waited for yet.
        unsafe { libc::kill(program, libc::SIGKILL) };
        // Its first thread is not told of before each of the others was waited for.
        while let Ok((thread, status)) = wait(-1) {
            if thread == program && !libc::WIFSTOPPED(status) {
                break;
            }
        }
    }
    outcome
}

fn follow(program: libc::pid_t, go_on: &dyn Fn() -> bool) -> Result<(ExitStatus, u64)> {
    // The stop at the end of execve.
    let (_, status) = wait(program)?;
    if !libc::WIFSTOPPED(status) {
        return Ok((ExitStatus::from_raw(status), 0));
    }
    request(libc::PTRACE_SETOPTIONS, program, OPTIONS)?;
    resume(program, 0)?;
    let mut calls = 0;
    // Whether a thread is within a call: it stops when it enters one and when it leaves it.
    let mut within = HashMap::from([(program, false)]);
    loop {
        let (thread, status) = wait(-1)?;
        if !libc::WIFSTOPPED(status) {
            if thread == program {
                return Ok((ExitStatus::from_raw(status), calls));
            }
            within.remove(&thread);
            continue;
        }
        let signal = match libc::WSTOPSIG(status) {
            AT_CALL => {
                let within = within.entry(thread).or_insert(false);
                *within = !*within;
                calls += u64::from(*within);
                0
            }
            // A thread or process that was traced from its start, and stands before its first call.
            libc::SIGSTOP if !within.contains_key(&thread) => {
                within.insert(thread, false);
                0
            }
            // Something was started; what it is stops by itself.
            libc::SIGTRAP => 0,
            signal => signal,
        };
        if !go_on() {
            return Err(ErrorKind::Interrupted.into());
        }
        resume(thread, signal)?;
    }
}

/// Lets a thread run to its next call, and gives it a signal with that, unless 0.
fn resume(thread: libc::pid_t, signal: libc::c_int) -> Result<()> {
    match request(libc::PTRACE_SYSCALL, thread, signal) {
        // Killed while it stood there: that is told by the next wait.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

fn request(what: Request, thread: libc::pid_t, data: libc::c_int) -> Result<()> {
    // SAFETY: of the requests that are made here none takes an address, and `data` is an integer.
    let result = unsafe { libc::ptrace(what, thread, 0usize, libc::c_long::from(data)) };
    if result == -1 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

/// Waits for a child, or any, of this thread: those of other threads are not its business.
fn wait(pid: libc::pid_t) -> Result<(libc::pid_t, libc::c_int)> {
    let mut status = 0;
    loop {
        // SAFETY: the pointer is of a live variable of the type that waitpid(2) writes.
        let waited =
            unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if waited != -1 {
            return Ok((waited, status));
        }
        let error = Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(script: &str) -> (ExitStatus, u64) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        count_calls(&mut command, &|| true).unwrap()
    }

    #[test]
    fn calls_of_the_program_and_of_what_it_starts() {
        let (status, few) = count("exit 3");
        assert_eq!(status.code(), Some(3));
        // The shell opens and closes the file each time.
        let (_, many) = count("i=0; while [ $i -lt 100 ]; do : </dev/null; i=$((i+1)); done");
        assert!(few > 0 && many >= few + 200, "{few}, {many}");
        let (status, started) = count("(exit 1); (exit 4) & wait $!; exit $?");
        assert_eq!(status.code(), Some(4));
        assert!(started > few, "{few}, {started}");
    }

    #[test]
    fn signals_arrive() {
        let (status, _) = count("kill -TERM $$; sleep 1000");
        assert_eq!(status.signal(), Some(libc::SIGTERM));
        let (status, _) = count("trap 'exit 7' USR1; kill -USR1 $$; exit 0");
        assert_eq!(status.code(), Some(7));
    }

    #[test]
    fn it_ends_when_told() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "while :; do : </dev/null; done"]);
        let error = count_calls(&mut command, &|| false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
}
