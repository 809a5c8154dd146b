# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# skip in C: the same frames at -O0 and -O2, through wrappers that are inlined or tail-called; the golden says which.
. "$(dirname "$0")/lib.sh"

# The function names of the one sample in a profile, leaf first, up to main.
frames() {
    pprof -traces "$1" 2>/dev/null | awk '
        /^-+\+/ { inside++; next }
        inside == 1 { name = $0; sub(/^ +([0-9]+ +)?/, "", name); sub(/ \(inline\)$/, "", name)
            printf "%s%s", separator, name; separator = " < "; if (name == "main") exit }'
}

stacks() {
    local name skip
    mkdir -p "$TMP/$1"
    "$BUILD/tests/$1" "$TMP/$1" || echo "$1 failed"
    for name in plain inlined inlined_twice tail pointer; do
        for skip in 0 1 2 3 4; do
            echo "$name $skip: $(frames "$TMP/$1/$name.$skip.pb.gz")"
        done
    done
}

golden=$(cat "$ROOT/tests/golden/skip_c.txt")
for level in O0 O2; do
    is "skip 0 to 4 at -$level" "$(stacks "skip_c_$level")" "$golden"
done
done_testing
