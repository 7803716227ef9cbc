//! The root directories that tests make images of.

use tempfile::TempDir;

/// Makes the rootfs of a small image: busybox and a few files. Returns its directory.
///
/// # Panics
/// When a file cannot be made.
#[must_use]
pub fn small_rootfs() -> TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    crate::command::shell(&format!(
        r#"cd "{}"
        umask 022
        chmod 755 .
        mkdir -p bin etc usr/bin usr/lib home tmp var/empty
        cp "$(command -v busybox)" bin/busybox
        for name in $(busybox --list | grep -vx busybox); do ln -sf busybox bin/$name; done
        printf 'root:x:0:0:root:/root:/bin/sh\ngames:x:5:60:games:/usr/games:/bin/false\n' > etc/passwd
        printf 'shadow\n' > etc/shadow
        chmod 640 etc/shadow
        head -c 300000 /dev/urandom > usr/bin/tool
        # The bytes that tests change are never those already that they write.
        for at in 0 100; do printf . | dd of=usr/bin/tool bs=1 seek=$at conv=notrunc status=none; done
        chmod 755 usr/bin/tool
        ln -s tool usr/bin/link
        printf 'library\n' > usr/lib/lib.so
        find . -exec touch -h -d '2020-01-02 03:04:05.678901' {{}} +"#,
        dir.path().display()
    ));
    dir
}

/// Makes the rootfs of an image that the operations are done to, with busybox to wait by. Returns its
/// directory.
///
/// # Panics
/// When a file cannot be made.
#[must_use]
pub fn operations_rootfs() -> TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    crate::operations::build_flat_image(dir.path());
    crate::command::shell(&format!(
        r#"cd "{}"; chmod 755 .; cp "$(command -v busybox)" busybox
        # What runtimes make when it is not there.
        mkdir -p dev proc run sys; ln -s /proc/mounts etc/mtab; touch etc/hosts etc/hostname etc/resolv.conf
        find . -newermt 2022-01-01 -exec touch -h -d '2020-01-02 03:04:05.678901' {{}} +"#,
        dir.path().display()
    ));
    dir
}
