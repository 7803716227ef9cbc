#!/bin/sh
# Unpacks a Docker that keeps its images in containerd, which Debian 12's cannot, beside the machine's own
# one: target/sid/usr/{bin,sbin}. From Debian's unstable release, by its own client, which proves what it
# downloads by Debian's signatures; nothing is installed. Done once; rm -r target/sid does it anew.
set -eu
cd "$(dirname "$0")/.."
DEBIAN_SUITE=sid sh scripts/debian.sh target/sid "$(dpkg --print-architecture)" docker.io containerd
# They run on this machine's C library, which may be too old for what unstable has by now.
for program in target/sid/usr/sbin/dockerd target/sid/usr/bin/containerd; do
    "$program" --version >/dev/null ||
        echo "$program does not run here: the tests of Docker with the containerd image store are left out" >&2
done
