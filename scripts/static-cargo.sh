#!/bin/sh
# Runs cargo for programs that need nothing at run time:
#   scripts/static-cargo.sh x86_64|aarch64 build|test ARGUMENT...
#
# x86_64 has musl as its C library: before main, glibc asks the processor dozens of times what it can do, and
# in a virtual machine each time is a way to the hypervisor and back; together they take longer than many a
# check. There is no such question on aarch64, which has glibc. The toolchain of Rust that is here has a standard
# library for neither: the compiler, the library or its source, and the linker are Debian's, unpacked into
# target/cross. For musl the library is built here, with what ships with the compiler.
set -eu
cd "$(dirname "$0")/.."
root=$PWD/target/cross
sh scripts/debian.sh "$root" amd64 rustc-web libstd-rust-web-dev:amd64 libstd-rust-web-dev:arm64 rust-web-src \
    gcc-aarch64-linux-gnu libc6-dev-arm64-cross libllvmlibc-19-dev:amd64 >&2

cargo=$(command -v cargo)
export LD_LIBRARY_PATH="$root/usr/lib/x86_64-linux-gnu" RUSTC="$root/usr/bin/rustc"
# layout.ld says which functions lie side by side, by the symbols that they have with this mangling.
export RUSTFLAGS="-C target-feature=+crt-static -C symbol-mangling-version=v0 \
-C link-arg=-Wl,-T,$PWD/scripts/layout.ld"
arch=$1
what=$2
shift 2
case $arch in
x86_64)
    # Rust's library wants an unwinder by the name of LLVM's; GCC's knows the same, but for one function of
    # glibc's, without which it goes by the program headers.
    parts=$PWD/target/musl-parts
    mkdir -p "$parts"
    cp "$(gcc -print-file-name=libgcc_eh.a)" "$parts/libunwind.a"
    echo 'int _dl_find_object(void *at, void *found) { (void)at; (void)found; return -1; }' |
        musl-gcc -O2 -x c -c -o "$parts/find.o" -
    ar r "$parts/libunwind.a" "$parts/find.o" 2>/dev/null
    # musl copies and compares in loops of single bytes, several times as slow where there are few. LLVM's
    # functions ask the processor nothing either: they need no more than every x86_64 has.
    memory=$parts/memory
    rm -rf "$memory"
    mkdir "$memory"
    (cd "$memory" && ar x "$root/usr/lib/llvm-19/lib/libllvmlibc.a" \
        memcpy.cpp.o memmove.cpp.o memset.cpp.o memcmp.cpp.o bcmp.cpp.o)
    ld -r -o "$parts/memory.o" "$memory"/*.o
    # The source builds with unstable features, which the compiler of a release allows to itself alone.
    export RUSTC_BOOTSTRAP=1 CC_x86_64_unknown_linux_musl=musl-gcc
    export CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER=musl-gcc
    export RUSTFLAGS="$RUSTFLAGS -C relocation-model=static -C link-self-contained=no -L native=$parts \
-Z pre-link-arg=$parts/memory.o"
    exec "$cargo" "$what" -Z build-std=std,panic_abort --target x86_64-unknown-linux-musl \
        --target-dir target/musl "$@"
    ;;
aarch64)
    export PATH="$root/usr/bin:$PATH"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$root/usr/bin/aarch64-linux-gnu-gcc"
    export CC_aarch64_unknown_linux_gnu="$root/usr/bin/aarch64-linux-gnu-gcc"
    export AR_aarch64_unknown_linux_gnu="$root/usr/bin/aarch64-linux-gnu-ar"
    exec "$cargo" "$what" --target aarch64-unknown-linux-gnu --target-dir target/aarch64 "$@"
    ;;
*)
    echo "usage: $0 x86_64|aarch64 build|test ARGUMENT..." >&2
    exit 2
    ;;
esac
