//! Extended attributes, capabilities and ACLs.

use super::{Operation, python, shell};

pub(super) const TITLE: &str = "Extended attributes";

pub(super) const OPERATIONS: &[Operation] = &[
    shell(
        "set an xattr",
        "`user.x` of `etc/small`",
        "setfattr -n user.x -v y etc/small",
    ),
    shell(
        "change an xattr",
        "`user.note` of `etc/other`, same length",
        "setfattr -n user.note -v HELLO etc/other",
    ),
    shell(
        "remove an xattr",
        "`user.note` of `etc/other`",
        "setfattr -x user.note etc/other",
    ),
    shell(
        "an xattr without a value",
        "`user.empty` of `etc/small`",
        "setfattr -n user.empty etc/small",
    ),
    python(
        "a large xattr",
        "`user.big` of `etc/small`: 60,000 bytes, or as many as the file system takes",
        "import os\nfor size in 60000, 15000, 3000:\n    try:\n        os.setxattr('etc/small', 'user.big', b'a' * size)\n        break\n    except OSError:\n        continue\nelse:\n    raise SystemExit(1)",
    ),
    shell(
        "xattr on a directory",
        "`user.x` of `etc`",
        "setfattr -n user.x -v y etc",
    ),
    shell(
        "xattr on the root",
        "`user.x` of `/`",
        "setfattr -n user.x -v y .",
    ),
    shell(
        "a trusted xattr on a link",
        "`trusted.x` of `bin/link` itself",
        "setfattr -h -n trusted.x -v y bin/link",
    ),
    shell(
        "a trusted xattr on a device",
        "`trusted.x` of `var/null`",
        "setfattr -n trusted.x -v y var/null",
    ),
    shell(
        "a security xattr",
        "`security.note` of `etc/small`",
        "setfattr -n security.note -v y etc/small",
    ),
    shell(
        "file capability",
        "`cap_net_raw` on `bin/tool`",
        "setcap cap_net_raw+ep bin/tool",
    ),
    shell(
        "file capability, then write",
        "`bin/tool`: the write takes the capability away",
        "setcap cap_net_raw+ep bin/tool; echo x >> bin/tool",
    ),
    shell(
        "ACL",
        "another user may read and write `etc/small`",
        "setfacl -m u:1000:rwx etc/small",
    ),
    shell(
        "default ACL on a directory",
        "for what will be made in `etc`",
        "setfacl -d -m u:1000:rwx etc",
    ),
    shell(
        "ACL behind the old mode",
        "another user may write `etc/small`, whose mode bits are as before",
        "setfacl -m u:1000:rw,m::rw etc/small; chmod 644 etc/small",
    ),
];
