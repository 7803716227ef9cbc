#!/bin/sh
# Finds anew which functions a check executes, and writes them into scripts/layout.ld:
#   scripts/layout.sh
#
# As root. The static program has a probe of the kernel's at each of its functions (uprobes) while it is asked
# about one container of Docker's with one change, and then while the short run of the benchmark asks it about
# running, paused and stopped containers with up to 10,000 changes, on overlay2 and then on Btrfs. What was
# reached at least once is in the list: what the first reached before all else, since most checks are like it.
set -eu
cd "$(dirname "$0")/.."
if [ "$(uname -m)" != x86_64 ]; then
    echo "The list is made on x86_64, and serves aarch64 as well." >&2
    exit 2
fi
tracing=/sys/kernel/tracing

make --silent --directory bench/floor START_CC=musl-gcc
sh scripts/static-cargo.sh x86_64 build --release --locked --package plimsoll --config profile.release.strip=false
mkdir -p target/bench
program=$PWD/target/bench/plimsoll
cp target/musl/x86_64-unknown-linux-musl/release/plimsoll "$program"
${CARGO:-cargo} build --locked --package plimsoll-bench

parts=$(mktemp --directory)
unprobe() {
    if [ -e "$tracing/events/plimsoll" ]; then
        echo 0 > "$tracing/events/plimsoll/function/enable"
        echo > "$tracing/uprobe_events"
    fi
}
mounted=
trap 'unprobe; rm -r "$parts"; [ -z "$mounted" ] || umount "$mounted"' EXIT
if [ ! -e "$tracing/uprobe_events" ]; then
    mount -t tracefs none "$tracing"
    mounted=$tracing
fi

# Functions by their address; of several names for one address, one.
nm "$program" | awk '$2 ~ /^[tT]$/ { print $1, $3 }' | sort --unique --key=1,1 > "$parts/functions"
# Where in the file the addresses are.
moved=$(readelf --program-headers --wide "$program" | awk '$1 == "LOAD" && $7 $8 == "RE" { print $3, $2 }')
moved=$((${moved% *} - ${moved#* }))

# reached NAME COMMAND...: what is executed meanwhile, with what changes from build to build in a symbol left open.
reached() {
    list=$parts/$1
    shift
    # One probe in each write, at the end of what there is.
    while read -r address _; do
        echo "p:plimsoll/function $program:$((0x$address - moved))"
    done < "$parts/functions" >> "$tracing/uprobe_events"
    echo 1 > "$tracing/events/plimsoll/function/enable"
    "$@"
    # The kernel lists the probes as they were made, with how often each was reached.
    awk '{ print $NF }' "$tracing/uprobe_profile" | paste -d ' ' - "$parts/functions" |
        awk '$1 > 0 { print $3 }' | sed -E 's/\.llvm\.[0-9]+$/.llvm.*/; s/Cs[0-9A-Za-z]+_/Cs*_/g' |
        LC_ALL=C sort --unique > "$list"
    unprobe
}
# Stands for the program in the tour, and asks as programs do as well: check --docker-host SOCKET --data-root ROOT
# NAME.
cat > "$parts/asked" <<END
#!/bin/sh
$program check "\$6" --format json --data-root "\$5" > "$parts/results"
exec $program "\$@"
END
chmod +x "$parts/asked"
once() {
    sh scripts/docker-demo.sh "$parts/asked"
}
# The benchmark asks for JSON; the demo's is the table.
often() {
    target/debug/plimsoll-bench run --quick --driver "$1" --output "$parts/results"
    "$program" demo > "$parts/demo"
}
reached once once
reached overlay2 often overlay2
reached btrfs often btrfs

# functions COMM-OPTION: of the two lists what the option of comm leaves, and what is not of every check.
functions() {
    LC_ALL=C comm "$1" "$parts/overlay2" "$parts/btrfs" | LC_ALL=C comm -13 "$parts/once" - |
        laid
}
laid() {
    sed 's/.*/    *(.text.&)/'
}
{
    cat <<'END'
/* The functions that a check executes lie side by side: those of a check with one change, then those of any
   check, of one on overlayfs, of one on Btrfs. The kernel maps a program in pieces of 64 KiB; elsewhere nearly
   every piece has one of these functions, and a check has the whole program in memory. Written by
   scripts/layout.sh. A function that is no longer called so is laid with all others: a list that is out of date
   costs page faults, and nothing else. */
SECTIONS
{
  .text.check : {
END
    laid < "$parts/once"
    functions -12
    functions -23
    functions -13
    echo '  }'
    echo '}'
    echo 'INSERT BEFORE .text;'
} > scripts/layout.ld
# Cargo does not know that the linker reads it.
touch crates/cli/src/main.rs
echo "scripts/layout.ld: $(grep --count '(.text' scripts/layout.ld) of $(wc --lines < "$parts/functions") functions"
