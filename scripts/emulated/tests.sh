#!/bin/bash
# Runs the tests in the emulated machine, as its first process, and powers it off.
#
# /emulated/tests has a name, the number of tests and a command a line. What is printed is for
# scripts/emulated/judge.sh: END has the exit code and the seconds.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
exec </dev/null >/dev/hvc0 2>&1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs run /run
[ -e /usr/bin/awk ] || ln -s mawk /usr/bin/awk
[ -e /etc/passwd ] || echo 'root:x:0:0:root:/root:/bin/bash' >/etc/passwd
ln -sf /proc/self/mounts /etc/mtab
ln -sf /proc/self/fd /dev/fd
modprobe -a loop ext4 xfs btrfs overlay

# Nothing may be skipped: with CI=true a test that cannot run here fails.
export CI=true RUST_BACKTRACE=1 PLIMSOLL_PROGRAM=/emulated/plimsoll
# The newer way to mount takes no more than 256 bytes of layers.
export LIBMOUNT_FORCE_MOUNT2=always
cd /emulated
echo "MACHINE $(uname -r -m -v), page size $(getconf PAGESIZE)"
while read -r name _ command; do
    echo "BEGIN $name"
    SECONDS=0
    eval "$command"
    code=$?
    echo
    echo "END $name $code $SECONDS"
done <tests
echo "COMPLETE"
sync
echo o >/proc/sysrq-trigger
sleep 60
