#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# What hosts do while they are sampled (lifecycle.c), each in a process of its own: how it ends is as it would have been
# without, and what was sampled is in the file, as `go tool pprof` reads it. Then the ends that scripts come to.
. "$(dirname "$(readlink -f "$0")")/lib.sh"

ulimit -c 0
cd "$TMP" || exit 1

# play SCENE STATUS [REGEX]: the scene ends with STATUS (128 and the signal's number where it dies by one); lines of its
# file's report fit REGEX, "burn" where it is not said, and where it is "-" there is no file.
play() {
    local scene=$1 wanted=$2 regex=${3:-burn} out status=0
    out=$(timeout 100 "$BUILD/tests/lifecycle" "$scene" "$TMP/$scene.pb.gz" 2>&1) || status=$?
    if [ "$status" = 98 ]; then
        ok "$scene: not to be had here"
        return
    fi
    is "$scene: how it ends" "$status $out" "$wanted "
    if [ "$regex" = - ]; then
        is "$scene: no file" "$(ls "$TMP/$scene"* 2>/dev/null)" ''
    else
        like "$scene: what was sampled" "$(pprof -top "$TMP/$scene.pb.gz" 2>&1)" "$regex"
    fi
}

play returns 0
play exits_elsewhere 3
play main_thread_ends 3
play main_thread_ends_later 3
play executes 7 -
play interrupted 130
play terminated 143
play handles_term 0
play forks 0
for child in "$TMP"/forks.pb.gz.*; do
    like "forks: what a child sampled" "$(pprof -top "$child" 2>&1)" burn
done
play forks_others 0
play small_stacks 0
play signals_blocked 0 'signals blocked'
play alternate_stacks 0
play cancels 0
play faults_before 0
play faults_later 0
play faults_unhandled 139 -
play killed_by_fault_signal 139 -
play faults_chained 139 -
play resets_signals 0
play own_urgent 0
play own_profiler 0
play closes_all 0
play no_descriptors 0
play no_descriptors_before 0
play no_timers 0
play no_perf 0
play no_cpu_timers 0
LIFECYCLE_PLUGIN=$BUILD/tests/chaos_plugin.so play unloads 0 ' (descend|plugin_run)$'
LIFECYCLE_PLUGIN=$BUILD/tests/chaos_plugin.so play unloads_soon 0 ' (descend|plugin_run)$'

# samples REGEX FILE: those on whose stacks REGEX is.
samples() {
    pprof -sample_index=samples -focus "$1" -top "$2" 2>/dev/null |
        sed -nE 's/^Showing nodes accounting for ([0-9]+).*/\1/p'
}
called=$(samples '^load_for$' "$TMP/unloads_soon.pb.gz") all=$(samples . "$TMP/unloads_soon.pb.gz")
is "unloads_soon: most samples have their callers ($called of $all)" "$((2 * called > all))" 1

# The engine is named in the file.
engine() {
    [ ! -f "$TMP/$1.pb.gz" ] ||
        like "$1: names its engine" "$(pprof -comments "$TMP/$1.pb.gz" 2>&1)" "^cprof engine: $2\$"
}
engine no_timers 'perf_event task-clock(, user space only .*)?'
# Where it could not serve all threads, that is said.
fell_back() {
    local comments
    comments=$(pprof -comments "$TMP/$1.pb.gz" 2>&1)
    if grep -q '^cprof engine: perf' <<<"$comments"; then
        like "$1: tells how many threads timers sampled" "$comments" "^threads sampled by timers .*: $2\$"
    fi
}
fell_back no_descriptors '[12]'
unlike "no_timers: no thread was sampled by one" "$(pprof -comments "$TMP/no_timers.pb.gz" 2>&1)" \
    '^threads sampled by timers'
engine no_perf "timers on each thread's CPU clock"
engine no_cpu_timers 'timers on the monotonic clock'

# Where descriptors were closed, what came afterwards is there as well: of 330 ms, 30 came before.
samples=$(pprof -raw "$TMP/closes_all.pb.gz" 2>/dev/null | awk '/^ *[0-9]+ +[0-9]+: / { n += $1 } END { print n + 0 }')
is "closes_all: sampled afterwards ($samples samples)" "$((samples > 100))" 1

cat >script.lua <<'L'
local cprof = require "cprof"
local how, output = ...
assert(cprof.start_cpu_profile{hz = 1000, output = output})
local function busy()
    local sum, clock = 0, os.clock() + 0.1
    while os.clock() < clock do
        for i = 1, 1000 do
            sum = sum + i % 7
        end
    end
    return sum
end
busy()
if how == "exit" then
    os.exit(4)
elseif how == "error" then
    error("uncaught")
elseif how == "collect" then
    for _ = 1, 5 do
        collectgarbage()
    end
elseif how == "coroutine" then
    coroutine.wrap(function()
        os.exit(5)
    end)()
end
L
for lua in lua5.1 lua5.2 lua5.3 lua5.4 luajit; do
    for how in end exit error collect coroutine; do
        status=0
        "$lua" script.lua "$how" "$TMP/$lua.$how.pb.gz" >/dev/null 2>&1 || status=$?
        declare -A wanted=([end]=0 [exit]=4 [error]=1 [collect]=0 [coroutine]=5)
        is "$lua, $how: status" "$status" "${wanted[$how]}"
        like "$lua, $how: file" "$(pprof -top "$TMP/$lua.$how.pb.gz" 2>&1)" '^Type: cpu'
    done
    unset wanted
done

# Signals, with two recordings that have outputs: SIGINT is the interpreter's, which raises an error; of SIGTERM the
# process dies. In a C function that never returns, the Lua frames are not to be had, and the file says so.
cat >signals.lua <<'L'
local cprof = require "cprof"
local how, output = ...
assert(cprof.start_cpu_profile{hz = 1000, output = output})
assert(cprof.start_cpu_profile{output = output .. ".%p"})
if rawget(_G, "jit") then
    rawget(_G, "jit").off() -- compiled loops do not look for interrupts
end
local function busy()
    local sum = 0
    for i = 1, 1000000 do
        sum = sum + i % 7
    end
    return sum
end
for _ = 1, 20 do
    busy()
end
local pid = io.open("/proc/self/stat"):read("*n")
os.execute("{ sleep 0.3; kill -" .. how:match("%a+") .. " " .. pid .. "; } >/dev/null 2>&1 &")
if how == "TERM in C" then
    string.find(string.rep("a", 60), string.rep("a-", 30) .. "b")
end
while true do
    busy()
end
L
for lua in lua5.1 lua5.2 lua5.3 lua5.4 luajit; do
    for how in INT TERM "TERM in C"; do
        rm -f signals.pb.gz*
        status=0
        # Jobs in the background of a shell ignore SIGINT.
        (trap - INT; exec timeout 60 "$lua" signals.lua "$how" signals.pb.gz) >/dev/null 2>&1 || status=$?
        is "$lua, SIG$how: status" "$status" "$([ "$how" = INT ] && echo 1 || echo 143)"
        for output in signals.pb.gz*; do
            like "$lua, SIG$how: ${output/%.[0-9]*/.%p}" "$(pprof -top "$output" 2>&1)" ' busy$'
        done
        is "$lua, SIG$how: both outputs" "$(printf '%s\n' signals.pb.gz* | wc -l)" 2
        [ "$how" != "TERM in C" ] || like "$lua, SIG$how: what is missing is counted" \
            "$(pprof -comments signals.pb.gz 2>&1)" '^[0-9]+ of [0-9]+ samples without the Lua frames: '
    done
done

done_testing
