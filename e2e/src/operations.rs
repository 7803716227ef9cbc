//! Operations on a tree that a process in a container can do, and the image they are done to.
//!
//! One list for every engine: `facts` about what the kernel does with each of them live in the
//! engines' documentation, here they are only done. What must be reported is never written down: the
//! brute-force referee says it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};

use crate::command::run;

/// How an operation is done.
#[derive(Clone, Copy)]
pub enum Action {
    /// By a shell in the root of the container.
    Shell(&'static str),
    /// By calls that no common program makes.
    Calls(fn(&Path) -> bool),
}

/// One operation.
#[derive(Clone, Copy)]
pub struct Operation {
    /// Its name.
    pub name: &'static str,
    /// How it is done.
    pub action: Action,
}

impl Operation {
    /// Does it in the tree at `root`; returns whether the file system can do it at all.
    ///
    /// # Panics
    /// When a shell cannot be started.
    pub fn perform(&self, root: &Path) -> bool {
        match self.action {
            Action::Shell(script) => std::process::Command::new("/bin/bash")
                .args(["-euc", script])
                .current_dir(root)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .status()
                .expect("bash")
                .success(),
            Action::Calls(calls) => calls(root),
        }
    }
}

/// Fills image layers with the files that the operations work on. `layers` are directories, the base
/// last; the base gets most, each one above changes something.
///
/// # Panics
/// When a file cannot be made.
pub fn build_image(layers: &[&Path]) {
    let Some((base, above)) = layers.split_last() else {
        return;
    };
    run(
        "/bin/bash",
        &["-euc", BASE, "base", &base.display().to_string()],
    );
    for (n, layer) in above.iter().rev().enumerate() {
        run(
            "/bin/bash",
            &[
                "-euc",
                ABOVE,
                "above",
                &layer.display().to_string(),
                &n.to_string(),
            ],
        );
    }
}

const BASE: &str = r#"
cd "$1"
umask 022
mkdir -p bin etc/deep/er usr/lib tree/sub/sub tree2/sub var empty lib/many
for i in $(seq 1 20); do echo "file $i" > lib/many/f$i; done
head -c 300000 /dev/urandom > bin/tool
head -c 300000 /dev/urandom > bin/other
chmod 755 bin/tool bin/other
echo small > etc/small
echo other > etc/other
echo conf > etc/deep/er/conf
head -c 70000 /dev/urandom > usr/lib/lib.so
ln -s tool bin/link
ln -s /etc/small etc/abs
head -c 5000 /dev/urandom > bin/hl1
ln bin/hl1 bin/hl2
ln bin/hl1 etc/hl3
mkfifo var/fifo
mknod var/null c 1 3
mknod var/blk b 7 99
setfattr -n user.note -v hello etc/other
truncate -s 1M var/sparse
echo tail >> var/sparse
for d in tree tree/sub tree/sub/sub tree2 tree2/sub; do echo "$d" > $d/file; done
touch var/zero
chown 1000:1000 var/zero
find . -depth -exec touch -h -d '2020-01-02 03:04:05.678901234' {} +
"#;

const ABOVE: &str = r#"
cd "$1"
mkdir -p etc tree/sub usr/lib
echo "layer $2" > etc/layer$2
echo "sub layer $2" > tree/sub/layer$2
head -c 70000 /dev/urandom > usr/lib/lib$2.so
find . -depth -exec touch -h -d '2021-01-02 03:04:05' {} +
"#;

/// Every operation, most of them alone.
pub const OPERATIONS: &[Operation] = &[
    shell("nothing", "true"),
    shell(
        "read and list",
        "cat bin/tool etc/small > /dev/null; ls -laR . > /dev/null",
    ),
    calls("open for writing, write nothing", |root| {
        let path = root.join("bin/tool");
        std::fs::OpenOptions::new().write(true).open(path).is_ok()
    }),
    shell(
        "overwrite, same size",
        "printf X | dd of=bin/tool bs=1 seek=100 conv=notrunc status=none",
    ),
    shell(
        "overwrite, same size and old mtime",
        "t=$(stat -c %y bin/tool); printf X | dd of=bin/tool bs=1 seek=100 conv=notrunc status=none; touch -d \"$t\" bin/tool",
    ),
    shell(
        "overwrite a small file, old mtime",
        "t=$(stat -c %y etc/small); echo SMALL > etc/small; touch -d \"$t\" etc/small",
    ),
    shell("append", "echo more >> etc/small"),
    shell("append to a big file", "echo more >> bin/tool"),
    shell(
        "write and write the old bytes back",
        "cp bin/tool /tmp/plimsoll-old.$$; printf X | dd of=bin/tool bs=1 seek=9 conv=notrunc status=none; sync -f .; cat /tmp/plimsoll-old.$$ > bin/tool; rm /tmp/plimsoll-old.$$",
    ),
    shell(
        "rewrite the same bytes",
        "cp bin/tool /tmp/plimsoll-same.$$; dd if=/tmp/plimsoll-same.$$ of=bin/tool conv=notrunc status=none; rm /tmp/plimsoll-same.$$",
    ),
    shell(
        "rewrite a small file the same",
        "printf 'small\\n' | dd of=etc/small conv=notrunc status=none",
    ),
    shell(
        "store through a shared mapping",
        "xfs_io -c 'mmap -rw 0 8192' -c 'mwrite -S 0x41 100 50' bin/tool",
    ),
    shell("truncate to the same size", "truncate -s 300000 bin/tool"),
    shell("truncate shorter", "truncate -s 1000 bin/tool"),
    shell("truncate longer", "truncate -s 400000 bin/tool"),
    shell("truncate to nothing", ": > bin/tool"),
    shell(
        "truncate and restore the size",
        "truncate -s 1000 bin/tool; truncate -s 300000 bin/tool",
    ),
    shell("punch a hole", "xfs_io -c 'fpunch 8192 65536' bin/tool"),
    shell("zero a range", "xfs_io -c 'fzero 8192 65536' bin/tool"),
    shell(
        "punch a hole into a hole",
        "xfs_io -c 'fpunch 8192 65536' var/sparse",
    ),
    shell(
        "zeros into a hole",
        "dd if=/dev/zero of=var/sparse bs=4096 seek=10 count=4 conv=notrunc status=none",
    ),
    shell(
        "allocate in a hole",
        "xfs_io -c 'falloc 40960 16384' var/sparse",
    ),
    shell(
        "allocate beyond the end",
        "xfs_io -c 'falloc -k 300000 100000' bin/tool",
    ),
    shell(
        "collapse a range",
        "xfs_io -c 'fcollapse 4096 4096' bin/tool",
    ),
    shell("insert a range", "xfs_io -c 'finsert 4096 4096' bin/tool"),
    shell(
        "direct write",
        "xfs_io -d -c 'pwrite -S 0x42 4096 4096' bin/tool",
    ),
    shell(
        "copy_file_range from another file",
        "xfs_io -c 'copy_range -s 0 -d 4096 -l 65536 bin/other' bin/tool",
    ),
    shell(
        "reflink a range of another file",
        "xfs_io -c 'reflink bin/other 0 4096 65536' bin/tool",
    ),
    shell(
        "reflink the whole of another file",
        "xfs_io -c 'reflink bin/other 0 0 300000' bin/tool",
    ),
    shell(
        "reflink of itself, moved",
        "xfs_io -c 'reflink bin/tool 0 65536 65536' bin/tool",
    ),
    shell(
        "replace by rename",
        "cp bin/other bin/new; mv bin/new bin/tool",
    ),
    shell(
        "replace by rename, the same bytes",
        "cp -p bin/tool bin/new; mv bin/new bin/tool",
    ),
    shell("delete", "rm bin/tool"),
    shell(
        "delete and make again, the same",
        "cp -p bin/tool tmp.x; rm bin/tool; cp -p tmp.x bin/tool; rm tmp.x",
    ),
    shell(
        "delete and make again, other bytes, old mtime and size",
        "t=$(stat -c %y bin/tool); rm bin/tool; head -c 300000 /dev/zero > bin/tool; chmod 755 bin/tool; touch -d \"$t\" bin/tool",
    ),
    shell("delete a directory", "rm -r tree"),
    shell("delete an empty directory", "rmdir empty"),
    shell("delete what is in a directory", "rm lib/many/*"),
    shell("delete and make a directory", "rm -r tree; mkdir tree"),
    shell(
        "delete and make a directory, some of it the same",
        "cp -a tree t2; rm -r tree; mkdir tree; cp -p t2/file tree/file; mkdir tree/sub; echo new > tree/sub/new; rm -r t2",
    ),
    shell(
        "delete and make a whole tree, the same",
        "cp -a tree t2; rm -r tree; cp -a t2 tree; rm -r t2",
    ),
    shell(
        "file becomes directory",
        "rm bin/tool; mkdir bin/tool; echo x > bin/tool/x",
    ),
    shell("file becomes link", "rm bin/tool; ln -s other bin/tool"),
    shell("file becomes FIFO", "rm bin/tool; mkfifo bin/tool"),
    shell("file becomes device", "rm bin/tool; mknod bin/tool c 5 1"),
    shell("directory becomes file", "rm -r tree; echo x > tree"),
    shell("directory becomes link", "rm -r tree; ln -s tree2 tree"),
    shell(
        "link becomes directory",
        "rm bin/link; mkdir -p bin/link/sub",
    ),
    shell(
        "link gets another target of the same length and mtime",
        "t=$(stat -c %y bin/link); rm bin/link; ln -s toll bin/link; touch -h -d \"$t\" bin/link",
    ),
    shell(
        "device gets other numbers",
        "rm var/null; mknod var/null c 1 5",
    ),
    shell(
        "block device becomes character device",
        "rm var/blk; mknod var/blk c 7 99",
    ),
    shell("rename a file", "mv bin/tool bin/renamed"),
    shell(
        "rename a file away and back",
        "mv bin/tool x; mv x bin/tool",
    ),
    shell(
        "rename a file into another directory",
        "mv bin/tool etc/tool",
    ),
    shell(
        "swap two files by renames",
        "mv bin/tool x; mv bin/other bin/tool; mv x bin/other",
    ),
    shell("rename a directory", "mv tree moved"),
    shell("rename a directory into another", "mv tree var/tree"),
    shell("rename a directory away and back", "mv tree x; mv x tree"),
    shell(
        "rename a directory and change in it",
        "mv tree moved; echo changed > moved/sub/file; rm moved/file; echo new > moved/new",
    ),
    shell(
        "rename a directory, make the old one again",
        "mv tree moved; mkdir tree; cp -p moved/file tree/file",
    ),
    shell(
        "move a subdirectory into its made-again parent",
        "mv tree moved; mkdir tree; mv moved/sub tree/sub",
    ),
    shell(
        "rename a new directory over a deleted one",
        "rm -r tree; mkdir n; echo n > n/n; mv n tree",
    ),
    shell(
        "rename a directory twice",
        "mv tree a; mkdir b; mv a b/c; echo x >> b/c/sub/sub/file",
    ),
    calls("exchange two files", |root| {
        exchange(root, "bin/tool", "bin/other")
    }),
    calls("exchange two directories", |root| {
        exchange(root, "tree", "tree2")
    }),
    calls("exchange a file and a directory", |root| {
        exchange(root, "bin/tool", "tree")
    }),
    calls("exchange and exchange back", |root| {
        exchange(root, "tree", "tree2") && exchange(root, "tree", "tree2")
    }),
    calls("rename leaving a whiteout", |root| {
        rustix::fs::renameat_with(
            CWD,
            root.join("bin/tool"),
            CWD,
            root.join("bin/away"),
            RenameFlags::WHITEOUT,
        )
        .is_ok()
    }),
    shell("new hard link to a file", "ln bin/tool bin/tool2"),
    shell(
        "new hard link, write through it",
        "ln bin/tool bin/tool2; echo x >> bin/tool2",
    ),
    shell("write through one of several names", "echo x >> bin/hl1"),
    shell(
        "overwrite through one of several names, old mtime",
        "t=$(stat -c %y bin/hl1); printf X | dd of=bin/hl2 bs=1 conv=notrunc status=none; touch -d \"$t\" bin/hl2",
    ),
    shell("chmod one of several names", "chmod 600 etc/hl3"),
    shell("delete one of several names", "rm bin/hl1"),
    shell(
        "delete all but one, then write",
        "rm bin/hl1 bin/hl2; echo x >> etc/hl3",
    ),
    shell(
        "write through one name, delete it",
        "echo x >> bin/hl1; rm bin/hl1",
    ),
    shell("chmod", "chmod 700 bin/tool"),
    shell("chmod to the same", "chmod 755 bin/tool"),
    shell("set-uid bit", "chmod u+s bin/tool"),
    shell("chmod a directory", "chmod 700 etc/deep"),
    shell("chmod the root", "chmod 700 ."),
    shell("chown", "chown 1:2 etc/small"),
    shell("chown to the same", "chown 0:0 etc/small"),
    shell("chown a link", "chown -h 5:6 bin/link"),
    shell("touch", "touch etc/small"),
    shell("touch a directory", "touch etc"),
    shell("set an xattr", "setfattr -n user.x -v y etc/small"),
    shell(
        "change an xattr",
        "setfattr -n user.note -v HELLO etc/other",
    ),
    shell("remove an xattr", "setfattr -x user.note etc/other"),
    shell(
        "set and remove an xattr",
        "setfattr -n user.x -v y etc/small; setfattr -x user.x etc/small",
    ),
    shell("xattr on a directory", "setfattr -n user.x -v y etc"),
    shell(
        "a trusted xattr on a link",
        "setfattr -h -n trusted.x -v y bin/link",
    ),
    shell(
        "an xattr of 60,000 bytes",
        "python3 - <<'P' || setfattr -n user.big -v $(head -c 30000 /dev/zero | tr '\\0' a) etc/small\nimport os\nos.setxattr('etc/small','user.big',b'a'*60000)\nP",
    ),
    shell("file capability", "setcap cap_net_raw+ep bin/tool"),
    shell("ACL", "setfacl -m u:1000:rwx etc/small"),
    shell("default ACL on a directory", "setfacl -d -m u:1000:rwx etc"),
    shell("immutable flag", "chattr +i etc/small"),
    shell("append-only flag", "chattr +a etc/small"),
    shell(
        "immutable flag, taken away again",
        "chattr +i etc/small; chattr -i etc/small",
    ),
    shell(
        "an xattr that looks like an overlay mark",
        "setfattr -n trusted.overlay.opaque -v y tree; setfattr -n trusted.overlay.redirect -v /etc tree",
    ),
    shell(
        "an xattr that looks like a metacopy mark",
        "setfattr -n trusted.overlay.metacopy -v '' etc/small",
    ),
    shell(
        "a user xattr that looks like an overlay mark",
        "setfattr -n user.overlay.opaque -v y tree; setfattr -n user.overlay.whiteout -v '' var/zero",
    ),
    shell(
        "new file, directory, link, FIFO, device",
        "echo n > new; mkdir -p nd/sub; echo n > nd/sub/f; ln -s x nl; mkfifo nf; mknod nn c 1 7",
    ),
    shell("new file, deleted again", "echo n > etc/new; rm etc/new"),
    calls("file without a name, then named", |root| {
        let fd = rustix::fs::open(
            root.join("etc"),
            OFlags::TMPFILE | OFlags::WRONLY,
            Mode::RUSR,
        )
        .expect("O_TMPFILE");
        rustix::io::write(&fd, b"late").expect("write");
        let from = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let to = root.join("etc/late");
        rustix::fs::linkat(CWD, from, CWD, to, AtFlags::SYMLINK_FOLLOW).is_ok()
    }),
    calls("names that are not text", |root| {
        use std::os::unix::ffi::OsStrExt as _;
        for name in [
            &b"new\nline"[..],
            b"esc\x1b[2J",
            b"\xff\xfe",
            "\u{202e}rtl".as_bytes(),
            b" lead",
            &[b'n'; 255],
        ] {
            std::fs::write(
                root.join("etc").join(std::ffi::OsStr::from_bytes(name)),
                b"x",
            )
            .expect("odd name");
        }
        true
    }),
    shell(
        "a copy of a directory over itself",
        "cp -a etc x; cp -a x/. etc/; rm -r x",
    ),
    shell("touch every file", "find . -type f -exec touch {} +"),
    shell("chmod every file", "find lib -type f -exec chmod 600 {} +"),
    shell(
        "write to every file",
        "find lib -type f -exec sh -c 'echo x >> $1' _ {} \\;",
    ),
    calls("set-gid and sticky", |root| {
        let path = root.join("var");
        let mode = path.metadata().expect("var").mode();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | 0o3000)).is_ok()
    }),
    shell(
        "change in a lower layer's addition",
        "echo x >> etc/layer0; rm tree/sub/layer0",
    ),
    shell("sparse file of a terabyte", "truncate -s 1T etc/huge"),
    shell(
        "a socket",
        "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('etc/sock')\"",
    ),
];

const fn shell(name: &'static str, script: &'static str) -> Operation {
    Operation {
        name,
        action: Action::Shell(script),
    }
}

const fn calls(name: &'static str, calls: fn(&Path) -> bool) -> Operation {
    Operation {
        name,
        action: Action::Calls(calls),
    }
}

fn exchange(root: &Path, a: &str, b: &str) -> bool {
    // Refused for directories where the overlay has no redirects: then nothing happened.
    rustix::fs::renameat_with(CWD, root.join(a), CWD, root.join(b), RenameFlags::EXCHANGE).is_ok()
}
