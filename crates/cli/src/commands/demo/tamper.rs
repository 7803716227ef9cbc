//! What is in the demo's image, and what is done to it.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::XattrFlags;

/// One change that is planted.
#[derive(Debug)]
pub(super) struct Planted {
    /// How it is to be reported.
    pub(super) letter: char,
    /// Where.
    pub(super) path: &'static str,
    /// What it means.
    pub(super) meaning: &'static str,
}

/// Everything that is to be found.
pub(super) const PLANTED: &[Planted] = &[
    Planted {
        letter: 'D',
        path: "/etc/cron.d/backup",
        meaning: "the backup no longer runs",
    },
    Planted {
        letter: 'C',
        path: "/etc/passwd",
        meaning: "guest is root now; same size, mtime put back",
    },
    Planted {
        letter: 'C',
        path: "/opt/app/plugins/audit.py",
        meaning: "it lies in a directory that was replaced; same size and mtime",
    },
    Planted {
        letter: 'D',
        path: "/opt/app/plugins/report.py",
        meaning: "it did not come back with the directory",
    },
    Planted {
        letter: 'A',
        path: "/opt/app/plugins/shell.py",
        meaning: "it came with the directory, and looks years old",
    },
    Planted {
        letter: 'C',
        path: "/usr/bin/helper",
        meaning: "set-uid: whoever runs it is root",
    },
    Planted {
        letter: 'C',
        path: "/usr/bin/server",
        meaning: "CAP_SYS_ADMIN for whoever runs it, and ls does not show it",
    },
    Planted {
        letter: 'C',
        path: "/usr/bin/tool",
        meaning: "one byte of the program; same size and mtime",
    },
    Planted {
        letter: 'C',
        path: "/var/www/index.html",
        meaning: "a place to hide things in",
    },
];

/// What is done and is no change, for people.
pub(super) const HARMLESS: &str = "\
No line for /etc/app.conf, which was opened for writing and left as it was, nor
for /opt/app/plugins/login.py, deleted and put back the same: a copy on disk is
no change.";

/// 2023-11-14T22:13:20.123456789Z: with nanoseconds, which are put back too.
const LONG_AGO: Duration = Duration::new(1_700_000_000, 123_456_789);

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000::/home/guest:/bin/sh\n";
const PASSWD_AFTER: &str =
    "root:x:0:0:root:/root:/bin/sh\nguest:x:0000:0000::/home/guest:/bin/sh\n";

/// Fills the image's tree.
pub(super) fn image(root: &Path) -> io::Result<()> {
    // Some program of the host; a part of it will do, since nobody runs it.
    let mut program = fs::read("/bin/busybox").or_else(|_| fs::read("/bin/cat"))?;
    program.truncate(128 << 10);
    for (path, content, mode) in [
        ("etc/passwd", PASSWD.as_bytes(), 0o644),
        ("etc/app.conf", b"listen 80\n", 0o644),
        (
            "etc/cron.d/backup",
            b"0 3 * * * root /usr/bin/tool\n",
            0o644,
        ),
        (
            "opt/app/plugins/audit.py",
            b"def audit(): return check()\n",
            0o644,
        ),
        (
            "opt/app/plugins/login.py",
            b"def login(): return ask()\n",
            0o644,
        ),
        ("opt/app/plugins/report.py", b"def report(): pass\n", 0o644),
        ("usr/bin/helper", &program, 0o755),
        ("usr/bin/server", &program, 0o755),
        ("usr/bin/tool", &program, 0o755),
        ("var/www/index.html", b"<p>hello</p>\n", 0o644),
    ] {
        write(&root.join(path), content, mode)?;
    }
    Ok(())
}

/// Changes the container's tree, which is a copy of the image's so far.
pub(super) fn tamper(root: &Path) -> io::Result<()> {
    overwrite(&root.join("etc/passwd"), 0, PASSWD_AFTER.as_bytes())?;
    overwrite(&root.join("usr/bin/tool"), 100, b"\xcc")?;
    fs::set_permissions(
        root.join("usr/bin/helper"),
        fs::Permissions::from_mode(0o4755),
    )?;
    capability(&root.join("usr/bin/server"))?;
    rustix::fs::setxattr(
        root.join("var/www/index.html"),
        "user.note",
        b"kept here",
        XattrFlags::empty(),
    )?;
    fs::remove_file(root.join("etc/cron.d/backup"))?;

    let plugins = root.join("opt/app/plugins");
    fs::remove_dir_all(&plugins)?;
    write(
        &plugins.join("audit.py"),
        b"def audit(): return True ; \n",
        0o644,
    )?;
    write(
        &plugins.join("login.py"),
        b"def login(): return ask()\n",
        0o644,
    )?;
    write(
        &plugins.join("shell.py"),
        b"import os; os.system(cmd)\n",
        0o644,
    )?;

    // Opened for writing and left alone: overlayfs copies the file all the same.
    OpenOptions::new()
        .write(true)
        .open(root.join("etc/app.conf"))?;
    Ok(())
}

/// Writes over a part of a file and puts its modification time back.
fn overwrite(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let modified = fs::metadata(path)?.modified()?;
    let file = OpenOptions::new().write(true).open(path)?;
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, offset)?;
    file.set_times(FileTimes::new().set_modified(modified))
}

/// Gives a program CAP_SYS_ADMIN (bit 21): `struct vfs_cap_data` revision 2, with the effective bit
/// (kernel `include/uapi/linux/capability.h`).
fn capability(path: &Path) -> io::Result<()> {
    let mut data = [0_u8; 20];
    data[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
    data[4..8].copy_from_slice(&(1_u32 << 21).to_le_bytes());
    rustix::fs::setxattr(path, "security.capability", &data, XattrFlags::empty())?;
    Ok(())
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + LONG_AGO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edits_keep_the_size() {
        assert_eq!(PASSWD.len(), PASSWD_AFTER.len());
        let dir = tempfile::tempdir().unwrap();
        image(dir.path()).unwrap();
        let path = dir.path().join("etc/passwd");
        let before = fs::metadata(&path).unwrap();
        overwrite(&path, 0, PASSWD_AFTER.as_bytes()).unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!(before.len(), after.len());
        assert_eq!(before.modified().unwrap(), after.modified().unwrap());
        assert_eq!(fs::read(&path).unwrap(), PASSWD_AFTER.as_bytes());
        let audit = fs::read(dir.path().join("opt/app/plugins/audit.py")).unwrap();
        assert_eq!(audit.len(), b"def audit(): return True ; \n".len());
    }
}
