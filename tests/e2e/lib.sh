# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the end-to-end tests say: each sources this, calls the words below and ends with `done_testing`. Every check
# prints one TAP line and, where it fails, what it saw. Everything is written below $TMP, which goes away; servers that
# were started end with the test.

set -uo pipefail

# What a test inherits says nothing of the programs it starts: signals that are ignored (nohup's, a background job's; a
# shell cannot set those back), a closed stdin, or a terminal there, which would stop a test in the background.
if [ -z "${CPROF_TEST_BEGUN:-}" ]; then
    CPROF_TEST_BEGUN=1 exec env --default-signal bash "$0" "$@" </dev/null
fi
unset CPROF_TEST_BEGUN

ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
BUILD=${BUILD:-$ROOT/build/release}
TMP=$(mktemp -d)
CHECKS=0 FAILED=0
SERVERS=()
URL='' SERVER_LOG=''
export ROOT BUILD TMP URL SERVER_LOG

# Go wants folders for its files and finds none where HOME is not set.
export GOCACHE=$TMP/go/cache GOPATH=$TMP/go GOENV=off GOPROXY=off PPROF_TMPDIR=$TMP/pprof PPROF_BINARY_PATH=$TMP/pprof
mkdir -p "$TMP/pprof"

clean_up() {
    local pid
    for pid in "${SERVERS[@]}"; do
        kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
    done
    rm -rf "$TMP"
}
trap clean_up EXIT

ok() {
    CHECKS=$((CHECKS + 1))
    echo "ok $CHECKS - $1"
}

# not_ok WHAT [SEEN]
not_ok() {
    CHECKS=$((CHECKS + 1)) FAILED=$((FAILED + 1))
    echo "not ok $CHECKS - $1"
    [ $# = 1 ] || printf '%s\n' "$2" | sed 's/^/#   /'
}

# is WHAT GOT WANTED
is() {
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got:    $2"$'\n'"wanted: $3"; fi
}

# like WHAT TEXT REGEX: some line of TEXT fits the extended regular expression.
like() {
    if grep -qE -- "$3" <<<"$2"; then ok "$1"; else not_ok "$1" "wanted a line like: $3"$'\n'"$2"; fi
}

unlike() {
    if grep -qE -- "$3" <<<"$2"; then not_ok "$1" "wanted no line like: $3"$'\n'"$2"; else ok "$1"; fi
}

# runs WHAT COMMAND…: the command succeeds; its output is in $OUT.
runs() {
    local what=$1
    shift
    if OUT=$("$@" 2>&1); then ok "$what"; else not_ok "$what" "$OUT"; fi
}

# in_order WHAT TEXT REGEX…: lines of TEXT fit the expressions, one after the other, others between them allowed.
in_order() {
    local what=$1 text=$2 line
    shift 2
    while IFS= read -r line && [ $# != 0 ]; do
        if grep -qE -- "$1" <<<"$line"; then shift; fi
    done <<<"$text"
    if [ $# = 0 ]; then ok "$what"; else not_ok "$what" "wanted next: $1"$'\n'"$text"; fi
}

# serve COMMAND…: starts a server in the background and waits until a line of its output names its address
# (http://127.0.0.1:PORT or http://localhost:PORT). Sets $URL and $SERVER_LOG.
serve() {
    SERVER_LOG=$TMP/server.${#SERVERS[@]}.log
    "$@" >"$SERVER_LOG" 2>&1 </dev/null &
    SERVERS+=($!)
    local attempt
    for attempt in $(seq 100); do
        URL=$(grep -oE -m1 'http://(127\.0\.0\.1|localhost):[0-9]+' "$SERVER_LOG") &&
            URL=${URL/localhost/127.0.0.1} && return 0
        kill -0 "${SERVERS[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    not_ok "starts: $* (looked $attempt times)" "$(cat "$SERVER_LOG")"
    return 1
}

pprof() {
    go tool pprof "$@"
}

done_testing() {
    echo "1..$CHECKS"
    if [ $CHECKS = 0 ] || [ $FAILED != 0 ]; then exit 1; fi
    exit 0
}
