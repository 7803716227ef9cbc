//! One turn: the program itself, run to its end in a process of its own, and what that took.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use plimsoll_core::model::{EngineKind, RuntimeKind, State, escape};
use plimsoll_syscall::{child, trace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;

use super::figures::Sample;
use crate::commands::interrupts::Interrupts;
use crate::error::CliError;

/// This very program, also when its file has been replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";

/// Longest time for which an interrupt can go unnoticed, when it comes just before the wait begins.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// Bytes of the output of a failed run that are read for its reason.
const REASON_LIMIT: u64 = 4096;

/// What a report says of the one container that it is about.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Looked {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) runtime: RuntimeKind,
    pub(super) state: State,
    pub(super) engine: Option<EngineKind>,
    changes: Vec<Counted>,
    pub(super) gaps: Vec<Gap>,
    cost: Cost,
}

/// A change, of which nothing but its being there is kept: this process stays small, see
/// [`child::separate`].
#[derive(Debug, Clone, Deserialize)]
struct Counted {
    #[serde(default = "confirmed")]
    confirmed: bool,
}

fn confirmed() -> bool {
    true
}

/// Something that could not be seen.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Gap {
    what: plimsoll_core::model::Bytes,
    why: String,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, escape(self.why.as_bytes()))
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cost {
    wall_micros: u64,
    entries_read: u64,
    bytes_read: u64,
}

#[derive(Debug, Deserialize)]
struct Report {
    containers: Vec<Looked>,
    gaps: Vec<Gap>,
}

/// What a turn of `check` brought.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) sample: Sample,
    pub(super) looked: Looked,
    /// What could not be seen and belongs to no container.
    pub(super) gaps: Vec<Gap>,
    /// The whole report.
    pub(super) report: File,
}

/// What a run took.
#[derive(Debug)]
pub(super) struct Took {
    pub(super) wall: Duration,
    pub(super) usage: child::Usage,
    io: Option<Io>,
    out: File,
}

/// What `/proc/PID/io` says: bytes that were read, and bytes that storage was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Io {
    read: u64,
    from_storage: u64,
}

/// Runs the program.
#[derive(Debug)]
pub(super) struct Runner {
    interrupts: Interrupts,
}

impl Runner {
    pub(super) fn new(interrupts: Interrupts) -> Self {
        Self { interrupts }
    }

    /// Stops here when told to.
    ///
    /// # Errors
    /// [`CliError`] then.
    pub(super) fn pause(&self) -> Result<(), CliError> {
        self.interrupts.pause()
    }

    /// Runs `check` once.
    ///
    /// # Errors
    /// [`CliError`] with what the program said, when it wrote no report.
    pub(super) fn check(&self, arguments: &[OsString]) -> Result<Turn, CliError> {
        let mut took = self.run(arguments)?;
        let report = report(&mut took.out)?;
        let (looked, gaps) = (report.0, report.1);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let sample = Sample {
            wall_micros: micros(took.wall),
            engine_micros: looked.cost.wall_micros,
            user_micros: micros(took.usage.user),
            system_micros: micros(took.usage.system),
            peak_memory_bytes: took.usage.peak_memory,
            content_bytes: looked.cost.bytes_read,
            read_bytes: took.io.map(|io| io.read),
            storage_bytes: took.io.map(|io| io.from_storage),
            entries_read: looked.cost.entries_read,
            changes: looked.changes.len(),
            unconfirmed: looked.changes.iter().filter(|c| !c.confirmed).count(),
            gaps: looked.gaps.len(),
        };
        Ok(Turn {
            sample,
            looked,
            gaps,
            report: took.out,
        })
    }

    /// Runs the program once and returns what it took, when it did what it was asked for: exit codes
    /// 0, 1 and 2 are verdicts, as long as there is an output.
    ///
    /// # Errors
    /// [`CliError`] with what the program said, otherwise.
    pub(super) fn run(&self, arguments: &[OsString]) -> Result<Took, CliError> {
        self.pause()?;
        let (out, err) = (file()?, file()?);
        let mut command = command(arguments, &out, &err)?;
        let start = Instant::now();
        let mut child = child::separate(&mut command).spawn().map_err(cannot)?;
        self.end_of(&mut child)?;
        let wall = start.elapsed();
        let io = io(&child);
        let usage = child::reap(child).map_err(cannot)?;
        self.pause()?;
        judge(usage.status, &out, err)?;
        Ok(Took {
            wall,
            usage,
            io,
            out,
        })
    }

    /// Runs `check` once more and returns how many system calls it makes and what it saw: in a turn
    /// of its own, for being watched makes it slow.
    ///
    /// # Errors
    /// The reason why they cannot be counted, or [`CliError`] of an interrupt.
    pub(super) fn calls(
        &self,
        arguments: &[OsString],
    ) -> Result<Result<(u64, Looked), String>, CliError> {
        let (mut out, err) = (file()?, file()?);
        let mut command = command(arguments, &out, &err)?;
        let counted = trace::count_calls(&mut command, &|| !self.interrupts.came());
        self.pause()?;
        let (status, calls) = match counted {
            Ok(counted) => counted,
            Err(error) => return Ok(Err(error.to_string())),
        };
        Ok(judge(status, &out, err)
            .and_then(|()| report(&mut out))
            .map(|(looked, _)| (calls, looked))
            .map_err(|error| error.message))
    }

    /// Waits until the child has ended, and leaves it to be asked what it did. Told to stop, it ends
    /// the child.
    fn end_of(&self, child: &mut Child) -> Result<(), CliError> {
        let failed = |errno: rustix::io::Errno| cannot(errno.into());
        let fd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).map_err(failed)?;
        loop {
            let mut ended = [PollFd::new(&fd, PollFlags::IN)];
            match poll(&mut ended, Some(&PATIENCE)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(failed(errno)),
            }
            if self.interrupts.came() {
                // It may have ended by itself meanwhile.
                drop(child.kill());
            }
        }
    }
}

fn command(arguments: &[OsString], out: &File, err: &File) -> Result<Command, CliError> {
    let mut command = Command::new(PROGRAM);
    command.arg0(env!("CARGO_PKG_NAME")).args(arguments);
    // What these say is among the arguments already, so that they can be repeated elsewhere.
    for (name, _) in std::env::vars_os() {
        if name.as_bytes().starts_with(b"PLIMSOLL_") {
            command.env_remove(name);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(out.try_clone().map_err(cannot)?)
        .stderr(err.try_clone().map_err(cannot)?);
    Ok(command)
}

/// A file that has no name, so that nothing can be left of it.
fn file() -> Result<File, CliError> {
    tempfile::tempfile()
        .map_err(|error| CliError::new(format!("no file for the output of a turn: {error}")))
}

fn cannot(error: std::io::Error) -> CliError {
    CliError::new(format!("plimsoll cannot run itself: {error}"))
}

/// Whether a run did what it was asked for.
fn judge(status: ExitStatus, out: &File, mut err: File) -> Result<(), CliError> {
    let wrote = out.metadata().is_ok_and(|m| m.len() > 0);
    if matches!(status.code(), Some(0)) || matches!(status.code(), Some(1 | 2)) && wrote {
        return Ok(());
    }
    let mut said = Vec::new();
    let read = err
        .rewind()
        .and_then(|()| err.take(REASON_LIMIT).read_to_end(&mut said));
    Err(CliError::new(match reason(&said) {
        Some(reason) if read.is_ok() => reason,
        _ => format!("a turn ended with {status}"),
    }))
}

/// The sentence of the last error on stderr, which is escaped already.
fn reason(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().rev().find_map(|l| l.strip_prefix("error: "))?;
    Some(line.to_owned())
}

fn report(out: &mut File) -> Result<(Looked, Vec<Gap>), CliError> {
    let Report { containers, gaps } = parsed(out)?;
    let Ok([looked]) = <[Looked; 1]>::try_from(containers) else {
        return Err(CliError::new("the target is not one container any more"));
    };
    Ok((looked, gaps))
}

/// Returns a report, read from its start.
///
/// # Errors
/// [`CliError`] when it is none.
pub(super) fn parsed<T: serde::de::DeserializeOwned>(report: &mut File) -> Result<T, CliError> {
    report
        .rewind()
        .map_err(serde_json::Error::io)
        .and_then(|()| serde_json::from_reader(std::io::BufReader::new(report)))
        .map_err(|error| CliError::new(format!("the report of a turn cannot be read: {error}")))
}

/// What a child that has ended, and was not waited for yet, read.
fn io(child: &Child) -> Option<Io> {
    let text = std::fs::read_to_string(format!("/proc/{}/io", child.id())).ok()?;
    parse_io(&text)
}

fn parse_io(text: &str) -> Option<Io> {
    let number = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.strip_prefix(": ")?.parse().ok()
    };
    Some(Io {
        read: number("rchar")?,
        from_storage: number("read_bytes")?,
    })
}

/// Returns a command line as a shell takes it.
pub(super) fn shell(arguments: &[OsString]) -> String {
    let mut line = env!("CARGO_PKG_NAME").to_owned();
    for argument in arguments {
        line.push(' ');
        line += &quoted(argument);
    }
    line
}

fn quoted(argument: &OsStr) -> String {
    let bytes = argument.as_bytes();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_./:=,+@".contains(b);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if escape(bytes) == text => format!("'{}'", text.replace('\'', r"'\''")),
        // $'' takes escapes, in the shells that have it.
        _ => format!("$'{}'", escape(bytes).replace('\'', r"\'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_read() {
        let text = "rchar: 2012\nwchar: 5\nsyscr: 7\nsyscw: 0\nread_bytes: 4096\nwrite_bytes: 0\n";
        let io = parse_io(text).unwrap();
        assert_eq!((io.read, io.from_storage), (2012, 4096));
        assert_eq!(parse_io(""), None);
        assert_eq!(parse_io("rchar: 1\n"), None);
    }

    #[test]
    fn a_line_for_a_shell() {
        let line = |last: &[u8]| shell(&["check".into(), OsStr::from_bytes(last).to_owned()]);
        assert_eq!(line(b"docker:web"), "plimsoll check docker:web");
        assert_eq!(line(b""), "plimsoll check ''");
        assert_eq!(line(b"overlay:/a b"), "plimsoll check 'overlay:/a b'");
        assert_eq!(line(b"it's $x"), r"plimsoll check 'it'\''s $x'");
        assert_eq!(line(b"\x1b'\xff"), r"plimsoll check $'\x1b\'\xff'");
    }

    #[test]
    fn the_reason_is_the_error() {
        let said = b"warning: not seen: x\nerror: no container \"x\"\n hint: look\n";
        assert_eq!(reason(said).unwrap(), "no container \"x\"");
        assert_eq!(reason(b"Killed\n"), None);
    }
}
