# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Threads of code that was loaded before cprof, in a plain lua5.4 without LD_PRELOAD: those that run already, those that
# it starts while it is sampled, and those that hardly live.
. "$(dirname "$0")/lib.sh"

export LUA_CPATH_5_4="$BUILD/tests/lua/5.4/?.so;$LUA_CPATH_5_4"

cat >"$TMP/threads.lua" <<'L'
local threads = require "thread_module"
threads.early(600)
local cprof = require "cprof"
local recording = assert(cprof.start_cpu_profile { hz = 1000, output = (...) })
threads.late(300)
threads.join()
for _ = 1, 30 do
    threads.late(10)
    threads.join()
end
recording:stop()
L

# share TOP NAME: of the time, with what it calls, in whole per cent.
share() {
    awk -v name="$2" '$6 == name { sub(/\..*|%/, "", $5); print $5 }' <<<"$1"
}

is "nothing is preloaded" "${LD_PRELOAD:-}" ''
runs "a host with threads is sampled" lua5.4 "$TMP/threads.lua" "$TMP/threads.pb.gz"
top=$(pprof -top -cum "$TMP/threads.pb.gz" 2>/dev/null)
# Half and half, less what the first used before it was recorded.
for name in burn_early burn_late; do
    got=$(share "$top" $name)
    if ((${got:-0} >= 38 && ${got:-0} <= 62)); then
        ok "$name: half of the time"
    else
        not_ok "$name: half of the time" "$got%"$'\n'"$top"
    fi
done
done_testing
