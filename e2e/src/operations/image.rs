//! The image that the operations are done to.

use std::path::Path;

use crate::command::run;

/// Fills a directory with the files that the operations work on.
///
/// # Panics
/// When a file cannot be made.
pub fn build_flat_image(path: &Path) {
    build_image(&[path, path, path]);
}

/// Fills image layers with the files that the operations work on. `layers` are directories, the base
/// last; the base gets most, each one above changes something. When all of them are one directory, what
/// the upper layers delete is gone from it; else it is deleted by the marks of overlayfs.
///
/// # Panics
/// When a file cannot be made.
pub fn build_image(layers: &[&Path]) {
    let Some((base, above)) = layers.split_last() else {
        return;
    };
    run(
        "/bin/bash",
        &["-euc", BASE, "base", &base.display().to_string()],
    );
    for (n, layer) in above.iter().rev().enumerate() {
        run(
            "/bin/bash",
            &[
                "-euc",
                ABOVE,
                "above",
                &layer.display().to_string(),
                &n.to_string(),
            ],
        );
    }
}

const BASE: &str = r#"
cd "$1"
umask 022
mkdir -p bin etc/deep/er usr/lib tree/sub/sub tree2/sub var empty lib/many
for i in $(seq 1 20); do echo "file $i" > lib/many/f$i; done
# Whoever writes an X changes something.
head -c 300000 /dev/urandom | tr X x > bin/tool
head -c 300000 /dev/urandom | tr X x > bin/other
chmod 755 bin/tool bin/other
cp /bin/true usr/true
echo small > etc/small
echo other > etc/other
echo conf > etc/deep/er/conf
head -c 70000 /dev/urandom > usr/lib/lib.so
ln -s tool bin/link
ln -s /etc/small etc/abs
head -c 5000 /dev/urandom | tr X x > bin/hl1
ln bin/hl1 bin/hl2
ln bin/hl1 etc/hl3
mkfifo var/fifo
mknod var/null c 1 3
mknod var/blk b 7 99
setfattr -n user.note -v hello etc/other
truncate -s 1M var/sparse
echo tail >> var/sparse
fallocate -l 65536 var/allocated
for d in tree tree/sub tree/sub/sub tree2 tree2/sub; do echo "$d" > $d/file; done
touch var/zero
chown 1000:1000 var/zero
mkdir -p usr/gone/sub usr/opaque
echo gone > etc/gone
echo gone > usr/gone/sub/f
echo hidden > usr/opaque/hidden
echo hidden > lib/hidden
find . -depth -exec touch -h -d '2020-01-02 03:04:05.678901234' {} +
"#;

const ABOVE: &str = r#"
cd "$1"
mkdir -p etc tree/sub usr/lib
echo "layer $2" > etc/layer$2
echo "sub layer $2" > tree/sub/layer$2
head -c 70000 /dev/urandom > usr/lib/lib$2.so
if [ "$2" = 0 ]; then
    if [ -e etc/gone ]; then
        rm -r etc/gone usr/gone usr/opaque lib/hidden
        mkdir usr/opaque
    else
        mknod etc/gone c 0 0
        mknod usr/gone c 0 0
        mkdir lib usr/opaque
        mknod lib/hidden c 0 0
        setfattr -n trusted.overlay.opaque -v y usr/opaque
    fi
    echo seen > usr/opaque/seen
fi
find . -depth -exec touch -h -d '2021-01-02 03:04:05' {} +
"#;
