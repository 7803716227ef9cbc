#!/bin/sh
# Fuzzes the decoders: `make fuzz`, `make fuzz-minimize`, or for some of them
#   scripts/fuzz.sh run|minimize [TARGET...]
#
# run       each target for FUZZ_SECONDS. New inputs go to target/fuzz/corpus, and one that fails to
#           fuzz/artifacts: see CONTRIBUTING.md
# minimize  of target/fuzz/corpus, of target/fuzz/seeds where somebody put real inputs, and of
#           fuzz/corpus what is needed to reach every line that they reach; regressions stay
set -eu
cd "$(dirname "$0")/.."
export PATH="$PWD/target/tools/bin:$PATH"

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzzing needs a nightly toolchain of Rust: rustup toolchain install nightly" >&2
    exit 2
fi
what=${1:-run}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- $(cargo +nightly fuzz list)
cargo +nightly fuzz build --target-dir target/fuzz

fuzz() {
    target=$1
    shift
    cargo +nightly fuzz run --target-dir target/fuzz "$target" "$@"
}

failed=""
for target in "$@"; do
    found=target/fuzz/corpus/$target
    kept=fuzz/corpus/$target
    seeds=target/fuzz/seeds/$target
    mkdir -p "$found" "$kept" "$seeds"
    case $what in
    run)
        # A decoder that takes much more memory than its input is long is as bad as one that panics.
        fuzz "$target" "$found" "$kept" "$seeds" -- \
            -max_total_time="${FUZZ_SECONDS:-60}" -timeout=20 -rss_limit_mb=2048 \
            -malloc_limit_mb=64 -print_final_stats=1 || failed="$failed $target"
        ;;
    minimize)
        new=target/fuzz/minimized/$target
        rm -rf "$new"
        mkdir -p "$new"
        # Lines alone, not how often they are passed: else there would be a thousand inputs.
        fuzz "$target" "$new" "$kept" "$seeds" "$found" -- \
            -set_cover_merge=1 -use_counters=0 -max_len=65000
        find "$kept" -type f ! -name 'regression-*' -exec rm {} +
        cp "$new"/* "$kept"
        echo "$target: $(find "$kept" -type f | wc -l) inputs"
        ;;
    *)
        echo "usage: $0 run|minimize [TARGET...]" >&2
        exit 2
        ;;
    esac
done
if [ -n "$failed" ]; then
    echo "failed:$failed: the inputs are in fuzz/artifacts" >&2
    exit 1
fi
