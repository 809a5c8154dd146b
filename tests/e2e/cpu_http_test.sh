# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# CPU profiles over HTTP from a C program and a Lua script that never rest: as a person fetches them, several at once,
# beside other requests, and with clients that go.
. "$(dirname "$0")/lib.sh"

get() {
    curl -sS --max-time 60 "$@"
}

# armed PID: what of a sampler is there in that process, timers and perf's files.
armed() {
    cat "/proc/$1/timers" 2>/dev/null
    find "/proc/$1/fd" -lname '*perf_event*' 2>/dev/null
}

# comes_to WHAT PID yes|no: within half a minute something is armed in that process, or nothing.
comes_to() {
    local attempt now
    for attempt in $(seq 300); do
        if [ -n "$(armed "$2")" ]; then now=yes; else now=no; fi
        if [ "$now" = "$3" ]; then
            ok "$1"
            return
        fi
        sleep 0.1
    done
    not_ok "$1" "still so after $attempt looks: $(armed "$2")"
}

# samples FILE: how many it holds.
samples() {
    pprof -top -sample_index=samples "$1" 2>/dev/null | sed -nE 's/.* of ([0-9]+) total$/\1/p'
}

# flat TOP NAME: its share of the time, in whole per cent.
flat() {
    awk -v name="$2" '$6 == name { sub(/\..*/, "", $2); sub(/%/, "", $2); print $2 }' <<<"$1"
}

# splits WHAT TOP: three quarters and one, as far as a few hundred samples tell.
splits() {
    local much little
    much=$(flat "$2" burn_much) little=$(flat "$2" burn_little)
    if ((${much:-0} >= 60 && ${much:-0} <= 90 && ${little:-0} >= 10 && ${little:-0} <= 40)); then
        ok "$1"
    else
        not_ok "$1" "burn_much: $much%, burn_little: $little%"$'\n'"$2"
    fi
}

# ---- As a person fetches it ----

serve lua5.4 "$ROOT/tests/e2e/busy_host.lua" || done_testing
top=$(pprof -top "$URL/debug/pprof/profile?seconds=2&hz=1000" 2>"$TMP/said")
like "pprof fetches a CPU profile from a Lua script" "$top" '^Type: cpu$'
splits "which says where its time goes" "$top"

serve "$BUILD/tests/busy_host" || done_testing
BASE=$URL/debug/pprof HOST=${SERVERS[-1]}
top=$(pprof -top "$BASE/profile?seconds=2&hz=1000" 2>"$TMP/said")
like "pprof fetches one from a C program" "$top" '^Type: cpu$'
splits "which says where its time goes, too" "$top"
comes_to "and nothing stays armed" "$HOST" no

# ---- Three at once ----

FETCHES=()
fetch() {
    get -f -o "$TMP/$1.pb.gz" "$BASE/profile?$2" &
    FETCHES+=($!)
}
fetch slow 'seconds=2&hz=100'
fetch fast 'seconds=2&hz=1000'
fetch long 'seconds=3&hz=250'
comes_to "they are recorded" "$HOST" yes
like "the index is answered meanwhile" "$(get -o "$TMP/page" -w '%{http_code}' "$BASE/")" '^200$'
like "and lists the profile" "$(<"$TMP/page")" 'href="profile\?seconds=30"'
wait "${FETCHES[@]}"
for each in 'slow 2 10000000' 'fast 2 1000000' 'long 3 4000000'; do
    read -r name seconds period <<<"$each"
    raw=$(pprof -raw "$TMP/$name.pb.gz" 2>&1)
    like "$name: has its own rate" "$raw" "^Period: $period$"
    like "$name: and its own seconds" "$raw" "^Duration: ($seconds|$((seconds - 1))\.9)"
done
slow=$(samples "$TMP/slow.pb.gz") fast=$(samples "$TMP/fast.pb.gz")
if ((${slow:-0} > 0 && ${fast:-0} > 3 * ${slow:-0})); then
    ok "the fast one has more samples"
else
    not_ok "the fast one has more samples" "slow: $slow, fast: $fast"
fi
comes_to "nothing stays armed after them" "$HOST" no

get -f -o "$TMP/usual.pb.gz" "$BASE/profile?seconds=1"
like "without hz it is 100 a second" "$(pprof -raw "$TMP/usual.pb.gz" 2>&1)" '^Period: 10000000$'

# ---- Clients that go ----

# Not get: its process would be the shell's, and curl would outlive it. And for longer than comes_to looks.
curl -sS "$BASE/profile?seconds=600" >/dev/null 2>&1 &
CLIENT=$!
comes_to "a client waits for a profile" "$HOST" yes
sleep 1
kill "$CLIENT" && wait "$CLIENT" 2>/dev/null
comes_to "it is killed: the recording ends" "$HOST" no
is "and the next one works" "$(get -o /dev/null -w '%{http_code}' "$BASE/profile?seconds=1")" 200

# ---- What it cannot mean ----

fetch meanwhile 'seconds=4&hz=500&engine=timer'
comes_to "one is recorded meanwhile" "$HOST" yes
for bad in hz=0 hz=4001 hz=fast mode=sleep engine=steam seconds=3601; do
    is "$bad is refused" "$(get -o "$TMP/why" -w '%{http_code}' "$BASE/profile?$bad&seconds=1")" 400
    like "$bad: and the body says why" "$(<"$TMP/why")" "${bad%=*}"
done
for bad in hz=-1 hz=1.5 hz=0x10 hz=99999999999999999999 mode=CPU 'engine=perf&mode=wall'; do
    is "$bad is refused" "$(get -o "$TMP/why" -w '%{http_code}' "$BASE/profile?$bad&seconds=1")" 400
    like "$bad: and the body says why" "$(<"$TMP/why")" "${bad%%=*}: "
done
is "another engine meanwhile is a conflict" \
    "$(get -o "$TMP/why" -w '%{http_code}' "$BASE/profile?engine=monotonic&seconds=1")" 409
like "and the body says with which" "$(<"$TMP/why")" "engine: 'monotonic' is not that of .*, 'timer'"
wait "${FETCHES[@]}"
splits "the one that was recorded meanwhile is whole" "$(pprof -top "$TMP/meanwhile.pb.gz" 2>/dev/null)"
out=$(pprof -top "$BASE/profile?seconds=1&hz=0" 2>&1)
like "pprof shows it to its user" "$out" 'server response: 400 Bad Request - hz: not a whole number from 1 to 4000'
done_testing
