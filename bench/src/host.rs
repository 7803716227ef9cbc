//! What the measurement was made with: the machine, and the version of each program.

use std::collections::BTreeMap;
use std::path::Path;

use plimsoll_e2e::command::shell;

/// The programs that must be there.
pub(crate) const NEEDED: &[&str] = &[
    "aide",
    "b3sum",
    "btrfs",
    "busybox",
    "containerd",
    "ctr",
    "curl",
    "debootstrap",
    "docker",
    "dockerd",
    "find",
    "md5sum",
    "mkfs.btrfs",
    "mkfs.ext4",
    "podman",
    "rsync",
    "runc",
    "setpriv",
    "sha256sum",
    "tar",
    "xargs",
];

/// Returns the machine's facts.
pub(crate) fn facts() -> BTreeMap<String, String> {
    [
        ("processor", "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | sed -n 1p"),
        ("processors", "nproc"),
        ("SHA instructions", "grep -qwE 'sha_ni|sha2' /proc/cpuinfo && echo yes || echo no"),
        ("memory", "sed -n 's/^MemTotal: *//p' /proc/meminfo"),
        ("kernel", "uname -sr"),
        ("machine", "uname -m"),
        ("distribution", ". /etc/os-release; echo \"$PRETTY_NAME\""),
        ("file systems", "echo \"in files on $(findmnt -no FSTYPE --target \"${TMPDIR:-/tmp}\"), by loop devices\""),
        ("load before", "cut -d' ' -f1-3 /proc/loadavg"),
    ]
    .map(|(name, script)| (name.to_owned(), shell(script).trim().to_owned()))
    .into()
}

/// Returns each program's version.
pub(crate) fn versions(program: &Path) -> BTreeMap<String, String> {
    let own = format!("'{}' --version", program.display());
    let commit = format!(
        "git -C '{}' describe --always --dirty 2>/dev/null || echo unknown",
        crate::root().display()
    );
    [
        ("plimsoll", own.as_str()),
        ("commit", commit.as_str()),
        // They need not come from one place.
        ("docker, client", "docker --version"),
        ("docker, daemon", "dockerd --version"),
        ("containerd", "containerd --version"),
        ("podman", "podman --version"),
        ("aide", "aide --version 2>&1 | sed -n 1p"),
        ("coreutils", "sha256sum --version | sed -n 1p"),
        ("findutils", "find --version | sed -n 1p"),
        ("b3sum", "b3sum --version"),
        ("rsync", "rsync --version | sed -n 1p"),
        ("btrfs-progs", "btrfs --version | sed -n 1p"),
        ("curl", "curl --version | sed -n 1p | cut -d' ' -f1-2"),
    ]
    .map(|(name, script)| (name.to_owned(), shell(script).trim().to_owned()))
    .into()
}
