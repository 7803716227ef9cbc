//! Mode, owner and inode flags.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::{Operation, calls, shell};

pub(super) const TITLE: &str = "Mode, owner, flags";

pub(super) const OPERATIONS: &[Operation] = &[
    shell("chmod", "`bin/tool` to 700", "chmod 700 bin/tool"),
    shell("set-uid bit", "on `bin/tool`", "chmod u+s bin/tool"),
    calls("set-gid and sticky", "on the directory `var`", |root| {
        let path = root.join("var");
        let mode = path.metadata().expect("var").mode();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | 0o3000)).is_ok()
    }),
    shell(
        "chmod a directory",
        "`etc/deep` to 700",
        "chmod 700 etc/deep",
    ),
    shell("chmod the root", "`/` to 700", "chmod 700 ."),
    shell(
        "chmod a device and a FIFO",
        "`var/null` and `var/fifo`",
        "chmod 600 var/null var/fifo",
    ),
    shell(
        "chmod every file",
        "all in `lib/many`",
        "find lib/many -type f -exec chmod 600 {} +",
    ),
    shell(
        "chmod, then write",
        "`bin/tool`: with metacopy its data come up only now",
        "chmod 700 bin/tool; echo x >> bin/tool",
    ),
    shell(
        "chmod, rename, then write",
        "`bin/tool`, which becomes `bin/moved`",
        "chmod 700 bin/tool; mv bin/tool bin/moved; echo x >> bin/moved",
    ),
    shell("chown", "`etc/small`", "chown 1:2 etc/small"),
    shell("chgrp", "`etc/small`", "chgrp 2 etc/small"),
    shell("chown a link", "`bin/link` itself", "chown -h 5:6 bin/link"),
    shell("chown a directory", "`tree/sub`", "chown 5:6 tree/sub"),
    shell("chown the root", "`/`", "chown 5:6 ."),
    shell("chown a device", "`var/null`", "chown 5:6 var/null"),
    shell(
        "immutable flag",
        "`chattr +i` of `etc/small`",
        "chattr +i etc/small",
    ),
    shell(
        "append-only flag",
        "`chattr +a` of `etc/small`",
        "chattr +a etc/small",
    ),
];
