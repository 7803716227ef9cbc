//! What only a Btrfs subvolume lets a container do.

use super::{Operation, shell};

pub(super) const TITLE: &str = "Btrfs only";

pub(super) const OPERATIONS: &[Operation] = &[
    shell(
        "nested subvolume over a directory",
        "`tree` is moved away, a subvolume with other files takes its place",
        "mv tree gone; btrfs -q subvolume create tree; echo evil > tree/file; mkdir tree/sub; echo e > tree/sub/e",
    ),
    shell(
        "nested subvolume, new",
        "with a file in it",
        "btrfs -q subvolume create nest; echo n > nest/n",
    ),
    shell(
        "nested subvolume with the files of the directory",
        "`tree` with everything in it, in a tree of its own",
        "mv tree gone; btrfs -q subvolume create tree; cp -a gone/. tree/; rm -r gone",
    ),
    shell(
        "snapshot of itself inside",
        "the whole container, as the directory `inner`",
        "btrfs -q subvolume snapshot . inner",
    ),
    shell(
        "nodatacow file, written twice",
        "a new file whose second write is in place",
        "touch cow; chattr +C cow; head -c 20000 /dev/zero >> cow; sync -f .; printf X | dd of=cow bs=1 seek=5000 conv=notrunc status=none",
    ),
    shell(
        "committed",
        "a line to `bin/tool`, commit, `chmod` of `etc/small`, commit",
        "echo x >> bin/tool; sync -f .; chmod 600 etc/small; sync -f .",
    ),
    shell(
        "change, claim to be read-only",
        "a line to `etc/small`, then the subvolume gets the property `ro`",
        "echo x >> etc/small; sync -f .; btrfs property set . ro true",
    ),
];
