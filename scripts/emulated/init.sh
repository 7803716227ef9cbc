#!/bin/busybox sh
# The first process of the emulated machine: finds the disk, and goes on there.
set -eu
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
    /bin/busybox insmod "$module"
done
/bin/busybox mount -t ext4 -o noatime /dev/vda /disk
/bin/busybox mount -o move /dev /disk/dev
exec /bin/busybox switch_root /disk /bin/bash /emulated/tests.sh
