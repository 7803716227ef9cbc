//! Directories made, deleted, replaced and renamed.

use super::{Operation, calls, exchange, shell};

pub(super) const TITLE: &str = "Directories";

pub(super) const OPERATIONS: &[Operation] = &[
    shell("delete a directory", "`tree`", "rm -r tree"),
    shell("delete an empty directory", "`empty`", "rmdir empty"),
    shell(
        "delete what is in a directory",
        "every file of `lib/many`",
        "rm lib/many/*",
    ),
    shell(
        "delete and make a directory",
        "`tree`, empty",
        "rm -r tree; mkdir tree",
    ),
    shell(
        "delete and make a directory, some of it the same",
        "`tree` with one old file and one new",
        "cp -a tree t2; rm -r tree; mkdir tree; cp -p t2/file tree/file; mkdir tree/sub; echo new > tree/sub/new; rm -r t2",
    ),
    shell("rename a directory", "`tree` to `moved`", "mv tree moved"),
    shell(
        "rename a directory into another",
        "`tree` to `var/tree`",
        "mv tree var/tree",
    ),
    shell(
        "rename a directory and change in it",
        "a file of it written, one deleted, one new",
        "mv tree moved; echo changed > moved/sub/file; rm moved/file; echo new > moved/new",
    ),
    shell(
        "rename a directory, make the old one again",
        "`tree`, with one of its files",
        "mv tree moved; mkdir tree; cp -p moved/file tree/file",
    ),
    shell(
        "move a subdirectory into its made-again parent",
        "`tree/sub` comes back, the rest does not",
        "mv tree moved; mkdir tree; mv moved/sub tree/sub",
    ),
    shell(
        "rename a new directory over a deleted one",
        "`tree` has one new file",
        "rm -r tree; mkdir n; echo n > n/n; mv n tree",
    ),
    shell(
        "rename a directory twice",
        "`tree` to `b/c`, and a line written in it",
        "mv tree a; mkdir b; mv a b/c; echo x >> b/c/sub/sub/file",
    ),
    shell(
        "rename a directory, then delete it",
        "`tree`",
        "mv tree moved; rm -r moved",
    ),
    shell(
        "rename a directory over an empty one",
        "`tree` to `empty`",
        "mv -T tree empty",
    ),
    calls(
        "exchange two directories",
        "`tree` and `tree2`: nothing in them is written",
        |root| exchange(root, "tree", "tree2"),
    ),
    shell(
        "directories of thirty levels",
        "new in `etc/deep`, a file in the last",
        "cd etc/deep; for i in $(seq 30); do mkdir d; cd d; done; echo x > f",
    ),
    shell(
        "make a directory that an image layer deletes",
        "`usr/gone`, of which a lower layer has another",
        "mkdir -p usr/gone/sub; echo gone > usr/gone/sub/f",
    ),
    shell(
        "make a file that an opaque directory hides",
        "`usr/opaque/hidden`, of which a lower layer has another",
        "echo hidden > usr/opaque/hidden; echo x >> usr/opaque/seen",
    ),
    shell(
        "delete an opaque directory",
        "`usr/opaque`, and make it again with a file that it hid",
        "rm -r usr/opaque; mkdir usr/opaque; echo hidden > usr/opaque/hidden",
    ),
];
