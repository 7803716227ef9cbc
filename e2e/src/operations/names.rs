//! Files made, deleted, replaced and renamed.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{Operation, calls, exchange, shell};

pub(super) const TITLE: &str = "Files made, deleted, renamed";

pub(super) const OPERATIONS: &[Operation] = &[
    shell(
        "new file, directory, link, FIFO, device",
        "in the root",
        "echo n > new; mkdir -p nd/sub; echo n > nd/sub/f; ln -s x nl; mkfifo nf; mknod nn c 1 7",
    ),
    calls(
        "file without a name, then named",
        "`O_TMPFILE`, then linked as `etc/late`",
        |root| {
            let fd = match rustix::fs::open(
                root.join("etc"),
                OFlags::TMPFILE | OFlags::WRONLY,
                Mode::RUSR,
            ) {
                // A file system in a program has none.
                Err(Errno::OPNOTSUPP) => return false,
                fd => fd.expect("O_TMPFILE"),
            };
            rustix::io::write(&fd, b"late").expect("write");
            let from = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
            let to = root.join("etc/late");
            rustix::fs::linkat(CWD, from, CWD, to, AtFlags::SYMLINK_FOLLOW).is_ok()
        },
    ),
    calls(
        "names that are not text",
        "line ends, escape codes, bytes that are no UTF-8, 255 bytes",
        |root| {
            use std::os::unix::ffi::OsStrExt as _;
            for name in [
                &b"new\nline"[..],
                b"esc\x1b[2J",
                b"\xff\xfe",
                "\u{202e}rtl".as_bytes(),
                b" lead",
                &[b'n'; 255],
            ] {
                let path = root.join("etc").join(std::ffi::OsStr::from_bytes(name));
                match std::fs::write(path, b"x") {
                    // fuse-overlayfs leaves room for its marks.
                    Err(e) if e.raw_os_error() == Some(Errno::NAMETOOLONG.raw_os_error()) => {}
                    written => written.expect("odd name"),
                }
            }
            true
        },
    ),
    shell("delete", "`bin/tool`", "rm bin/tool"),
    shell(
        "replace by rename",
        "a new file over `bin/tool`",
        "cp bin/other bin/new; mv bin/new bin/tool",
    ),
    shell(
        "rename a file",
        "`bin/tool` to `bin/renamed`",
        "mv bin/tool bin/renamed",
    ),
    shell(
        "rename a file into another directory",
        "`bin/tool` to `etc/tool`",
        "mv bin/tool etc/tool",
    ),
    shell(
        "rename a link",
        "`bin/link` to `bin/l`",
        "mv bin/link bin/l",
    ),
    shell(
        "rename over a deleted name",
        "`bin/tool` to the name of a file deleted before",
        "rm etc/other; mv bin/tool etc/other",
    ),
    shell(
        "rename over an image file, then delete",
        "`bin/other` to `bin/tool`, which is deleted",
        "mv bin/other bin/tool; rm bin/tool",
    ),
    calls("rename leaving a whiteout", "`RENAME_WHITEOUT`", |root| {
        rustix::fs::renameat_with(
            CWD,
            root.join("bin/tool"),
            CWD,
            root.join("bin/away"),
            RenameFlags::WHITEOUT,
        )
        .is_ok()
    }),
    calls(
        "exchange a file and a directory",
        "`bin/tool` and `tree`",
        |root| exchange(root, "bin/tool", "tree"),
    ),
    shell(
        "make a file that an image layer deletes",
        "`etc/gone`, of which a lower layer has another",
        "echo gone > etc/gone",
    ),
    shell(
        "make a file where a whiteout is in a directory without a mark",
        "`lib/hidden`, which an image layer deletes",
        "echo hidden > lib/hidden",
    ),
];
