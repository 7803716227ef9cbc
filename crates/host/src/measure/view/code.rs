//! Which code the processes of a container run that is no unchanged file of its image.

use std::collections::BTreeSet;

use plimsoll_core::model::{Bytes, Change, Code, CodeOrigin, Gap, RootPath};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;

use super::LISTED_MAX;
use super::mounts::Over;
use super::namespaces::Namespaces;
use crate::proc::{life, maps};

/// Pieces of code that are kept for one container at most.
const PIECES_MAX: usize = 10 * LISTED_MAX;

/// How the kernel ends the name of a file that has none any more.
const DELETED: &[u8] = b" (deleted)";

/// Code of one process.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    origin: CodeOrigin,
    /// Its name as the kernel gives it.
    name: Vec<u8>,
    program: bool,
    pid: u32,
}

/// What was found in the processes of a container.
#[derive(Debug, Default)]
pub(super) struct Found {
    pieces: BTreeSet<Piece>,
    gaps: Vec<Gap>,
}

impl Found {
    /// Returns the processes whose program is in no file that anything else tells of.
    pub(super) fn hidden_programs(&self) -> BTreeSet<u32> {
        let hidden = self
            .pieces
            .iter()
            .filter(|p| p.program && p.origin.is_hidden());
        hidden.map(|piece| piece.pid).collect()
    }

    /// Leaves out what was found in some processes.
    pub(super) fn leave_out(&mut self, processes: &BTreeSet<u32>) {
        self.pieces.retain(|piece| !processes.contains(&piece.pid));
    }

    /// Returns each piece of code once, whoever runs it, and what could not be seen.
    pub(super) fn finish(mut self) -> (Vec<Code>, Vec<Gap>) {
        let mut code: Vec<Code> = Vec::new();
        let mut last: Option<(CodeOrigin, Vec<u8>, bool)> = None;
        for piece in self.pieces {
            let what = (piece.origin, piece.name, piece.program);
            if last.as_ref() == Some(&what) {
                if let Some(code) = code.last_mut() {
                    code.processes += 1;
                }
                continue;
            }
            if code.len() == LISTED_MAX {
                let why = format!("more than {LISTED_MAX} files are run that are not the image's");
                self.gaps.push(Gap::new("processes", why));
                break;
            }
            code.push(Code {
                path: Bytes::from(what.1.strip_suffix(DELETED).unwrap_or(&what.1)),
                origin: what.0,
                program: what.2,
                pid: piece.pid,
                processes: 1,
            });
            last = Some(what);
        }
        (code, self.gaps)
    }
}

/// Looks at the executable memory of `processes`.
pub(super) fn look(
    processes: &[u32],
    changes: &[Change],
    namespaces: &Namespaces,
    over: &Over,
) -> Found {
    let mut search = Search {
        changes,
        namespaces,
        over,
        found: Found::default(),
    };
    for process in processes {
        match search.process(*process) {
            Ok(()) => {}
            Err(e) if life::is_gone(&e) => {}
            Err(e) => {
                let gap = Gap::new("processes", format!("process {process}: {e}"));
                search.found.gaps.push(gap);
            }
        }
        if search.found.pieces.len() > PIECES_MAX {
            let why =
                "so much code is run that is not the image's that not all of it was looked at";
            search.found.gaps.push(Gap::new("processes", why));
            break;
        }
    }
    search.found
}

struct Search<'a> {
    changes: &'a [Change],
    namespaces: &'a Namespaces,
    over: &'a Over,
    found: Found,
}

/// A file that is mapped, by what the kernel says of it now.
#[derive(PartialEq, Eq)]
struct File {
    /// Its name; for one that has none any more, with [`DELETED`].
    name: Vec<u8>,
    mount: u64,
    inode: (u32, u32, u64),
}

impl File {
    /// Reads what a link of `/proc/PID` leads to. No file is opened.
    fn at(link: &str) -> std::io::Result<Self> {
        let name = rustix::fs::readlinkat(CWD, link, Vec::new())?.into_bytes();
        let look = |mask| rustix::fs::statx(CWD, link, AtFlags::STATX_DONT_SYNC, mask);
        let stat = match look(StatxFlags::INO | StatxFlags::MNT_ID) {
            // A user's file system in a program: where it is is all that others are told, when nothing is asked.
            Err(Errno::ACCESS) => look(StatxFlags::empty())?,
            stat => stat?,
        };
        if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
            return Err(std::io::Error::other(
                "this kernel does not tell the mount of a file",
            ));
        }
        Ok(Self {
            name,
            mount: stat.stx_mnt_id,
            inode: (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino),
        })
    }
}

impl Search<'_> {
    fn process(&mut self, pid: u32) -> std::io::Result<()> {
        // One that ended and that nobody has waited for has neither program nor memory.
        let program = File::at(&format!("/proc/{pid}/exe"))?;
        self.file(pid, &program, true);
        for mapping in maps::executable(pid)? {
            match File::at(&format!("/proc/{pid}/map_files/{}", mapping.range)) {
                Ok(file) if file == program => {}
                Ok(file) => self.file(pid, &file, false),
                // It was unmapped meanwhile.
                Err(e) if e.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn file(&mut self, pid: u32, file: &File, program: bool) {
        if let Some(origin) = self.origin(file) {
            self.found.pieces.insert(Piece {
                origin,
                name: file.name.clone(),
                program,
                pid,
            });
        }
    }

    /// Returns where a file comes from; `None` for a file of the image, or of the runtime.
    fn origin(&self, file: &File) -> Option<CodeOrigin> {
        let deleted = file.name.ends_with(DELETED) && !self.is_changed(&file.name);
        let Some(mount) = self.namespaces.mount(file.mount) else {
            return Some(match deleted {
                true if file.name.starts_with(b"/memfd:") => CodeOrigin::Memfd,
                true => CodeOrigin::Deleted,
                false => CodeOrigin::Detached,
            });
        };
        if self.over.of_host.contains(&mount.id) {
            None
        } else if deleted {
            Some(CodeOrigin::Deleted)
        } else if self.over.scratch.contains(&mount.id) {
            Some(CodeOrigin::Scratch)
        } else if !self.namespaces.is_rootfs(mount) {
            Some(CodeOrigin::Volume)
        } else {
            self.is_changed(&file.name).then_some(CodeOrigin::Changed)
        }
    }

    fn is_changed(&self, name: &[u8]) -> bool {
        RootPath::parse(name).is_ok_and(|path| {
            self.changes
                .binary_search_by(|change| change.path.cmp(&path))
                .is_ok()
        })
    }
}
