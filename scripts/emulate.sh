#!/bin/sh
# Runs the tests of the aarch64 build on an arm64 Linux that qemu emulates:
#   scripts/emulate.sh all|short
#   scripts/emulate.sh one TEST_PROGRAM [ARGUMENT...]
#
# The machine is Debian's kernel and programs for arm64, on a disk made here; the program under test is the
# static one that `make static` makes. What is left out, and why, is said beside the lists below.
# EMULATED_KERNEL=bookworm takes the kernel of that release of Debian instead.
set -eu
cd "$(dirname "$0")/.."
which=${1:-all}
[ $# -eq 0 ] || shift
case $which in
all | short) ;;
one) [ $# -gt 0 ] || { echo "which test program?" >&2; exit 2; } ;;
*) echo "usage: $0 all|short|one TEST_PROGRAM [ARGUMENT...]" >&2; exit 2 ;;
esac
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
        sh scripts/static-cargo.sh aarch64 test --no-run --locked --message-format json-render-diagnostics \
        --package plimsoll-core --package plimsoll-syscall --package plimsoll-host --package plimsoll \
        --package plimsoll-e2e --lib --bins --test bad_input --test command_line --test demo \
        --test overlay_operations --test overlay_hostile --test btrfs_operations --test btrfs_evasion \
        --test btrfs_disks --test races --test torture --test bounds
}

# Prints the name and the path of each test program that cargo told of.
test_programs() {
    sed -n '/"test":true}/ s/.*"target":{[^}]*"name":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2/p' "$1"
}

# Leaves tests out of the program that is listed next: without REASON TEST...
without() {
    reason=$1
    shift
    for test in "$@"; do
        skipped="$skipped --skip $test"
        reasons="$reasons::$test: $reason
"
    done
}
skipped=""
reasons=""

# Adds a test program to the list: list PROGRAM [TEST...], with ENVIRONMENT before it and AS another name.
list() {
    program=$(sed -n "s/^$1 //p" "$work/programs")
    name=${AS:-$1}
    shift
    [ -f "$program" ] || { echo "cargo told of no test program for $name" >&2; exit 1; }
    all=$(tests_of "$program")
    # shellcheck disable=SC2086  # one word an argument
    count=$(tests_of "$program" $skipped --exact "$@")
    # A test that was renamed would be run, or left out, and nobody would know.
    named=$(($# > 0 ? $# : all - $(printf '%s\n' $skipped | grep -vc -e '^--skip$' -e '^$' || true)))
    [ "$count" -eq "$named" ] || { echo "$name: a test that is named here is not there" >&2; exit 1; }
    ln "$program" "$root/emulated/$name"
    echo "$name $count ${ENVIRONMENT:-} ./$name --exact $skipped $*" >>"$root/emulated/tests"
    printf %s "$reasons" | sed "s/^/$name/" >>"$work/left_out"
    skipped=""
    reasons=""
}

# Returns how many tests a program would run: it can say so without the machine.
tests_of() {
    program_of=$1
    shift
    qemu-aarch64-static "$program_of" --list "$@" | sed -n 's/^\([0-9]*\) tests\{0,1\}, .*/\1/p'
}

lists() {
    : >"$root/emulated/tests"
    : >"$work/left_out"
    if [ "$which" = one ]; then
        list "$@"
        return
    fi
    # Without it nobody would know that a failure in there is seen out here.
    AS=control ENVIRONMENT=PLIMSOLL_PROGRAM=/bin/true list command_line exit_codes_follow_the_verdict
    list plimsoll_core
    list plimsoll_syscall
    ENVIRONMENT=PLIMSOLL_VERITY=must list plimsoll_host
    list plimsoll_cli
    list bad_input
    list plimsoll_e2e
    list command_line
    list demo
    case $which in
    short) engines_short ;;
    all) engines_all ;;
    esac
}

# What of the engines CI has time for.
engines_short() {
    list btrfs_disks lzo parity_profiles_are_not_read_but_told
    list btrfs_evasion names_of_one_hash an_inode_of_many_names not_copied_on_write \
        a_log_that_was_replayed a_snapshot_to_look_at
    list btrfs_operations balance_and_remount not_a_snapshot_of_the_image \
        the_reference_itself_is_edited a_check_leaves_no_trace
    list overlay_hostile data_only_lowers large_attributes_and_odd_objects \
        whiteouts_in_the_form_of_files_and_opaque_lowers redirects_that_lead_out_of_a_layer \
        a_write_behind_the_last_extent_of_the_image a_check_leaves_no_trace
    list races overlay_on_ext4
    ENVIRONMENT=PLIMSOLL_TORTURE_STEPS=500 list torture btrfs overlay_with_everything
    echo "all tests of the engines that are not named in engines_short: \`make emulated\` has them" \
        >>"$work/left_out"
}

# All of them that an emulated processor gets through in some minutes.
engines_all() {
    without "twelve file systems, each read many times: a quarter of an hour" checksums_and_compression
    without "the same, with six" profiles
    list btrfs_disks
    # Linux 6.18 writes such a page out; 6.12 says that nobody told it of the page (`marked dirty without
    # notifying the fs`), fails the first syncfs with EUCLEAN, and never writes it.
    pinned="this kernel never writes such a page out: docs/guide/small-devices.md"
    without "$pinned" a_store_through_a_pinned_page
    without "made to take long" big_directories made_to_be_slow
    list btrfs_evasion
    echo "btrfs_operations, \"store through a pinned page, late\": $pinned" >>"$work/left_out"
    without "minutes for each kind of file system: one has to do" compressed_with_zlib \
        compressed_with_zstd_and_no_inline_files sha256_checksums no_checksums
    ENVIRONMENT="PLIMSOLL_OPERATION_LEFT_OUT='store through a pinned page, late'" list btrfs_operations
    without "made to take long" a_million_entries_in_upper three_thousand_levels_added \
        one_change_three_thousand_levels_down_in_the_image sparse_terabytes_on_both_sides
    list overlay_hostile
    # With an index, whole and partial copies and shared extents: most of what the engine reads.
    without "minutes for each kind of mount: one has to do" ext4 xfs btrfs_as_backing ext4_redirect_dir \
        ext4_metacopy ext4_index ext4_nfs_export btrfs_index ext4_userxattr xfs_volatile ext4_xino \
        ext4_xattr_whiteouts ext4_data_only xfs_data_only ext4_nested
    list overlay_operations
    without "a thousand commits of the file system" btrfs no_state_that_never_was_on_btrfs
    # LIMITS.md: kernels before 6.13 stamp changes with the tick of the clock.
    without "this kernel gives two changes within a tick one time" no_state_that_never_was_on_ext4 \
        no_state_that_never_was_on_xfs
    list races
    ENVIRONMENT=PLIMSOLL_TORTURE_STEPS=1000 list torture
    without "hundreds of thousands of files" names_of_the_greatest_length targets_of_the_greatest_length \
        attributes_of_the_greatest_size a_hundred_thousand_hard_links_on_overlay \
        as_many_hard_links_as_btrfs_has
    list bounds
}

sh scripts/static-cargo.sh aarch64 build --release --locked --package plimsoll
mkdir -p "$work"
build_tests >"$work/cargo.json"
test_programs "$work/cargo.json" >"$work/programs"

# The kernel beside the programs: it may be of another release than they are.
kernel=$PWD/target/kernel-$kernel_of
DEBIAN_SUITE=trixie sh scripts/debian.sh target/guest arm64 \
    libc-bin dash bash coreutils findutils diffutils grep sed mawk util-linux mount kmod procps busybox-static \
    btrfs-progs e2fsprogs xfsprogs attr acl libcap2-bin inotify-tools fsverity python3 python3-jsonschema
DEBIAN_SUITE=$kernel_of sh scripts/debian.sh "$kernel" arm64 linux-image-arm64
for modules in "$kernel"/lib/modules/* "$kernel"/usr/lib/modules/*; do
    [ ! -d "$modules" ] || break
done
release=${modules##*/}
vmlinuz=$(find "$kernel" -name 'vmlinuz*' -type f | head -n 1)

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
lists "$@"
rm -f "$work/disk"
truncate -s 32G "$work/disk"
mkfs.ext4 -q -F -O ^has_journal,verity -E lazy_itable_init=1 -d "$root" "$work/disk"

# What mounts it: a shell and the modules that the disk takes, in the order in which they load.
rm -rf "$work/initramfs"
mkdir -p "$work/initramfs/bin" "$work/initramfs/dev" "$work/initramfs/disk" "$work/initramfs/modules"
cp target/guest/bin/busybox "$work/initramfs/bin/"
cp scripts/emulated/init.sh "$work/initramfs/init"
chmod 755 "$work/initramfs/init"
n=10
for module in $(modprobe -d "$root" -S "$release" --show-depends -a virtio_pci virtio_console virtio_blk ext4 |
    sed -n 's/^insmod //p'); do
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
    -kernel "$vmlinuz" -initrd "$work/initramfs.cpio" \
    -append "console=ttyAMA0 panic=-1 oops=panic quiet" -serial "file:$work/console" \
    -drive "file=$work/disk,format=raw,if=virtio,cache=unsafe,discard=unmap" \
    -device virtio-serial-pci -device virtconsole,chardev=output \
    -chardev "file,id=output,path=$work/output" &
machine=$!
tail -f --pid="$machine" "$work/output" &
wait "$machine" || echo "qemu ended with $?" >&2
rm -f "$work/disk"
echo
echo "left out: docker_*, conformance_*: no daemon runs there"
sed 's/^/left out: /' "$work/left_out"
sh scripts/emulated/judge.sh "$root/emulated/tests" "$work/output"
sh scripts/emulated/doubt.sh "$root/emulated/tests" "$work/output"
