#!/bin/sh
# Builds the program for x86_64 and aarch64 as one file that needs nothing at run time, and checks that it
# does: target/static/plimsoll-x86_64, target/static/plimsoll-aarch64.
set -eu
cd "$(dirname "$0")/.."

sh scripts/static-cargo.sh x86_64 build --release --locked --package plimsoll
sh scripts/static-cargo.sh aarch64 build --release --locked --package plimsoll

mkdir -p target/static
cp target/musl/x86_64-unknown-linux-musl/release/plimsoll target/static/plimsoll-x86_64
cp target/aarch64/aarch64-unknown-linux-gnu/release/plimsoll target/static/plimsoll-aarch64

# check FILE MACHINE COMMAND...: what it is, what it would load, and that it runs.
check() {
    file=$1
    elf_machine=$2
    shift 2
    readelf --file-header "$file" | grep -q "Machine: *$elf_machine$" || wrong "$file is not for $elf_machine"
    # A linker of its own, or a library: either would have to be on the device.
    if readelf --program-headers "$file" | grep -q INTERP; then
        wrong "$file has an interpreter"
    fi
    if readelf --dynamic "$file" | grep NEEDED; then
        wrong "$file needs libraries"
    fi
    # What a check executes, side by side: gone when symbols are written in another way.
    hot=$(readelf --sections --wide "$file" | sed -n 's/.* \.text\.check  *PROGBITS  *[^ ]* [^ ]* \([^ ]*\) .*/\1/p')
    if [ $((0x${hot:-0})) -lt 524288 ]; then
        wrong "$file has $((0x${hot:-0})) bytes of scripts/layout.ld's functions: make layout"
    fi
    said=$("$@" --version)
    [ "$said" = "plimsoll $version" ] || wrong "$file --version says: $said"
    echo "$file: $(stat -c %s "$file") bytes, $said"
}

wrong() {
    echo "$1" >&2
    exit 1
}

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
check target/static/plimsoll-x86_64 'Advanced Micro Devices X86-64' target/static/plimsoll-x86_64
check target/static/plimsoll-aarch64 AArch64 qemu-aarch64-static target/static/plimsoll-aarch64
