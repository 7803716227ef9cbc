#!/bin/sh
# Holds the judge to it: scripts/emulated/doubt.sh TESTS OUTPUT, of a run that passed. Each spoilt copy of
# its output must be refused, else a run that failed would pass.
set -eu
tests=$1
output=$2
spoilt=$output.spoilt

# spoil WHAT SED_SCRIPT
spoil() {
    sed "$2" "$output" >"$spoilt"
    if cmp -s "$output" "$spoilt"; then
        echo "nothing to spoil: $1" >&2
        exit 1
    fi
    if sh scripts/emulated/judge.sh "$tests" "$spoilt" >/dev/null; then
        echo "the judge lets this pass: $1" >&2
        exit 1
    fi
}

spoil "a machine that stopped before its end" '/^COMPLETE/d'
spoil "a program that never ended" '0,/^END .* 0 /{/^END .* 0 /d}'
spoil "a program that never began" '0,/^BEGIN /{/^BEGIN /d}'
spoil "another exit code" '0,/^\(END .*\) 0 /s//\1 1 /'
spoil "a test that failed" '0,/^test result: ok/s//test result: FAILED/'
spoil "a test fewer than there are" '0,/^test result: ok\. [0-9]*/s//test result: ok. 999/'
spoil "a test that was ignored" '0,/\(result: ok.*\) 0 ignored;/s//\1 1 ignored;/'
spoil "no summary" '0,/^test result: ok/{/^test result: ok/d}'
spoil "nothing at all" d
if grep -q '^BEGIN control' "$output"; then
    spoil "a control that passes" 's/^END control 101 /END control 0 /'
fi
rm -f "$spoilt"
