//! Changes made so that they are not seen.

use std::fs::{File, FileTimes};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{Operation, calls, exchange, python, shell, stay};
use crate::crc32c;

pub(super) const TITLE: &str = "Made not to be seen";

pub(super) const OPERATIONS: &[Operation] = &[
    shell(
        "overwrite, same size and old mtime",
        "a byte of `bin/tool`, then its time is put back",
        "t=$(stat -c %y bin/tool); printf X | dd of=bin/tool bs=1 seek=100 conv=notrunc status=none; touch -d \"$t\" bin/tool",
    ),
    shell(
        "overwrite a small file, old mtime",
        "`etc/small`, same size, its bytes in the metadata",
        "t=$(stat -c %y etc/small); echo SMALL > etc/small; touch -d \"$t\" etc/small",
    ),
    shell(
        "delete and make again, other bytes, old mtime and size",
        "`bin/tool`",
        "t=$(stat -c %y bin/tool); rm bin/tool; head -c 300000 /dev/zero > bin/tool; chmod 755 bin/tool; touch -d \"$t\" bin/tool",
    ),
    shell(
        "replace by rename, old mtime and size",
        "another file of `bin/tool`'s size, with its times",
        "cp bin/other bin/new; touch -r bin/tool bin/new; mv bin/new bin/tool",
    ),
    shell(
        "overwrite through one of several names, old mtime",
        "`bin/hl2`, a hard link of `bin/hl1` and `etc/hl3`",
        "t=$(stat -c %y bin/hl1); printf X | dd of=bin/hl2 bs=1 conv=notrunc status=none; touch -d \"$t\" bin/hl2",
    ),
    shell(
        "swap two files by renames",
        "`bin/tool` and `bin/other`, of one size and one date",
        "mv bin/tool x; mv bin/other bin/tool; mv x bin/other",
    ),
    calls(
        "exchange two files",
        "the same in one call: nothing is written at all",
        |root| exchange(root, "bin/tool", "bin/other"),
    ),
    shell(
        "an image file renamed over another",
        "`bin/other` to `bin/tool`, of one size and one date",
        "mv bin/other bin/tool",
    ),
    shell(
        "link gets another target of the same length and mtime",
        "`bin/link`",
        "t=$(stat -c %y bin/link); rm bin/link; ln -s toll bin/link; touch -h -d \"$t\" bin/link",
    ),
    shell(
        "a device with other numbers, old mtime",
        "`var/null`, now the device of zeros",
        "t=$(stat -c %y var/null); rm var/null; mknod var/null c 1 5; touch -d \"$t\" var/null",
    ),
    shell(
        "a new file with the directory's times put back",
        "`etc/deep/x`, dated as the image",
        "touch -r etc/deep /tmp/plimsoll-times.$$; echo x > etc/deep/x; touch -r /tmp/plimsoll-times.$$ etc/deep/x etc/deep; rm /tmp/plimsoll-times.$$",
    ),
    stay(
        "store to a page that is dirty already",
        "a byte of `bin/tool` in a mapping, the time put back, another byte: no time moves any more",
        DIRTY_PAGE,
    ),
    python(
        "store through a pinned page, late",
        "a page of `bin/tool`, written after its commit with no time moved",
        LATE_STORE,
    ),
    calls(
        "other bytes of the same CRC-32C",
        "a block of `bin/tool`, and its time is put back",
        same_checksum,
    ),
    shell(
        "xattrs that look like overlay marks",
        "opaque and redirect on `tree`",
        "setfattr -n trusted.overlay.opaque -v y tree; setfattr -n trusted.overlay.redirect -v /etc tree",
    ),
    shell(
        "an xattr that looks like a metacopy mark",
        "on `etc/small`",
        "setfattr -n trusted.overlay.metacopy -v '' etc/small",
    ),
    shell(
        "user xattrs that look like overlay marks",
        "opaque on `tree`, whiteout on `var/zero`",
        "setfattr -n user.overlay.opaque -v y tree; setfattr -n user.overlay.whiteout -v '' var/zero",
    ),
    shell(
        "every mark of overlayfs, by hand",
        "on a file that was written",
        "echo x >> etc/small; for m in origin impure nlink upper protattr uuid whiteout verity overlay.opaque; do setfattr -n trusted.overlay.$m -v y etc/small; done",
    ),
    shell(
        "device 0:0 in the place of a file",
        "`etc/small` becomes what overlayfs takes for a whiteout",
        "rm etc/small; mknod etc/small c 0 0",
    ),
    shell(
        "files named like deletions in image tars",
        "`bin/.wh.tool` and `tree/.wh..wh..opq`",
        "touch bin/.wh.tool tree/.wh..wh..opq",
    ),
];

const DIRTY_PAGE: &str = r"
import mmap, os, sys
fd = os.open('bin/tool', os.O_RDWR)
before = os.fstat(fd)
mapping = mmap.mmap(fd, 0)
mapping[100] ^= 1
os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
mapping[101] ^= 1
assert os.fstat(fd).st_mtime_ns == before.st_mtime_ns
print('ready', flush=True)
sys.stdin.read()
";

/// Puts bytes into a page of `bin/tool` that was pinned before it was written out: the page gets dirty
/// again with no room reserved for it, and with no time of the file moved. The copy is held up by a
/// fault that this program itself answers, late.
pub const LATE_STORE: &str = r#"
import ctypes, fcntl, mmap, os, platform, struct, subprocess, threading
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
uffd = libc.syscall(ctypes.c_long({'x86_64': 323, 'aarch64': 282}[platform.machine()]), ctypes.c_int(os.O_CLOEXEC))
assert uffd >= 0, os.strerror(ctypes.get_errno())
fcntl.ioctl(uffd, 0xc018aa3f, struct.pack('QQQ', 0xaa, 0, 0))
page = mmap.PAGESIZE
source = libc.mmap(None, page, 3, 0x22, -1, 0)
fcntl.ioctl(uffd, 0xc020aa00, struct.pack('QQQQ', source, page, 1, 0))
fd = os.open('bin/tool', os.O_RDWR)
target = libc.mmap(None, page, 3, 1, fd, 8 * page)
class Iovec(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
written = []
def store():
    one = lambda at: ctypes.byref(Iovec(at, page))
    written.append(libc.process_vm_writev(os.getpid(), one(source), ctypes.c_ulong(1), one(target), ctypes.c_ulong(1), ctypes.c_ulong(0)))
writer = threading.Thread(target=store)
writer.start()
os.read(uffd, 32)
subprocess.run(['sync', '-f', '.'], check=True)
before = os.fstat(fd)
late = ctypes.create_string_buffer(b'late' * (page // 4), page)
fcntl.ioctl(uffd, 0xc028aa03, struct.pack('QQQQq', source, ctypes.addressof(late), page, 0, 0))
writer.join()
assert written == [page], written
after = os.fstat(fd)
assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
assert os.pread(fd, 8, 8 * page) == b'latelate'
"#;

fn same_checksum(root: &Path) -> bool {
    const BLOCK: usize = 4096;
    let path = root.join("bin/tool");
    let Ok(file) = File::options().read(true).write(true).open(path) else {
        return false;
    };
    let modified = file.metadata().and_then(|m| m.modified()).expect("mtime");
    let mut block = [0; BLOCK];
    file.read_exact_at(&mut block, 8 * BLOCK as u64)
        .expect("a block");
    let before = crc32c::update(!0, &block);
    crc32c::forge(&mut block, 100, 2000);
    assert_eq!(before, crc32c::update(!0, &block));
    file.write_all_at(&block, 8 * BLOCK as u64)
        .and_then(|()| file.set_times(FileTimes::new().set_modified(modified)))
        .is_ok()
}
