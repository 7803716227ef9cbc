//! Random sequences of file operations, deterministic from a seed, and their reduction to the fewest
//! that still show a difference.

use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps,
    Uid, XattrFlags,
};

/// Returns the number in an environment variable.
///
/// # Panics
/// When there is something else in it.
#[must_use]
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}

/// One operation on a tree, with everything it needs: the same operation always does the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    call: Call,
    path: String,
    other: String,
    number: u64,
    /// Put the modification time back afterwards, as somebody who hides does.
    cover: bool,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Write,
    RewriteSame,
    Append,
    Truncate,
    TruncateToSameSize,
    Replace,
    OpenOnly,
    Read,
    Punch,
    Zero,
    Collapse,
    Insert,
    Allocate,
    CopyRange,
    Reflink,
    ReflinkAll,
    MappedStore,
    DirectWrite,
    Rename,
    RenameBack,
    Exchange,
    RenameWhiteout,
    Link,
    Symlink,
    MakeNode,
    MakeDirectory,
    RemoveDirectory,
    RemoveTree,
    CopyTree,
    Unlink,
    UnlinkAndMakeTheSame,
    Chmod,
    ChmodSame,
    Chown,
    Touch,
    SetXattr,
    RemoveXattr,
    Capability,
    Acl,
    Unnamed,
    Sync,
}

const CALLS: &[Call] = &[
    Call::Write,
    Call::Write,
    Call::Write,
    Call::RewriteSame,
    Call::Append,
    Call::Append,
    Call::Truncate,
    Call::TruncateToSameSize,
    Call::Replace,
    Call::OpenOnly,
    Call::OpenOnly,
    Call::Read,
    Call::Punch,
    Call::Zero,
    Call::Collapse,
    Call::Insert,
    Call::Allocate,
    Call::CopyRange,
    Call::Reflink,
    Call::ReflinkAll,
    Call::DirectWrite,
    Call::Rename,
    Call::Rename,
    Call::RenameBack,
    Call::Exchange,
    Call::RenameWhiteout,
    Call::Link,
    Call::Link,
    Call::Symlink,
    Call::MakeNode,
    Call::MakeDirectory,
    Call::RemoveDirectory,
    Call::RemoveTree,
    Call::CopyTree,
    Call::Unlink,
    Call::Unlink,
    Call::UnlinkAndMakeTheSame,
    Call::Chmod,
    Call::ChmodSame,
    Call::Chown,
    Call::Touch,
    Call::SetXattr,
    Call::RemoveXattr,
    Call::Capability,
    Call::Acl,
    Call::Unnamed,
];

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {} {} {}{}",
            self.call,
            self.path,
            self.other,
            self.number,
            if self.cover { " covered" } else { "" }
        )
    }
}

/// Makes steps.
#[derive(Debug)]
pub struct Generator {
    rng: Rng,
    files: Vec<String>,
    directories: Vec<String>,
}

impl Generator {
    /// Makes steps on the tree at `image`, and on names that it does not have yet.
    ///
    /// # Panics
    /// When the tree cannot be read.
    #[must_use]
    pub fn new(seed: u64, image: &Path) -> Self {
        let (mut files, mut directories) = (BTreeSet::new(), BTreeSet::new());
        let mut todo = vec![(image.to_owned(), String::new())];
        while let Some((path, name)) = todo.pop() {
            directories.insert(if name.is_empty() {
                ".".to_owned()
            } else {
                name.clone()
            });
            for entry in std::fs::read_dir(&path).expect("directory of the image") {
                let entry = entry.expect("entry");
                let Some(last) = entry.file_name().to_str().map(str::to_owned) else {
                    continue;
                };
                let child = if name.is_empty() {
                    last
                } else {
                    format!("{name}/{last}")
                };
                if entry.file_type().expect("type").is_dir() {
                    todo.push((entry.path(), child));
                } else {
                    files.insert(child);
                }
            }
        }
        Self {
            rng: Rng::with_seed(seed),
            files: files.into_iter().collect(),
            directories: directories.into_iter().collect(),
        }
    }

    /// Returns the next step.
    pub fn next_step(&mut self) -> Step {
        let mut call = CALLS[self.rng.usize(..CALLS.len())];
        // These cost a process or a flush each.
        match self.rng.u32(..2000) {
            0 => call = Call::MappedStore,
            1 => call = Call::Sync,
            _ => {}
        }
        Step {
            call,
            path: self.path(),
            other: self.path(),
            number: self.rng.u64(..),
            cover: self.rng.u32(..3) == 0,
        }
    }

    /// A path of the image, of a directory, or of something that earlier steps may have made. Few
    /// enough come up often enough that steps meet.
    fn path(&mut self) -> String {
        let pick = |rng: &mut Rng, from: &[String]| match rng.u32(..4) {
            0 => from[rng.usize(..from.len())].clone(),
            _ => from[rng.usize(..from.len().min(40)) * 7919 % from.len()].clone(),
        };
        match self.rng.u32(..10) {
            0..=5 => pick(&mut self.rng, &self.files),
            6..=7 => pick(&mut self.rng, &self.directories),
            _ => {
                let dir = pick(&mut self.rng, &self.directories);
                format!("{dir}/n{}", self.rng.u32(..12))
            }
        }
    }
}

impl Step {
    /// Does it in the tree at `root`. What cannot be done, because nothing is there or the file system
    /// has no such thing, is not done.
    pub fn perform(&self, root: &Path) {
        let path = root.join(&self.path);
        let before = std::fs::symlink_metadata(&path).ok();
        // The outcome is the tree's, and the referee reads that.
        let _done = self.act(root, &path);
        if self.cover
            && let Some(before) = before
            && let Ok(time) = before.modified()
            && let Ok(since) = time.duration_since(std::time::UNIX_EPOCH)
        {
            let time = Timespec {
                tv_sec: since.as_secs().cast_signed(),
                tv_nsec: i64::from(since.subsec_nanos()),
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            let _covered = rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW);
        }
    }

    fn act(&self, root: &Path, path: &Path) -> std::io::Result<()> {
        let other = root.join(&self.other);
        let n = self.number;
        match self.call {
            Call::Write => {
                let (file, size) = writable(path)?;
                file.write_all_at(&bytes(n, 1 + n as usize % 5000), n % size.max(1))?;
            }
            Call::RewriteSame => {
                let (file, size) = writable(path)?;
                let mut old = vec![0; size.min(200_000) as usize];
                std::fs::File::open(path)?.read_exact_at(&mut old, 0)?;
                file.write_all_at(&old, 0)?;
            }
            Call::Append => {
                let (file, size) = writable(path)?;
                file.write_all_at(&bytes(n, n as usize % 3000), size.min(2_000_000))?;
            }
            Call::Truncate => {
                let (file, size) = writable(path)?;
                file.set_len(n % (size + 2000).min(2_000_000))?;
            }
            Call::TruncateToSameSize => {
                let (file, size) = writable(path)?;
                file.set_len(size)?;
            }
            Call::Replace => {
                let temporary = root.join("tmp.torture");
                std::fs::write(&temporary, bytes(n, n as usize % 9000))?;
                std::fs::rename(&temporary, path)?;
            }
            Call::OpenOnly => drop(writable(path)?),
            Call::Read => drop(regular(path).and_then(|()| std::fs::read(path))?),
            Call::Punch => {
                self.allocate(path, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE)?
            }
            Call::Zero => self.allocate(path, FallocateFlags::ZERO_RANGE)?,
            Call::Collapse => self.allocate(path, FallocateFlags::COLLAPSE_RANGE)?,
            Call::Insert => self.allocate(path, FallocateFlags::INSERT_RANGE)?,
            Call::Allocate => self.allocate(path, FallocateFlags::KEEP_SIZE)?,
            Call::CopyRange => {
                regular(&other)?;
                let from = std::fs::File::open(&other)?;
                let (file, size) = writable(path)?;
                let (mut at, mut to) = (n % 10_000, n % size.max(1));
                rustix::fs::copy_file_range(
                    &from,
                    Some(&mut at),
                    &file,
                    Some(&mut to),
                    n as usize % 70_000,
                )?;
            }
            Call::Reflink | Call::ReflinkAll => {
                regular(&other)?;
                let from = std::fs::File::open(&other)?;
                let (file, _) = writable(path)?;
                rustix::fs::ioctl_ficlone(&file, &from)?;
            }
            Call::MappedStore => {
                regular(path)?;
                let store = format!("mwrite -S 0x{:02x} {} 10", n % 256, n % 4000);
                std::process::Command::new("xfs_io")
                    .args(["-c", "mmap -rw 0 4096", "-c", &store])
                    .arg(path)
                    .output()?;
            }
            Call::DirectWrite => {
                regular(path)?;
                let flags = OFlags::DIRECT.bits().cast_signed();
                let file = std::fs::OpenOptions::new()
                    .write(true)
                    .custom_flags(flags)
                    .open(path)?;
                let buffer = vec![u8::try_from(n % 256).unwrap_or(0); 8192];
                let shift = buffer.as_ptr().align_offset(4096);
                file.write_all_at(&buffer[shift..shift + 4096], n % 8 * 4096)?;
            }
            Call::Rename => std::fs::rename(path, &other)?,
            Call::RenameBack => {
                let aside = root.join("aside.torture");
                std::fs::rename(path, &aside)?;
                std::fs::rename(&aside, path)?;
            }
            Call::Exchange => {
                rustix::fs::renameat_with(CWD, path, CWD, &other, RenameFlags::EXCHANGE)?
            }
            Call::RenameWhiteout => {
                rustix::fs::renameat_with(CWD, path, CWD, &other, RenameFlags::WHITEOUT)?
            }
            Call::Link => std::fs::hard_link(path, &other)?,
            Call::Symlink => std::os::unix::fs::symlink(format!("/t{}", n % 100), path)?,
            Call::MakeNode => {
                let (kind, device) = match n % 4 {
                    0 => (FileType::Fifo, 0),
                    1 => (
                        FileType::CharacterDevice,
                        rustix::fs::makedev(1, (n % 200) as u32),
                    ),
                    2 => (
                        FileType::BlockDevice,
                        rustix::fs::makedev(7, (n % 200) as u32),
                    ),
                    _ => (FileType::Socket, 0),
                };
                rustix::fs::mknodat(CWD, path, kind, Mode::from(0o640), device)?;
            }
            Call::MakeDirectory => std::fs::create_dir(path)?,
            Call::RemoveDirectory => std::fs::remove_dir(path)?,
            Call::RemoveTree => {
                if self.path != "." && n.is_multiple_of(8) {
                    std::fs::remove_dir_all(path)?;
                }
            }
            Call::CopyTree => {
                let copy = root.join("copy.torture");
                // A copy over a pipe that an earlier step left there would wait for its reader.
                let free = std::fs::symlink_metadata(&copy).is_err();
                if self.path != "." && n.is_multiple_of(16) && free && path.is_dir() {
                    let cp = |from: &Path, to: &Path| {
                        std::process::Command::new("cp")
                            .arg("-a")
                            .args([from, to])
                            .output()
                    };
                    cp(path, &copy)?;
                    std::fs::remove_dir_all(path)?;
                    std::fs::rename(&copy, path)?;
                }
            }
            Call::Unlink => std::fs::remove_file(path)?,
            Call::UnlinkAndMakeTheSame => {
                regular(path)?;
                let (old, metadata) = (std::fs::read(path)?, std::fs::metadata(path)?);
                std::fs::remove_file(path)?;
                std::fs::write(path, old)?;
                std::fs::set_permissions(path, metadata.permissions())?;
            }
            Call::Chmod => {
                not_a_link(path)?;
                std::fs::set_permissions(
                    path,
                    std::fs::Permissions::from_mode((n % 0o10000) as u32 | 0o400),
                )?;
            }
            Call::ChmodSame => {
                not_a_link(path)?;
                std::fs::set_permissions(path, std::fs::metadata(path)?.permissions())?;
            }
            Call::Chown => {
                let id = (n % 3) as u32;
                rustix::fs::chownat(
                    CWD,
                    path,
                    Some(Uid::from_raw(id)),
                    Some(Gid::from_raw(id)),
                    AtFlags::SYMLINK_NOFOLLOW,
                )?;
            }
            Call::Touch => {
                let time = Timespec {
                    tv_sec: (n % 2_000_000_000).cast_signed(),
                    tv_nsec: (n % 1_000_000_000).cast_signed(),
                };
                let times = Timestamps {
                    last_access: time,
                    last_modification: time,
                };
                rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Call::SetXattr => {
                let name = [
                    "user.a",
                    "user.b",
                    "trusted.c",
                    "user.overlay.opaque",
                    "trusted.overlay.opaque",
                ][n as usize % 5];
                rustix::fs::lsetxattr(
                    path,
                    name,
                    &bytes(n, n as usize % 300),
                    XattrFlags::empty(),
                )?;
            }
            Call::RemoveXattr => {
                let name = [
                    "user.a",
                    "user.b",
                    "trusted.c",
                    "user.note",
                    "security.capability",
                ][n as usize % 5];
                rustix::fs::lremovexattr(path, name)?;
            }
            Call::Capability => {
                regular(path)?;
                // struct vfs_cap_data, revision 2: one effective capability.
                let mut value = [0u8; 20];
                value[..4].copy_from_slice(&0x0200_0001u32.to_le_bytes());
                value[4..8].copy_from_slice(&(1u32 << (n % 20)).to_le_bytes());
                rustix::fs::lsetxattr(path, "security.capability", &value, XattrFlags::empty())?;
            }
            Call::Acl => {
                not_a_link(path)?;
                let entries: [(u16, u16, u32); 5] = [
                    (1, 6, u32::MAX),
                    (2, (n % 8) as u16, 1000),
                    (4, 4, u32::MAX),
                    (16, 7, u32::MAX),
                    (32, 4, u32::MAX),
                ];
                let mut value = 2u32.to_le_bytes().to_vec();
                for (tag, permissions, id) in entries {
                    value.extend(tag.to_le_bytes());
                    value.extend(permissions.to_le_bytes());
                    value.extend(id.to_le_bytes());
                }
                rustix::fs::lsetxattr(
                    path,
                    "system.posix_acl_access",
                    &value,
                    XattrFlags::empty(),
                )?;
            }
            Call::Unnamed => {
                let dir = path
                    .parent()
                    .map_or_else(|| root.to_owned(), Path::to_owned);
                let fd = rustix::fs::open(&dir, OFlags::TMPFILE | OFlags::RDWR, Mode::from(0o600))?;
                rustix::io::write(&fd, &bytes(n, n as usize % 4000))?;
                let from = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
                rustix::fs::linkat(CWD, from, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
            }
            Call::Sync => rustix::fs::syncfs(std::fs::File::open(root)?)?,
        }
        Ok(())
    }

    fn allocate(&self, path: &Path, how: FallocateFlags) -> std::io::Result<()> {
        let (file, size) = writable(path)?;
        let block = 4096;
        let at = self.number % size.max(1) / block * block;
        rustix::fs::fallocate(&file, how, at, block * (1 + self.number % 4))?;
        Ok(())
    }
}

fn regular(path: &Path) -> std::io::Result<()> {
    if std::fs::symlink_metadata(path)?.is_file() {
        Ok(())
    } else {
        Err(std::io::ErrorKind::InvalidInput.into())
    }
}

fn not_a_link(path: &Path) -> std::io::Result<()> {
    if std::fs::symlink_metadata(path)?.is_symlink() {
        Err(std::io::ErrorKind::InvalidInput.into())
    } else {
        Ok(())
    }
}

fn writable(path: &Path) -> std::io::Result<(std::fs::File, u64)> {
    regular(path)?;
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    (0..length).map(|_| rng.u8(..)).collect()
}

/// Leaves steps out of a sequence as long as `fails` still says yes, and returns what is left.
pub fn reduce(mut steps: Vec<Step>, mut fails: impl FnMut(&[Step]) -> bool) -> Vec<Step> {
    let mut portion = steps.len() / 2;
    while portion > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + portion).min(steps.len()));
            if fails(&fewer) {
                steps = fewer;
            } else {
                at += portion;
            }
        }
        portion /= 2;
    }
    steps
}

/// Fills layers, the top one first, with parts of this machine's own tree: a real Debian's.
///
/// # Panics
/// When it cannot be copied.
pub fn build_debian(layers: &[PathBuf]) {
    let parts = [
        "/etc",
        "/usr/share/python3 /usr/share/perl5",
        "/usr/lib/python3 /usr/share/bash-completion",
        "/usr/sbin",
        "/usr/share/zoneinfo/Europe",
    ];
    for (n, layer) in layers.iter().rev().enumerate() {
        let layer = layer.display();
        let part = parts[n % parts.len()];
        crate::command::shell(&format!(
            "for p in {part}; do mkdir -p {layer}$(dirname $p); cp -a $p {layer}$p 2>/dev/null || true; done
             find {layer} -type f -size +300k -delete
             mkdir -p {layer}/shared/d; echo {n} > {layer}/shared/f{n}; echo {n} > {layer}/shared/d/same
             echo hl{n} > {layer}/shared/hl{n}; ln {layer}/shared/hl{n} {layer}/shared/hm{n}; ln {layer}/shared/hl{n} {layer}/shared/d/hn{n}"
        ));
    }
}
