#!/bin/sh
# Unpacks a Docker that can keep its images in containerd, which Debian 12's cannot, beneath target/sid:
# the machine's own one stays as it is. It is Debian's unstable one, fetched once by Debian's own client,
# which proves by signatures what it downloads. rm -r target/sid* fetches it anew.
set -eu
cd "$(dirname "$0")/.."
mkdir -p target
if ! DEBIAN_SUITE=sid sh scripts/debian.sh target/sid "$(dpkg --print-architecture)" docker.io containerd \
    >target/docker-next.log 2>&1; then
    tail -n 5 target/docker-next.log >&2
    echo "Docker of Debian's unstable release cannot be had: tests that need it are skipped, except in CI" >&2
    [ "${CI:-}" != true ]
    exit
fi
# They run on this machine's C library, which may be too old for what unstable has by now.
for program in target/sid/usr/sbin/dockerd target/sid/usr/bin/containerd; do
    "$program" --version >/dev/null ||
        echo "$program does not run here: tests that need it are skipped" >&2
done
