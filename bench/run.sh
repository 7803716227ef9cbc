#!/bin/sh
# Measures Plimsoll beside its peers and the floor, as root on a Debian machine: installs what is missing,
# builds, runs. Arguments are those of `plimsoll-bench run`: --quick, --full, --cold, --driver, --image,
# --output. It takes about 40 minutes and 40 GB of space in the temporary directory for a while; with
# --quick some minutes and 3 GB.
set -eu

cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
    echo "It mounts file systems and starts daemons of its own, which only root may." >&2
    exit 2
fi
sh scripts/packages.sh
# The static build, which is what is given to people; the floors have the C library that it has.
mkdir -p target/bench
if [ "$(uname -m)" = x86_64 ]; then
    make --silent --directory bench/floor START_CC=musl-gcc
    sh scripts/static-cargo.sh x86_64 build --release --locked --package plimsoll
    cp target/musl/x86_64-unknown-linux-musl/release/plimsoll target/bench/plimsoll
else
    target=$(uname -m)-unknown-linux-gnu
    make --silent --directory bench/floor
    RUSTFLAGS="-C target-feature=+crt-static" \
        ${CARGO:-cargo} build --release --locked --package plimsoll --target "$target"
    cp "target/$target/release/plimsoll" target/bench/plimsoll
fi
# Not a release build: there a panic would leave every mount and daemon behind.
${CARGO:-cargo} build --locked --package plimsoll-bench
exec target/debug/plimsoll-bench run "$@"
