#!/bin/sh
# Runs the tests of the aarch64 build on an arm64 Linux that qemu emulates: scripts/emulate.sh [all|short]
#
# The machine is Debian's kernel and programs for arm64, on a disk made here; the program under test is the
# static one that `make static` makes. What is left out, and why, is said beside the lists below.
# EMULATED_KERNEL=bookworm takes the kernel of that release of Debian instead.
set -eu
cd "$(dirname "$0")/.."
which=${1:-all}
kernel_of=${EMULATED_KERNEL:-trixie}

work=$PWD/target/emulated
root=$work/root
[ "$(id -u)" -eq 0 ] || { echo "the disk of the emulated machine has files of root: run this as root" >&2; exit 2; }
for program in qemu-system-aarch64 depmod modprobe mkfs.ext4 cpio xz; do
    command -v "$program" >/dev/null || { echo "$program is not installed: scripts/packages.sh" >&2; exit 2; }
done

# The tests as in a debug build, checks of arithmetic included, but optimised: the machine is slow.
build_tests() {
    CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_STRIP=debuginfo \
        sh scripts/aarch64-cargo.sh test --no-run --locked --message-format json-render-diagnostics \
        --package plimsoll-core --package plimsoll-syscall --package plimsoll-host --package plimsoll \
        --package plimsoll-e2e --lib --bins --test bad_input --test command_line --test demo \
        --test overlay_operations --test overlay_hostile --test btrfs_operations --test btrfs_evasion \
        --test btrfs_disks --test races --test torture --test bounds
}

# Prints the name and the path of each test program that cargo told of.
test_programs() {
    sed -n '/"test":true}/ s/.*"target":{[^}]*"name":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2/p' "$1"
}

# Adds a test program to the list: list NAME PROGRAM [ARGUMENT...], with ENVIRONMENT before it.
list() {
    name=$1
    program=$(sed -n "s/^$2 //p" "$work/programs")
    shift 2
    [ -f "$program" ] || { echo "cargo told of no test program for $name" >&2; exit 1; }
    cp "$program" "$root/emulated/$name"
    count=$(qemu-aarch64-static "$program" --list "$@" | sed -n 's/^\([0-9]*\) tests\{0,1\}, .*/\1/p')
    echo "$name $count ${ENVIRONMENT:-} ./$name $*" >>"$root/emulated/tests"
}

lists() {
    : >"$root/emulated/tests"
    list core plimsoll_core
    list syscall plimsoll_syscall
    list host plimsoll_host
    list cli plimsoll_cli
    list bad_input bad_input
    list harness plimsoll_e2e
    ENVIRONMENT=PLIMSOLL_PROGRAM=/bin/true list control command_line exit_codes_follow_the_verdict
    list command_line command_line
    list demo demo
    list btrfs_disks btrfs_disks
    list btrfs_evasion btrfs_evasion
    list btrfs_operations btrfs_operations
    list overlay_hostile overlay_hostile
    list overlay_operations overlay_operations
    list races races
    ENVIRONMENT=PLIMSOLL_TORTURE_STEPS=1000 list torture torture
    list bounds bounds
}

sh scripts/aarch64-cargo.sh build --release --locked --package plimsoll
mkdir -p "$work"
build_tests >"$work/cargo.json"
test_programs "$work/cargo.json" >"$work/programs"

# The kernel beside the programs: it may be of another release than they are.
kernel=$PWD/target/kernel-$kernel_of
DEBIAN_SUITE=trixie sh scripts/debian.sh target/guest arm64 \
    libc-bin dash bash coreutils findutils diffutils grep sed mawk util-linux mount kmod procps busybox-static \
    btrfs-progs e2fsprogs xfsprogs attr acl libcap2-bin inotify-tools python3 python3-jsonschema
DEBIAN_SUITE=$kernel_of sh scripts/debian.sh "$kernel" arm64 linux-image-arm64
for modules in "$kernel"/lib/modules/* "$kernel"/usr/lib/modules/*; do
    [ ! -d "$modules" ] || break
done
release=${modules##*/}

# The disk, sparse: what the tests write goes there too.
rm -rf "$root"
cp -al target/guest "$root"
mkdir -p "$root/emulated" "$root/lib/modules" "$root/$PWD/docs/reference" "$root/tmp"
cp scripts/emulated/tests.sh "$root/emulated/"
cp target/aarch64/aarch64-unknown-linux-gnu/release/plimsoll "$root/emulated/"
cp -al "$modules" "$root/lib/modules/"
depmod -b "$root" "$release"
# What the tests were compiled to look for.
cp docs/reference/report.schema.json "$root/$PWD/docs/reference/"
mkdir -p "$root/$PWD/e2e" "$root/$PWD/target/aarch64/aarch64-unknown-linux-gnu/debug"
cp target/aarch64/aarch64-unknown-linux-gnu/debug/plimsoll "$root/$PWD/target/aarch64/aarch64-unknown-linux-gnu/debug/"
lists
rm -f "$work/disk"
truncate -s 32G "$work/disk"
mkfs.ext4 -q -F -O ^has_journal -E lazy_itable_init=1 -d "$root" "$work/disk"

# What mounts it: a shell and the modules that the disk takes, in the order in which they load.
rm -rf "$work/initramfs"
mkdir -p "$work/initramfs/bin" "$work/initramfs/dev" "$work/initramfs/disk" "$work/initramfs/modules"
cp target/guest/bin/busybox "$work/initramfs/bin/"
cp scripts/emulated/init.sh "$work/initramfs/init"
chmod 755 "$work/initramfs/init"
n=10
for module in $(modprobe -d "$root" -S "$release" --show-depends -a virtio_blk ext4 | sed 's/^insmod //'); do
    n=$((n + 1))
    case $module in
    *.xz) xz -dc "$module" >"$work/initramfs/modules/$n.ko" ;;
    *) cp "$module" "$work/initramfs/modules/$n.ko" ;;
    esac
done
(cd "$work/initramfs" && find . | cpio --quiet -o -H newc) >"$work/initramfs.cpio"

# A Cortex-A72 is what a Raspberry Pi 4 has.
rm -f "$work/output" "$work/console"
: >"$work/output"
timeout --signal KILL 3000 qemu-system-aarch64 -machine virt -cpu cortex-a72 -smp 2 -m 2048 \
    -accel tcg,thread=multi -display none -monitor none -no-reboot -nic none \
    -kernel "$kernel/boot/vmlinuz-$release" -initrd "$work/initramfs.cpio" \
    -append "console=ttyAMA0 panic=-1 oops=panic quiet" -serial "file:$work/console" \
    -drive "file=$work/disk,format=raw,if=virtio,cache=unsafe,discard=unmap" \
    -device virtio-serial-pci -device virtconsole,chardev=output \
    -chardev "file,id=output,path=$work/output" &
machine=$!
tail -f --pid="$machine" "$work/output" &
wait "$machine" || echo "qemu ended with $?" >&2
rm -f "$work/disk"
echo
sh scripts/emulated/judge.sh "$root/emulated/tests" "$work/output"
