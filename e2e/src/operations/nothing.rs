//! What leaves the tree as it was, though metadata moves.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use super::{Operation, calls, exchange, hold, shell};

pub(super) const TITLE: &str = "Nothing changed in the end";

pub(super) const OPERATIONS: &[Operation] = &[
    shell("nothing", "nothing at all", "true"),
    shell(
        "read and list",
        "two files are read, every directory is listed",
        "cat bin/tool etc/small > /dev/null; ls -laR . > /dev/null || true",
    ),
    shell("run a program", "`usr/true` is executed", "./usr/true"),
    calls(
        "open for writing, write nothing",
        "`bin/tool` is opened and closed",
        |root| {
            let path = root.join("bin/tool");
            std::fs::OpenOptions::new().write(true).open(path).is_ok()
        },
    ),
    hold(
        "open for writing, and stay open",
        "`etc/small` is open for reading and writing during the check",
        |root| open(root, "etc/small", OFlags::RDWR),
    ),
    shell(
        "write and write the old bytes back",
        "a byte of `bin/tool` is written and committed, then its old content",
        "cp bin/tool /tmp/plimsoll-old.$$; printf X | dd of=bin/tool bs=1 seek=9 conv=notrunc status=none; sync -f .; cat /tmp/plimsoll-old.$$ > bin/tool; rm /tmp/plimsoll-old.$$",
    ),
    shell(
        "rewrite the same bytes",
        "`bin/tool` is overwritten with what it holds",
        "cp bin/tool /tmp/plimsoll-same.$$; dd if=/tmp/plimsoll-same.$$ of=bin/tool conv=notrunc status=none; rm /tmp/plimsoll-same.$$",
    ),
    shell(
        "rewrite a small file the same",
        "so small that its bytes lie in the metadata",
        "printf 'small\\n' | dd of=etc/small conv=notrunc status=none",
    ),
    shell(
        "truncate to the same size",
        "`bin/tool`, 300,000 bytes as before",
        "truncate -s 300000 bin/tool",
    ),
    shell(
        "punch a hole into a hole",
        "in the sparse `var/sparse`",
        "io -c 'fpunch 8192 65536' var/sparse",
    ),
    shell(
        "zeros into a hole",
        "written into the sparse `var/sparse`",
        "dd if=/dev/zero of=var/sparse bs=4096 seek=10 count=4 conv=notrunc status=none",
    ),
    shell(
        "zeros into allocated space",
        "written where `var/allocated` has space and no data",
        "dd if=/dev/zero of=var/allocated bs=4096 seek=2 count=4 conv=notrunc status=none",
    ),
    shell(
        "allocate in a hole",
        "space without data in the sparse `var/sparse`",
        "io -c 'falloc 40960 16384' var/sparse",
    ),
    shell(
        "allocate beyond the end",
        "space behind `bin/tool`, its size kept",
        "io -c 'falloc -k 300000 100000' bin/tool",
    ),
    shell(
        "deduplicate with a copy",
        "`bin/tool` shares the extents of its own copy, which is deleted",
        "cp bin/tool x; sync -f .; io -c 'dedupe x 0 0 299008' bin/tool; rm x",
    ),
    shell(
        "defragment",
        "`bin` on Btrfs: other extents, the same bytes",
        "stat -f -c %T . | grep -q btrfs; btrfs -q filesystem defragment -r bin; sync -f .",
    ),
    shell(
        "reflink of a reflink",
        "`bin/tool` is cloned, and the clone is cloned over it",
        "cp --reflink=always bin/tool x; cat x > /dev/null; cp --reflink=always x bin/tool; rm x",
    ),
    shell(
        "replace by rename, the same bytes",
        "a copy of `bin/tool` with its attributes is renamed over it",
        "cp -p bin/tool bin/new; mv bin/new bin/tool",
    ),
    shell(
        "delete and make again, the same",
        "`bin/tool` with its bytes and attributes",
        "cp -p bin/tool tmp.x; rm bin/tool; cp -p tmp.x bin/tool; rm tmp.x",
    ),
    shell(
        "delete and make a whole tree, the same",
        "`tree` with everything in it",
        "cp -a tree t2; rm -r tree; cp -a t2 tree; rm -r t2",
    ),
    shell(
        "a copy of a directory over itself",
        "`etc`, every file of it written again",
        "cp -a etc x; cp -a x/. etc/; rm -r x",
    ),
    shell(
        "rename a file away and back",
        "`bin/tool` into the root and back",
        "mv bin/tool x; mv x bin/tool",
    ),
    shell(
        "rename a directory away and back",
        "`tree`, copied where the mount cannot rename it",
        "mv tree x; mv x tree",
    ),
    calls(
        "exchange and exchange back",
        "`tree` and `tree2` swap their names twice",
        |root| exchange(root, "tree", "tree2") && exchange(root, "tree", "tree2"),
    ),
    shell(
        "new hard link, deleted again",
        "a second name of `bin/tool`",
        "ln bin/tool x; rm x",
    ),
    shell(
        "break a hard link, the same bytes",
        "`bin/hl1` becomes a file of its own",
        "cp -p bin/hl1 x; mv x bin/hl1",
    ),
    shell(
        "chmod to the same",
        "`bin/tool`, 755 as before",
        "chmod 755 bin/tool",
    ),
    shell(
        "chmod and back",
        "`bin/tool` and the directory `etc/deep`",
        "chmod 700 bin/tool etc/deep; chmod 755 bin/tool etc/deep",
    ),
    shell(
        "chown to the same",
        "`etc/small`, root as before",
        "chown 0:0 etc/small",
    ),
    shell("touch", "`etc/small`: times alone", "touch etc/small"),
    shell("touch a directory", "`etc`: times alone", "touch etc"),
    shell(
        "touch every file",
        "times alone, of all files",
        "find . -type f -exec touch -c {} +",
    ),
    shell(
        "set and remove an xattr",
        "`user.x` of `etc/small`",
        "setfattr -n user.x -v y etc/small; setfattr -x user.x etc/small",
    ),
    shell(
        "set an xattr to what it is",
        "`user.note` of `etc/other`",
        "setfattr -n user.note -v hello etc/other",
    ),
    shell(
        "an ACL that says what the mode says",
        "of `etc/small`",
        "setfacl -m u::rw,g::r,o::r etc/small",
    ),
    shell(
        "immutable flag, taken away again",
        "of `etc/small`",
        "chattr +i etc/small; chattr -i etc/small",
    ),
    shell(
        "no-dump flag",
        "of `etc/small`: an inode flag that is no part of the comparison",
        "chattr +d etc/small",
    ),
    shell(
        "new file, deleted again",
        "in `etc`, of which the times move",
        "echo n > etc/new; rm etc/new",
    ),
    shell(
        "new tree, deleted again",
        "with a file and links in it",
        "mkdir -p etc/n/n; echo n > etc/n/n/f; ln etc/n/n/f etc/n/g; ln -s f etc/n/l; rm -r etc/n",
    ),
    hold(
        "file without a name",
        "`O_TMPFILE` in `etc`, open during the check",
        |root| {
            let file = open(root, "etc", OFlags::TMPFILE | OFlags::WRONLY)?;
            rustix::io::write(&file, b"no name").ok()?;
            Some(file)
        },
    ),
    hold(
        "new file, deleted while open",
        "open during the check, at no path",
        |root| {
            let file = open(root, "etc/n", OFlags::CREATE | OFlags::WRONLY)?;
            rustix::io::write(&file, b"no name").ok()?;
            std::fs::remove_file(root.join("etc/n")).ok()?;
            Some(file)
        },
    ),
];

fn open(root: &Path, path: &str, flags: OFlags) -> Option<OwnedFd> {
    let path = root.join(path);
    rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR).ok()
}
