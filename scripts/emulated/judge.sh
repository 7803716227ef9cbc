#!/bin/sh
# Says what the tests in the emulated machine came to: scripts/emulated/judge.sh TESTS OUTPUT
#
# TESTS is the list that the machine was given (a name, the number of tests, a command), OUTPUT what came
# out of it. It passes when each program of the list, in that order, ended with code 0 and with libtest's
# own line of success, all its tests run, and the machine said that it was through. One whose name begins
# with `control` must fail instead: else a failure would not be seen. Whatever is missing is a failure.
set -eu
exec awk '
function wrong(what) { print "FAILED " what; failures++ }
FNR == NR { listed[++count] = $1; tests[$1] = $2; next }
{ sub(/\r$/, "") }
$1 == "MACHINE" { machine++; print; next }
$1 == "COMPLETE" { complete++; next }
$1 == "BEGIN" {
    if (running != "") wrong(running ": no end")
    running = $2; summary = ""; summaries = 0; skipped = ""
    if (running != listed[++at]) wrong(running ": not what comes next in the list")
    next
}
$1 == "SKIPPED" { skipped = $0; next }
/^test result: / { summary = $0; summaries++; next }
$1 == "END" {
    name = $2; code = $3
    if (name != running) wrong(name ": ended and never began")
    running = ""
    ended++
    if (name ~ /^control/) {
        if (code == 101 && summaries == 1 && summary ~ /^test result: FAILED\. 0 passed; [1-9]/)
            printf "  %-20s fails, as it must\n", name
        else
            wrong(name ": it must fail, and says: " code " " summary)
        next
    }
    wanted = "test result: ok. " tests[name] " passed; 0 failed; 0 ignored; "
    if (code != 0 || summaries != 1 || index(summary, wanted) != 1)
        wrong(name ": " code " " summary)
    else if (skipped != "")
        wrong(name ": " skipped)
    else {
        passed += tests[name]
        printf "  %-20s %3d passed, %4d s\n", name, tests[name], $4
    }
}
END {
    if (running != "") wrong(running ": no end")
    if (machine != 1 || complete != 1) wrong("the machine did not come to its end")
    if (count == 0 || ended != count) wrong((ended + 0) " test programs of " count " ended")
    print (passed + 0) " passed, " (failures + 0) " failed"
    exit (failures > 0)
}' "$1" "$2"
