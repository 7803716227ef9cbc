//! Memory of a process that it can execute, or write to files by (`/proc/PID/maps`, proc_pid_maps(5)).

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read as _};

/// A mapping of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Its range of addresses, which is its name in `/proc/PID/map_files`.
    pub(crate) range: String,
    /// Device, inode and name as the line has them: the same for mappings of the same file.
    pub(crate) file: Vec<u8>,
}

/// Longest line that is read: a range and a path of the kernel's longest.
const LINE_MAX: usize = 20 << 10;

/// Most bytes that are read of one process.
const BYTES_MAX: u64 = 512 << 20;

/// Returns the executable file mappings of a process, each file once.
///
/// # Errors
/// Those of opening and reading; `InvalidData` beyond the limits.
pub(crate) fn executable(pid: u32) -> std::io::Result<Vec<Mapping>> {
    all(pid, parse)
}

/// Returns the mappings of a process by which it writes to files, each file once.
///
/// # Errors
/// Those of [`executable`].
pub(crate) fn written_by(pid: u32) -> std::io::Result<Vec<Mapping>> {
    all(pid, |line| {
        parse_with(line, |p| p.get(1) == Some(&b'w') && p.get(3) == Some(&b's'))
    })
}

fn all(pid: u32, parse: impl Fn(&[u8]) -> Option<Mapping>) -> std::io::Result<Vec<Mapping>> {
    let file = std::fs::File::open(format!("/proc/{pid}/maps"))?;
    let mut reader = BufReader::new(file.take(BYTES_MAX));
    let mut mappings: Vec<Mapping> = Vec::new();
    // A process may map tens of thousands of files.
    let mut known = HashSet::new();
    let mut line = Vec::new();
    let mut total = 0;
    loop {
        line.clear();
        let read = (&mut reader)
            .take(LINE_MAX as u64)
            .read_until(b'\n', &mut line)?;
        total += read as u64;
        if read == 0 && total < BYTES_MAX {
            return Ok(mappings);
        }
        if line.pop() != Some(b'\n') {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "its memory map is too long",
            ));
        }
        if let Some(mapping) = parse(&line)
            && known.insert(mapping.file.clone())
        {
            mappings.push(mapping);
        }
    }
}

/// Returns the mapping of a line, when it is executable and of a file.
pub(super) fn parse(line: &[u8]) -> Option<Mapping> {
    parse_with(line, |permissions| permissions.get(2) == Some(&b'x'))
}

/// Returns the mapping of a line, when it is of a file and its permissions are `wanted`.
fn parse_with(line: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<Mapping> {
    let mut fields = line.splitn(4, |b| *b == b' ');
    let (range, permissions, _offset, file) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    // Memory that belongs to no file has the inode number 0.
    let inode = file.split(|b| *b == b' ').nth(1)?;
    if !wanted(permissions) || inode == b"0" {
        return None;
    }
    Some(Mapping {
        range: String::from_utf8(range.to_vec()).ok()?,
        file: file.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let line = b"5581dcb38000-5581dcb39000 r-xp 00001000 fe:00 1234    /usr/bin/a b (deleted)";
        let mapping = parse(line).unwrap();
        assert_eq!(mapping.range, "5581dcb38000-5581dcb39000");
        assert_eq!(mapping.file, b"fe:00 1234    /usr/bin/a b (deleted)");
        for other in [
            &b"7ffd-7ffe r-xp 00000000 00:00 0    [vdso]"[..],
            b"7ffd-7ffe rw-p 00000000 fe:00 77 /lib/x.so",
            b"7ffd-7ffe r-xp",
            b"",
        ] {
            assert_eq!(parse(other), None);
        }
    }

    #[test]
    fn this_process_runs_its_program() {
        let mappings = executable(std::process::id()).unwrap();
        let program = std::env::current_exe().unwrap();
        let program = program.to_str().unwrap().as_bytes();
        assert!(mappings.iter().any(|m| m.file.ends_with(program)));
    }
}
