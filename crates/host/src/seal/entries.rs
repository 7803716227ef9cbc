//! What a directory tree keeps of each of its entries, as one digest.

use plimsoll_core::model::{RootPath, Timestamp};
use plimsoll_syscall::{lease, verity};
use rustix::fs::FileType;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::os::fd::AsFd as _;

use super::{Hash, Unsealable};
use crate::fs::{Dir, Lasting, open_regular};

/// What a tree keeps of its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entries {
    /// The digest of all of it.
    pub(super) digest: Hash,
    /// The latest time at which anything in it was touched.
    pub(super) touched: Timestamp,
}

/// Reads the tree in `root`. With `writers` each regular file is looked at for somebody who has it open
/// for writing: a write that was let in before may store what it carries at any later time, and nothing
/// is kept of that (`generic_perform_write` in the kernel's `mm/filemap.c` copies after the times were
/// set).
pub(super) fn read(root: &Dir, writers: bool) -> Result<Entries, Unsealable> {
    let at = |path: &RootPath, errno: Errno| match errno {
        Errno::OPNOTSUPP => Unsealable::NoHandles,
        errno => Unsealable::Unreadable(path.clone(), errno),
    };
    let top = RootPath::root();
    let first = root.lasting(b"").map_err(|errno| at(&top, errno))?;
    let mut reading = Reading {
        hash: Sha256::new(),
        touched: first.ctime,
        dev: first.dev,
        writers,
        names: Vec::new(),
    };
    reading
        .entry(root, b"", &first)
        .map_err(|error| error.of(&top, at))?;
    // By a stack of its own: how deep a tree is, is for who made it to choose.
    let mut todo = vec![top];
    while let Some(path) = todo.pop() {
        let opened;
        let dir = match path.as_bytes().get(1..).unwrap_or_default() {
            b"" => root,
            beneath => {
                opened = root
                    .open_beneath(beneath)
                    .map_err(|errno| at(&path, errno))?;
                &opened
            }
        };
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let read_names = |names: &mut Vec<Box<[u8]>>| -> Result<(), Errno> {
            let mut reader = dir.reader(0)?;
            while reader.next_portion(|name| names.push(name.into()))? {}
            Ok(())
        };
        read_names(&mut names).map_err(|errno| at(&path, errno))?;
        names.sort_unstable();
        reading.text(path.as_bytes());
        reading.hash.update((names.len() as u64).to_le_bytes());
        for name in &names {
            let beneath = || path.join(name);
            let entry = dir.lasting(name).map_err(|errno| at(&beneath(), errno))?;
            reading
                .entry(dir, name, &entry)
                .map_err(|error| error.of(&beneath(), at))?;
            if FileType::from_raw_mode(entry.mode.into()) == FileType::Directory {
                todo.push(beneath());
            }
        }
    }
    Ok(Entries {
        digest: reading.hash.finalize().into(),
        touched: reading.touched,
    })
}

/// Why an entry could not be taken in.
enum Refused {
    Errno(Errno),
    Written,
    Mounted,
}

impl Refused {
    fn of(self, path: &RootPath, at: impl Fn(&RootPath, Errno) -> Unsealable) -> Unsealable {
        match self {
            Self::Errno(errno) => at(path, errno),
            Self::Written => Unsealable::Written(path.clone()),
            Self::Mounted => Unsealable::MountedIn(path.clone()),
        }
    }
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// A tree that is being read.
struct Reading {
    hash: Sha256,
    touched: Timestamp,
    dev: (u32, u32),
    writers: bool,
    names: Vec<u8>,
}

impl Reading {
    /// Takes in bytes with their length, so that no two texts run into each other.
    fn text(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    fn entry(&mut self, dir: &Dir, name: &[u8], entry: &Lasting) -> Result<(), Refused> {
        if entry.dev != self.dev {
            return Err(Refused::Mounted);
        }
        self.text(name);
        self.text(&entry.bytes);
        self.touched = self.touched.max(entry.ctime);
        let mut buffer = std::mem::take(&mut self.names);
        let marks = self.marks(dir, name, &mut buffer);
        self.names = buffer;
        marks?;
        let is_file = FileType::from_raw_mode(entry.mode.into()) == FileType::RegularFile;
        if is_file && (self.writers || entry.has_verity) {
            let (file, _) = open_regular(dir, name)?;
            if self.writers && lease::has_writer(file.as_fd())? {
                return Err(Refused::Written);
            }
            if entry.has_verity {
                let (algorithm, digest) = verity::measure(file.as_fd())?;
                self.hash.update(algorithm.to_le_bytes());
                self.text(&digest);
            }
        }
        Ok(())
    }

    /// Takes in the names of the extended attributes, and the values of those by which overlayfs marks
    /// entries.
    fn marks(&mut self, dir: &Dir, name: &[u8], buffer: &mut Vec<u8>) -> Result<(), Errno> {
        let names: Box<[u8]> = dir.xattr_names(name, buffer)?.into();
        self.text(&names);
        for attribute in names.split(|byte| *byte == 0) {
            let is_mark = [&b"trusted.overlay."[..], b"user.overlay."]
                .iter()
                .any(|prefix| attribute.starts_with(prefix));
            if is_mark && let Some(value) = dir.xattr(name, attribute, buffer)? {
                self.text(&value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    fn digest(path: &std::path::Path) -> Hash {
        let dir = Dir::open(path).unwrap();
        read(&dir, false).unwrap().digest
    }

    #[test]
    fn reading_changes_nothing_and_every_touch_does() {
        let tree = tempfile::tempdir().unwrap();
        let path = |name: &str| tree.path().join(name);
        fs::create_dir(path("d")).unwrap();
        fs::write(path("d/a"), "a").unwrap();
        fs::write(path("b"), "b").unwrap();
        let before = digest(tree.path());
        fs::read(path("b")).unwrap();
        assert_eq!(digest(tree.path()), before);
        let mut seen = vec![before];
        let mut touched = |touch: &dyn Fn()| {
            // Kernels before 6.13 give all that is done within a tick of the clock one time.
            std::thread::sleep(crate::seal::mark::TICK);
            touch();
            let now = digest(tree.path());
            assert!(!seen.contains(&now));
            seen.push(now);
        };
        touched(&|| fs::write(path("b"), "c").unwrap());
        touched(&|| fs::rename(path("b"), path("d/b")).unwrap());
        touched(&|| fs::hard_link(path("d/b"), path("b")).unwrap());
        touched(&|| fs::remove_file(path("b")).unwrap());
        touched(&|| {
            let mode = fs::metadata(path("d/a")).unwrap().permissions();
            fs::set_permissions(path("d/a"), mode).unwrap();
        });
    }

    #[test]
    fn who_writes_is_seen() {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("a"), "a").unwrap();
        let dir = Dir::open(tree.path()).unwrap();
        let open = fs::File::options().append(true).open(tree.path().join("a"));
        let written = read(&dir, true).unwrap_err();
        assert_eq!(
            written.to_string().split(':').next(),
            Some("/a is open for writing")
        );
        drop(open);
        assert!(read(&dir, true).is_ok());
    }

    /// With fs-verity, which the emulated machine of `make emulated` has: `PLIMSOLL_VERITY` says that it must
    /// be there.
    #[test]
    fn the_digest_of_verity_is_taken_in() {
        let tree = tempfile::tempdir().unwrap();
        let file = tree.path().join("a");
        fs::write(&file, vec![7; 10_000]).unwrap();
        let before = digest(tree.path());
        let fsverity = |command| Command::new("fsverity").arg(command).arg(&file).output();
        let enabled = fsverity("enable");
        if !enabled.is_ok_and(|output| output.status.success()) {
            let must = std::env::var_os("PLIMSOLL_VERITY").is_some();
            assert!(!must, "fs-verity is not there");
            eprintln!(
                "SKIPPED {}: no fs-verity here, make emulated has it",
                module_path!()
            );
            return;
        }
        let told = fsverity("measure").unwrap().stdout;
        let told = String::from_utf8(told).unwrap();
        let open = fs::File::open(&file).unwrap();
        let (algorithm, measured) = verity::measure(open.as_fd()).unwrap();
        let hex: String = measured.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            (algorithm, told.split(' ').next()),
            (1, Some(&*format!("sha256:{hex}")))
        );
        let dir = Dir::open(tree.path()).unwrap();
        assert!(dir.lasting(b"a").unwrap().has_verity);
        let after = digest(tree.path());
        assert_ne!(after, before);
        assert_eq!(digest(tree.path()), after);
    }
}
