//! Hard links. The image has a file of three names: `bin/hl1`, `bin/hl2`, `etc/hl3`.

use super::{Operation, shell};

pub(super) const TITLE: &str = "Hard links";

pub(super) const OPERATIONS: &[Operation] = &[
    shell(
        "new hard link to a file",
        "`bin/tool2` to `bin/tool`",
        "ln bin/tool bin/tool2",
    ),
    shell(
        "new hard link, write through it",
        "`bin/tool2` to `bin/tool`",
        "ln bin/tool bin/tool2; echo x >> bin/tool2",
    ),
    shell(
        "write through one of several names",
        "`bin/hl1`; whether the others change is the mount's choice",
        "echo x >> bin/hl1",
    ),
    shell(
        "write through every name",
        "`bin/hl1`, `bin/hl2`, `etc/hl3`",
        "for f in bin/hl1 bin/hl2 etc/hl3; do echo x >> $f; done",
    ),
    shell(
        "chmod one of several names",
        "`etc/hl3`",
        "chmod 600 etc/hl3",
    ),
    shell("delete one of several names", "`bin/hl1`", "rm bin/hl1"),
    shell(
        "delete every name",
        "`bin/hl1`, `bin/hl2`, `etc/hl3`",
        "rm bin/hl1 bin/hl2 etc/hl3",
    ),
    shell(
        "delete all but one, then write",
        "`etc/hl3` is left",
        "rm bin/hl1 bin/hl2; echo x >> etc/hl3",
    ),
    shell(
        "write through one name, delete it",
        "`bin/hl1`; what the other names hold is the mount's choice",
        "echo x >> bin/hl1; rm bin/hl1",
    ),
    shell(
        "rename one of several names",
        "`bin/hl1` to `etc/hl`",
        "mv bin/hl1 etc/hl",
    ),
    shell(
        "a name becomes a link to another file",
        "`bin/hl1` to `bin/tool`",
        "ln -f bin/tool bin/hl1",
    ),
    shell(
        "two files become one",
        "`bin/other` becomes a link to `bin/tool`, same size and times",
        "ln -f bin/tool bin/other",
    ),
];
