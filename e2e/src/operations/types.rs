//! File types, links, devices and sockets.

use super::{Operation, shell};

pub(super) const TITLE: &str = "File types, links, devices";

pub(super) const OPERATIONS: &[Operation] = &[
    shell(
        "file becomes directory",
        "`bin/tool`, with a file in it",
        "rm bin/tool; mkdir bin/tool; echo x > bin/tool/x",
    ),
    shell(
        "file becomes link",
        "`bin/tool`",
        "rm bin/tool; ln -s other bin/tool",
    ),
    shell(
        "file becomes FIFO",
        "`bin/tool`",
        "rm bin/tool; mkfifo bin/tool",
    ),
    shell(
        "file becomes device",
        "`bin/tool`",
        "rm bin/tool; mknod bin/tool c 5 1",
    ),
    shell(
        "file becomes socket",
        "`etc/small`",
        "rm etc/small; python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('etc/small')\"",
    ),
    shell(
        "directory becomes file",
        "`tree`",
        "rm -r tree; echo x > tree",
    ),
    shell(
        "directory becomes link",
        "`tree`, to a directory of the same form",
        "rm -r tree; ln -s tree2 tree",
    ),
    shell(
        "directory becomes FIFO",
        "`tree`",
        "rm -r tree; mkfifo tree",
    ),
    shell(
        "directory becomes link and directory again",
        "`tree`, with one of its files",
        "cp -a tree t2; rm -r tree; ln -s x tree; rm tree; mkdir tree; cp -p t2/file tree/file; rm -r t2",
    ),
    shell(
        "link becomes directory",
        "`bin/link`",
        "rm bin/link; mkdir -p bin/link/sub",
    ),
    shell(
        "link becomes file",
        "`bin/link`, with the content of its target",
        "rm bin/link; cp bin/tool bin/link",
    ),
    shell(
        "FIFO becomes file",
        "`var/fifo`",
        "rm var/fifo; echo x > var/fifo",
    ),
    shell(
        "link gets another target",
        "`bin/link`",
        "ln -sfn other bin/link",
    ),
    shell(
        "device gets other numbers",
        "`var/null`",
        "rm var/null; mknod var/null c 1 5",
    ),
    shell(
        "block device becomes character device",
        "`var/blk`, same numbers",
        "rm var/blk; mknod var/blk c 7 99",
    ),
    shell(
        "a socket",
        "new, `etc/sock`",
        "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('etc/sock')\"",
    ),
];
