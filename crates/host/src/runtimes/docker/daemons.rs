//! Which Docker daemons run on this machine, by the process table.
//!
//! What their command lines say are hints: each data root that they lead to is looked at for what it is.

use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::fs::read_small_bytes;
use crate::proc::root;
use crate::proc::table::Table;

/// The program.
const PROGRAM: &[u8] = b"dockerd";

/// What the command line of a daemon says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Hints {
    /// The daemon.
    pub(super) pid: u32,
    /// `--data-root`.
    pub(super) data_root: Option<PathBuf>,
    /// `--config-file`.
    pub(super) config: Option<PathBuf>,
    /// `--host`, each.
    pub(super) hosts: Vec<String>,
}

/// Returns the daemons that run as root of this machine and see its root directory and its processes: those
/// of a container are the container's.
///
/// # Cost
/// One system call for each process, and six for each daemon.
pub(super) fn running() -> Vec<Hints> {
    let Ok(table) = Table::open() else {
        return Vec::new();
    };
    let (Ok(pids), Ok(own), Ok(numbers)) = (
        table.pids(),
        root::identity("self"),
        table.link(std::process::id(), "ns/pid"),
    ) else {
        return Vec::new();
    };
    let is_daemon = |pid: &u32| {
        let program = table.link(*pid, "exe").unwrap_or_default();
        // Of a program that was replaced by another version the kernel says so.
        let program = program.strip_suffix(b" (deleted)").unwrap_or(&program);
        program.rsplit(|b| *b == b'/').next() == Some(PROGRAM)
            && table.link(*pid, "ns/pid").is_ok_and(|of| of == numbers)
            && root::identity(&pid.to_string()).is_ok_and(|its| its.is_directory_of(own))
            && is_of_root(*pid)
    };
    let daemons = pids.into_iter().filter(is_daemon);
    daemons
        .filter_map(|pid| {
            let line = read_small_bytes(format!("/proc/{pid}/cmdline")).ok()?;
            Some(Hints {
                pid,
                ..hints(&line)
            })
        })
        .collect()
}

fn is_of_root(pid: u32) -> bool {
    let path = format!("/proc/{pid}");
    rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::UID)
        .is_ok_and(|stat| stat.stx_uid == 0)
}

/// Reads a `/proc/PID/cmdline`: arguments, each ended by a zero byte. Paths that do not begin at the root are
/// left out.
pub(super) fn hints(line: &[u8]) -> Hints {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let mut found = Hints::default();
    let mut arguments = line.split(|b| *b == 0).skip(1).filter_map(text);
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_at_checked(2) {
            // A short option may have its value right behind it.
            Some((short @ ("-g" | "-H"), value)) if !value.is_empty() => {
                (short, Some(value.strip_prefix('=').unwrap_or(value)))
            }
            _ => match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument.as_str(), None),
            },
        };
        let value = value.map(str::to_owned);
        let place = match name {
            "--data-root" | "--graph" | "-g" => &mut found.data_root,
            "--config-file" => &mut found.config,
            "--host" | "-H" => {
                found.hosts.extend(value.or_else(|| arguments.next()));
                continue;
            }
            _ => continue,
        };
        let path = value.or_else(|| arguments.next()).map(PathBuf::from);
        if let Some(path) = path.filter(|path| path.is_absolute()) {
            *place = Some(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_option() {
        let expected = Hints {
            pid: 0,
            data_root: Some("/srv/docker".into()),
            config: Some("/etc/other.json".into()),
            hosts: vec!["unix:///run/a.sock".into(), "tcp://[::]:1".into()],
        };
        for line in [
            &b"dockerd\0--data-root=/srv/docker\0--config-file\0/etc/other.json\0-Hunix:///run/a.sock\0--host\0tcp://[::]:1\0"[..],
            b"/usr/bin/dockerd\0--debug\0-g\0/srv/docker\0-H=unix:///run/a.sock\0-H\0tcp://[::]:1\0--config-file=/etc/other.json\0",
        ] {
            assert_eq!(hints(line), expected);
        }
        for line in [
            &b""[..],
            b"dockerd\0",
            b"dockerd\0--data-root\0",
            b"dockerd\0--data-root=docker\0\xff\0",
        ] {
            assert_eq!(hints(line), Hints::default());
        }
    }
}
