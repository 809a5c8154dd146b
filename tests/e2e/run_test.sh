# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# `cprof run`: a script sees what it would see without, on each runtime, and leaves a profile of itself.
. "$(dirname "$0")/lib.sh"

cd "$TMP" || exit 1
RUNTIMES=(lua5.1 lua5.2 lua5.3 lua5.4 luajit)

# The program's own words on stderr: without the summary.
own_words() {
    grep -vE '^cprof: |^ +flat +flat%|^ *[0-9.]+[a-z]* +[0-9.e+-]+% ' "$1"
}

# same WHAT RUNTIME SCRIPT ARGUMENT…: output, words and exit status with cprof are those without. LuaJIT's tracebacks
# end in an address.
same() {
    local what=$1 runtime=$2 status=0 profiled=0
    shift 2
    "$runtime" "$@" >plain.out 2>plain.err <<<"a line" || status=$?
    cprof run --lua="$runtime" -o same.pb.gz "$@" >profiled.out 2>profiled.err <<<"a line" || profiled=$?
    is "$runtime: $what" "$profiled $(cat profiled.out) $(own_words profiled.err | sed 's/at 0x.*//')" \
        "$status $(cat plain.out) $(sed 's/at 0x.*//' plain.err)"
}

cat >look.lua <<'LUA'
print(arg[0], arg[-1], arg[-2], #arg, ...)
print(io.read("*l"))
for _, name in ipairs { "LUA_INIT", "LUA_INIT_5_2", "LUA_INIT_5_3", "LUA_INIT_5_4", "LD_PRELOAD", "CPROF_OUTPUT" } do
  print(name, os.getenv(name))
end
io.stderr:write("words\n")
LUA
echo 'local function fails() error("boom") end fails()' >fails.lua
echo 'error({})' >value.lua
echo 'x = = 1' >syntax.lua
echo 'os.exit(tonumber(...))' >exits.lua
echo 'print(os.execute("exit 3")) print(io.popen("env | grep -c CPROF_"):read("*a"))' >shell.lua
for runtime in "${RUNTIMES[@]}"; do
    same "sees its arguments, flags too, stdin and a clean environment" "$runtime" \
        look.lua --hz=3 -o x -- --help 'a b' ''
    same "an error is told as ever" "$runtime" fails.lua
    same "one that is no text" "$runtime" value.lua
    same "one of syntax" "$runtime" syntax.lua
    same "os.exit" "$runtime" exits.lua 7
    same "its own children are left alone" "$runtime" shell.lua
done
is "the script's flags were its own" "$(find . -name x)" ''

export LUA_INIT='print("init " .. tostring(arg))'
same "LUA_INIT is the script's" lua5.1 exits.lua 0
export LUA_INIT_5_4='@init.lua'
echo 'print("init file", os.getenv("LUA_INIT_5_4"))' >init.lua
same "LUA_INIT_5_4 before it" lua5.4 exits.lua 0
unset LUA_INIT LUA_INIT_5_4

# ---- Which interpreter ----

echo 'print(_VERSION, jit and "jit", arg[-1])' >which.lua
is "without a #! line it is the command's own" "$(cprof run -o x.gz which.lua 2>/dev/null)" $'Lua 5.4\tnil\tlua5.4'
{ echo '#!/usr/bin/env lua5.3'; cat which.lua; } >shebang.lua
is "the #! line's, through env" "$(cprof run -o x.gz shebang.lua 2>/dev/null)" $'Lua 5.3\tnil\tlua5.3'
{ echo '#!/usr/bin/luajit'; cat which.lua; } >shebang.lua
is "by its path" "$(cprof run -o x.gz shebang.lua 2>/dev/null)" $'Lua 5.1\tjit\t/usr/bin/luajit'
is "--lua goes before it" "$(cprof run --lua lua5.2 -o x.gz shebang.lua 2>/dev/null)" $'Lua 5.2\tnil\tlua5.2'
is "a script on standard input" "$(echo 'print("in", ...)' | cprof run -o x.gz - y 2>/dev/null)" $'in\ty'

# ---- The profile ----

cat >work.lua <<'LUA'
local function spin(seconds)
  local x, stop = 0, os.clock() + seconds
  while os.clock() < stop do
    for i = 1, 2000 do x = x + i % 7 end
  end
  return x
end
local function inside() spin(0.6) end
local routine = coroutine.wrap(function() inside() end)
routine()
spin(0.6)
if arg[1] == "wait" then
  io.stdout:write("ready\n")
  io.stdout:flush()
  while true do spin(1) end
end
LUA
for runtime in "${RUNTIMES[@]}"; do
    rm -f ./*.pb.gz
    cprof run --lua="$runtime" --hz=500 work.lua 2>words || not_ok "$runtime runs"
    is "$runtime: the file is named after the script" "$(echo ./*.pb.gz)" ./cprof.work.cpu.pb.gz
    like "$runtime: it is said where" "$(<words)" \
        "^cprof: $runtime: [0-9]+ samples, 1\.[0-9]+s of CPU time: $PWD/cprof\.work\.cpu\.pb\.gz$"
    top=$(pprof -top -nodecount=10 cprof.work.cpu.pb.gz 2>&1)
    is "$runtime: the list is pprof's" "$(grep -E '^ *flat|%  ' words)" \
        "$(sed -n '/^ *flat/,$p' <<<"$top" | sed -E 's/ \((partial-)?inline\)$//')"
    like "$runtime: the script's function is in it" "$top" ' spin$'
    like "$runtime: what runs in a coroutine, too" "$(pprof -peek '^inside$' cprof.work.cpu.pb.gz 2>&1)" ' inside$'
    unlike "$runtime: no warning" "$(<words)" 'only [0-9]+ sample'
done

cprof run -o 'few.%p.pb.gz' exits.lua 0 2>words
is "%p is the process's id" "$(find . -name 'few.[0-9]*.pb.gz' | wc -l)" 1
like "few samples are told" "$(<words)" '^cprof: only [0-9]+ samples?: '
runs "and are a file nevertheless" go tool pprof -raw few.*.pb.gz

# ---- Signals ----

# Ctrl-C goes to the interpreter, which raises an error in the script; other signals end the process.
ends_by() {
    local signal=$1 status=$2 lua=$3 attempt
    rm -f by.pb.gz
    : >ready
    cprof run --lua="$lua" -o by.pb.gz work.lua wait >ready 2>words &
    local pid=$!
    for attempt in $(seq 200); do
        grep -q ready ready && break
        sleep 0.05
    done
    kill "-$signal" "$pid"
    wait "$pid" 2>/dev/null
    is "$lua: ended by SIG$signal (after $attempt looks)" "$?" "$status"
    like "$lua: and the file is whole" "$(pprof -top by.pb.gz 2>&1)" ' spin$'
}
for runtime in "${RUNTIMES[@]}"; do
    ends_by TERM 143 "$runtime"
done
ends_by HUP 129 lua5.4
# A shell's background jobs ignore SIGINT; so would the script. This starts it as a terminal would.
ends_by_interrupt() {
    local runtime=$1
    cat >interrupt.lua <<'LUA'
local pid = io.open("/proc/self/stat"):read("*n")
io.popen("sleep 0.7; kill -INT " .. pid)
while true do end
LUA
    (trap - INT; cprof run --lua="$runtime" -o by.pb.gz interrupt.lua) >/dev/null 2>words
    is "$runtime: an interrupt is the interpreter's" "$?" "$2"
    like "$runtime: which tells it" "$(<words)" 'interrupted!'
    runs "$runtime: and there is a file" go tool pprof -top by.pb.gz
}
ends_by_interrupt lua5.1 1 # LuaJIT's own compiled loops do not look for interrupts
ends_by_interrupt lua5.4 1

# ---- Misuse ----

rm -f ./*.gz
# refuses STATUS WORDS ARGUMENT…
refuses() {
    local status=$1 words=$2 got=0
    shift 2
    cprof "$@" >out 2>words || got=$?
    is "cprof $*: $words" "$got $(cat out words)" "$status cprof: $words"
}
refuses 2 "which command? (try 'cprof --help')"
refuses 2 "no command 'rum' (try 'cprof --help')" rum
refuses 2 "unknown option '--hzz'; did you mean '--hz'? (try 'cprof run --help')" run --hzz=3 look.lua
for hz in 4001 0 -1 0x10 1e2 100.0 '' x; do
    refuses 2 "--hz must be a whole number from 1 to 4000 (try 'cprof run --help')" run "--hz=$hz" look.lua
done
refuses 2 "--hz must be a whole number from 1 to 4000 (try 'cprof run --help')" run --hz 4001 look.lua
refuses 2 "--mode must be cpu or wall (try 'cprof run --help')" run --mode=none look.lua
refuses 2 "--engine must be perf, timer or monotonic (try 'cprof run --help')" run --engine=x look.lua
refuses 2 "missing argument 'script' (try 'cprof run --help')" run --cpu
refuses 127 "none.lua: No such file or directory" run none.lua
refuses 127 "lua6: command not found" run --lua=lua6 look.lua
refuses 1 "none/x.gz: No such file or directory" run -o none/x.gz look.lua
is "nothing is left of what never ran" "$(find . -name '*.gz')" ''
for command in '' run record; do
    # shellcheck disable=SC2086 # no word, or one
    like "cprof $command --help has an example" "$(cprof $command --help)" "cprof (run|record) .*[a-z]"
done
done_testing
