//! The same edits in each runtime, driver and state, and what is to be told of them.

use crate::brute::Differences;

/// What a process in the container does: among it an edit that keeps size and mtime.
pub const EDITS: &str = r"
    touch -r /usr/bin/tool /tmp/ref
    printf changed! | dd of=/usr/bin/tool bs=1 seek=100 conv=notrunc 2>/dev/null
    touch -r /tmp/ref /usr/bin/tool
    rm /tmp/ref
    chmod 600 /etc/shadow
    chown 1:1 /etc/passwd
    rm /usr/lib/lib.so
    ln -sf other /usr/bin/link
    rmdir /var/empty
    echo file > /var/empty
    mkdir /home/new
    echo new > /home/new/file
";

/// What is to be told of it.
#[must_use]
pub fn edited() -> Differences {
    [
        ("/etc/passwd", ('C', vec!["owner"])),
        ("/etc/shadow", ('C', vec!["mode"])),
        ("/home/new", ('A', vec![])),
        ("/home/new/file", ('A', vec![])),
        ("/usr/bin/link", ('C', vec!["target"])),
        ("/usr/bin/tool", ('C', vec!["content"])),
        ("/usr/lib/lib.so", ('D', vec![])),
        ("/var/empty", ('T', vec![])),
    ]
    .map(|(path, what)| (path.to_owned(), what))
    .into()
}
