//! Content of files.

use super::{Operation, python, shell, stay};

pub(super) const TITLE: &str = "Content";

pub(super) const OPERATIONS: &[Operation] = &[
    shell(
        "overwrite, same size",
        "a byte of `bin/tool`",
        "printf X | dd of=bin/tool bs=1 seek=100 conv=notrunc status=none",
    ),
    shell("append", "a line to `etc/small`", "echo more >> etc/small"),
    shell(
        "append to a big file",
        "a line to `bin/tool`",
        "echo more >> bin/tool",
    ),
    shell(
        "overwrite and fsync",
        "a byte of `bin/tool`: the log of the file system is written, no transaction",
        "printf X | dd of=bin/tool bs=1 seek=100 conv=notrunc,fsync status=none",
    ),
    shell(
        "overwrite and sync",
        "a byte of `bin/tool`, then the file system is synced",
        "printf X | dd of=bin/tool bs=1 seek=100 conv=notrunc status=none; sync -f .",
    ),
    shell(
        "store through a shared mapping",
        "50 bytes of `bin/tool`",
        "io -c 'mmap -rw 0 8192' -c 'mwrite -S 0x41 100 50' bin/tool",
    ),
    stay(
        "store through a mapping that stays",
        "a byte of `bin/tool`, mapped and not written out during the check",
        "import mmap, os, sys\nfd = os.open('bin/tool', os.O_RDWR)\nm = mmap.mmap(fd, 0)\nm[100] ^= 1\nprint('ready', flush=True)\nsys.stdin.read()",
    ),
    stay(
        "write to a file that stays open",
        "a line to `etc/small`, whose writer goes on",
        "import os, sys\nfd = os.open('etc/small', os.O_WRONLY | os.O_APPEND)\nos.write(fd, b'more\\n')\nprint('ready', flush=True)\nsys.stdin.read()",
    ),
    python("write through io_uring", "a byte of `bin/tool`", IO_URING),
    shell(
        "direct write",
        "4 KiB of `bin/tool`, past the page cache",
        "io -d -c 'pwrite -S 0x42 4096 4096' bin/tool",
    ),
    shell(
        "copy_file_range from another file",
        "64 KiB of `bin/other` into `bin/tool`",
        "io -c 'copy_range -s 0 -d 4096 -l 65536 bin/other' bin/tool",
    ),
    shell(
        "reflink a range of another file",
        "64 KiB of `bin/other` into `bin/tool`: old extents, nothing written",
        "io -c 'reflink bin/other 0 4096 65536' bin/tool",
    ),
    shell(
        "reflink the whole of another file",
        "`bin/other` into `bin/tool`, same size",
        "io -c 'reflink bin/other 0 0 300000' bin/tool",
    ),
    shell(
        "reflink of itself, moved",
        "64 KiB of `bin/tool` to another place in it",
        "io -c 'reflink bin/tool 0 65536 65536' bin/tool",
    ),
    shell(
        "clone another file over it",
        "`cp --reflink` of `bin/other` to `bin/tool`",
        "cp --reflink=always bin/other bin/tool",
    ),
    shell(
        "truncate shorter",
        "`bin/tool` to 1,000 bytes",
        "truncate -s 1000 bin/tool",
    ),
    shell(
        "truncate longer",
        "`bin/tool` to 400,000 bytes",
        "truncate -s 400000 bin/tool",
    ),
    shell("truncate to nothing", "`bin/tool`", ": > bin/tool"),
    shell(
        "truncate and restore the size",
        "`bin/tool`: zeros behind the first 1,000 bytes",
        "truncate -s 1000 bin/tool; truncate -s 300000 bin/tool",
    ),
    shell(
        "punch a hole",
        "64 KiB of `bin/tool` become a hole",
        "io -c 'fpunch 8192 65536' bin/tool",
    ),
    shell(
        "zero a range",
        "64 KiB of `bin/tool`",
        "io -c 'fzero 8192 65536' bin/tool",
    ),
    shell(
        "collapse a range",
        "4 KiB are cut out of `bin/tool`",
        "io -c 'fcollapse 4096 4096' bin/tool",
    ),
    shell(
        "insert a range",
        "4 KiB of zeros into `bin/tool`",
        "io -c 'finsert 4096 4096' bin/tool",
    ),
    shell(
        "write into a hole",
        "a byte into the sparse `var/sparse`",
        "printf X | dd of=var/sparse bs=1 seek=500000 conv=notrunc status=none",
    ),
    shell(
        "write into allocated space",
        "a byte where `var/allocated` has space and no data",
        "printf X | dd of=var/allocated bs=1 seek=30000 conv=notrunc status=none",
    ),
    shell(
        "allocate, then write",
        "into a hole of `var/sparse`",
        "io -c 'falloc 40960 16384' -c 'pwrite -S 0x43 45056 4096' var/sparse",
    ),
    shell(
        "write to every file",
        "a line to each in `lib/many`",
        "find lib/many -type f -exec sh -c 'echo x >> $1' _ {} \\;",
    ),
    shell(
        "change what an upper layer added",
        "a file of another image layer is written, one deleted",
        "echo x >> etc/layer0; rm tree/sub/layer0",
    ),
    shell(
        "sparse file of a terabyte",
        "new, without any data",
        "truncate -s 1T etc/huge",
    ),
];

const IO_URING: &str = r"
import ctypes, mmap, os, struct
libc = ctypes.CDLL(None, use_errno=True)
params = ctypes.create_string_buffer(120)
ring = libc.syscall(ctypes.c_long(425), ctypes.c_uint(1), params)
assert ring >= 0, os.strerror(ctypes.get_errno())
entries = struct.unpack_from('I', params, 0)[0]
head, tail, mask, n, flags, dropped, array = struct.unpack_from('7I', params, 40)
submissions = mmap.mmap(ring, array + entries * 4)
entry = mmap.mmap(ring, entries * 64, offset=0x10000000)
fd = os.open('bin/tool', os.O_RDWR)
old = os.pread(fd, 1, 100)
new = ctypes.create_string_buffer(bytes([old[0] ^ 1]), 1)
IORING_OP_WRITE = 23
struct.pack_into('BBHiQQI', entry, 0, IORING_OP_WRITE, 0, 0, fd, 100, ctypes.addressof(new), 1)
struct.pack_into('I', submissions, array, 0)
struct.pack_into('I', submissions, tail, struct.unpack_from('I', submissions, tail)[0] + 1)
assert libc.syscall(ctypes.c_long(426), ring, 1, 1, 1, None, 0) == 1
assert os.pread(fd, 1, 100) != old
";
