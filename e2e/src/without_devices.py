#!/usr/bin/python3
# Runs fuse-overlayfs with the calls refused by which it makes whiteouts as devices: mknod, mknodat, and
# renameat2 with RENAME_WHITEOUT (seccomp(2)).
import ctypes
import os
import platform
import struct
import sys

CALLS = {
    "x86_64": (0xC000003E, [133, 259], 316),
    "aarch64": (0xC00000B7, [33], 276),
}
arch, mknods, renameat2 = CALLS[platform.machine()]
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM
rules = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, arch), (RETURN, 0, 0, ALLOW), (LOAD, 0, 0, 0)]
for call in mknods:
    rules += [(EQUAL, 0, 1, call), (RETURN, 0, 0, REFUSE)]
rules += [
    (EQUAL, 0, 3, renameat2),
    (LOAD, 0, 0, 16 + 4 * 8),
    (ANY_BIT, 0, 1, 4),
    (RETURN, 0, 0, REFUSE),
    (RETURN, 0, 0, ALLOW),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


libc = ctypes.CDLL(None, use_errno=True)
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2
program = Program(len(rules), ctypes.addressof(code))
if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(SECCOMP, FILTER, ctypes.byref(program), 0, 0):
    sys.exit("seccomp: " + os.strerror(ctypes.get_errno()))
os.execv("/usr/bin/fuse-overlayfs", ["fuse-overlayfs"] + sys.argv[1:])
