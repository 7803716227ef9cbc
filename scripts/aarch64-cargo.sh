#!/bin/sh
# Runs cargo for aarch64 with statically linked glibc: scripts/aarch64-cargo.sh build|test ARGUMENT...
#
# The toolchain of Rust that is here has no aarch64 standard library, so the compiler, the library and the
# cross linker are Debian's, unpacked into target/cross.
set -eu
cd "$(dirname "$0")/.."
root=$PWD/target/cross
sh scripts/debian.sh "$root" amd64 rustc-web libstd-rust-web-dev:amd64 libstd-rust-web-dev:arm64 \
    gcc-aarch64-linux-gnu libc6-dev-arm64-cross >&2

cargo=$(command -v cargo)
target=aarch64-unknown-linux-gnu
export LD_LIBRARY_PATH="$root/usr/lib/x86_64-linux-gnu" PATH="$root/usr/bin:$PATH"
export RUSTC="$root/usr/bin/rustc" RUSTFLAGS="-C target-feature=+crt-static"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$root/usr/bin/aarch64-linux-gnu-gcc"
export CC_aarch64_unknown_linux_gnu="$root/usr/bin/aarch64-linux-gnu-gcc"
export AR_aarch64_unknown_linux_gnu="$root/usr/bin/aarch64-linux-gnu-ar"
what=$1
shift
exec "$cargo" "$what" --target "$target" --target-dir target/aarch64 "$@"
