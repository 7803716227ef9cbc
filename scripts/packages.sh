#!/bin/sh
# Installs what the build and the tests need from Debian's packages, where it is missing.
set -eu

build="gcc libc6-dev make git ca-certificates"
file_systems="btrfs-progs e2fsprogs xfsprogs attr acl libcap2-bin mount util-linux busybox-static inotify-tools python3-jsonschema"
# The static builds, also for another architecture, and a machine of it.
emulation="binutils musl-tools qemu-user-static qemu-system-arm kmod cpio xz-utils"
runtimes="docker.io containerd runc podman uidmap fuse-overlayfs skopeo debootstrap"
# What Plimsoll is measured beside.
peers="aide b3sum rsync curl coreutils findutils"

missing=""
for package in $build $file_systems $emulation $runtimes $peers; do
    case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true) in
    installed) ;;
    *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "missing:$missing" >&2
    echo "  install them as root; tests that need them are skipped until then, except in CI" >&2
    [ "${CI:-}" != true ]
    exit
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -q -o Acquire::Retries=3 update
# shellcheck disable=SC2086  # one word a package
apt-get -q -y -o Acquire::Retries=3 install --no-install-recommends $missing
