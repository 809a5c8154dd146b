# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# `cprof record`: any dynamically linked program leaves a profile, however it ends, and so do the programs that it
# starts.
. "$(dirname "$0")/lib.sh"

cd "$TMP" || exit 1
PROGRAM=$BUILD/tests/record_program

# record WHAT STATUS ARGUMENT…: records the program; words on stderr are in the file words.
record() {
    local what=$1 status=$2 got=0
    shift 2
    rm -f ./*.gz ./*.gz.*
    cprof record --hz=500 -o p.gz -- "$PROGRAM" "$@" >out 2>words || got=$?
    is "$what: its exit status" "$got" "$status"
}

# shows WHAT FILE FUNCTION…
shows() {
    local what=$1 file=$2 tree function
    shift 2
    tree=$(pprof -traces "$file" 2>&1)
    for function; do
        like "$what: $function is in ${file##*/}" "$tree" " $function\$"
    done
}

# ---- Beginnings ----

# What a script starts in its background ignores SIGINT; the command's own Lua has a handler for it.
for trap in "''" -; do
    is "SIGINT is as it was: trap $trap INT" "$(eval "trap $trap INT"
        cprof record -o p.gz -- grep SigIgn /proc/self/status 2>words)" "$(eval "trap $trap INT"
        grep SigIgn /proc/self/status)"
done

# ---- Ends ----

for how in exit _exit quick_exit; do
    record "$how" 3 "$how"
    shows "$how" p.gz at_first
    like "$how: the summary" "$(<words)" "^cprof: record_program: [0-9]+ samples, 0\.[0-9]+s of CPU time: $PWD/p\.gz$"
done
list=$(pprof -top -nodecount=10 p.gz 2>&1)
is "the list on stderr is pprof's" "$(grep -E '^ *flat|%  ' words)" \
    "$(sed -n '/^ *flat/,$p' <<<"$list" | sed -E 's/ \((partial-)?inline\)$//')"
cprof record --hz=20 -o p.gz -- "$PROGRAM" exit >out 2>words
like "few samples are told" "$(<words)" '^cprof: only [0-9]+ samples?: '
record "pthread_exit of the last thread" 0 pthread_exit
shows "pthread_exit" p.gz at_first
record "a thread" 0 threads
shows "a thread" p.gz at_first at_last
record "abort" 134 abort
shows "abort" p.gz at_first
record "a crash" 139 crash
shows "a crash" p.gz at_first
rm -f p.gz
cprof record -o p.gz -- "$PROGRAM" pipe 2>words | head -1 >out
is "a reader that goes: SIGPIPE" "${PIPESTATUS[0]}" 141
shows "SIGPIPE" p.gz at_first

# is_killed SIGNAL STATUS HOW [WORDS]: by the signal, once it is ready; then it has said WORDS.
is_killed() {
    local signal=$1 status=$2 how=$3 words=${4:-ready} attempt
    rm -f p.gz
    : >out
    cprof record --hz=500 -o p.gz -- "$PROGRAM" "$how" >out 2>words &
    local pid=$!
    for attempt in $(seq 200); do
        grep -q ready out && break
        sleep 0.05
    done
    sleep 0.2
    kill "-$signal" "$pid"
    wait "$pid" 2>/dev/null
    is "SIG$signal in $how: the program dies by it (after $attempt looks)" "$?" "$status"
    is "SIG$signal in $how: and does nothing more" "$(<out)" "$words"
    shows "SIG$signal in $how" p.gz at_first
}
is_killed TERM 143 sleep
is_killed HUP 129 sleep
is_killed USR1 138 sleep
is_killed PROF 155 sleep
is_killed IO 157 sleep
is_killed PWR 158 sleep
is_killed STKFLT 144 sleep
is_killed RTMIN 162 sleep
is_killed RTMAX 192 sleep
# Handlers of the program's own, and those that it gives back to the default.
is_killed TERM 143 handle $'ready\nclean'
is_killed IO 157 handle
record "signals" 0 look
is "signals: the program sees them as they were" "$(<out)" ready
for _ in 1 2 3 4 5; do
    is_killed TERM 143 malloc
done

# ---- More processes ----

# The one file of another process than the first.
other() {
    find . -name 'p.gz.[0-9]*' | head -1
}

record "fork" 3 fork
shows "fork: the parent" p.gz at_first at_last
shows "fork: the child" "$(other)" in_the_child
unlike "fork: what the parent did before is not the child's" "$(pprof -traces "$(other)" 2>&1)" ' at_first$'
like "fork: the child tells where" "$(<words)" \
    "^cprof: record_program \(process [0-9]+\): [0-9]+ samples, .*: $PWD/p\.gz\.[0-9]+$"
like "fork: the parent tells that there are children" "$(<words)" 'children write files of their own: .*/p\.gz\.PID$'

record "vfork and exec" 3 vfork
shows "vfork and exec: the parent" p.gz at_first at_last
shows "vfork and exec: the child" "$(other)" at_first

record "exec" 3 exec
shows "exec: what was before, a failed one too" p.gz.exec1 at_first at_last
shows "exec: what is after" p.gz at_first
is "exec: no other file" "$(echo p.gz*)" "p.gz p.gz.exec1"

record "daemon" 0 daemon
for _ in $(seq 100); do
    [ -s "$(other)" ] && break
    sleep 0.05
done
shows "daemon: who started it" p.gz at_first
shows "daemon" "$(other)" in_the_child

record "a pipeline of a shell" 0 system "$PROGRAM exit | $PROGRAM _exit | cat >/dev/null"
is "a pipeline of a shell: each that was sampled has a file" \
    "$(grep -cE '^cprof: record_program \(process [0-9]+\): ' words)" 2

rm -f ./*.gz*
cprof record -o 'p.%p.gz' -- "$PROGRAM" fork >out 2>words
is "%p in the name: a file for each process" "$(find . -name 'p.[0-9]*.gz' | wc -l)" 2
unlike "%p in the name: no other ending" "$(echo ./*)" 'gz\.'
rm -f ./*.gz*
mkdir '%p%%d%' && (cd '%p%%d%' && cprof record -o '50%%p%%%.gz' -- "$PROGRAM" fork >../out 2>../words)
is "%% in the name is a %, and in the folder's it stands" \
    "$(find . -name '*.gz*' | sed 's/gz\.[0-9]*$/gz.PID/' | sort)" \
    $'./%p%%d%/50%p%%.gz\n./%p%%d%/50%p%%.gz.PID'
like "which is said" "$(<words)" "children write files of their own: $PWD/%p%%d%/50%p%%\.gz\.PID$"
cprof record -o '%%/p.gz' -- "$PROGRAM" exit >out 2>words
is "%% in a folder's name, too" "$? $(<words)" "1 cprof: %/p.gz: No such file or directory"
cp "$PROGRAM" 100%p && cprof record -- ./100%p exit >out 2>words
is "a % in the program's name is no mark" "$(echo ./*.gz)" './cprof.100%p.cpu.pb.gz'
rm -r '%p%%d%' 100%p

cat >script.sh <<SH
#!/bin/sh
"$PROGRAM" exit >/dev/null
exec "$PROGRAM" exit
SH
chmod +x script.sh
rm -f ./*.gz*
cprof record -- ./script.sh >out 2>words
is "a script: the exit status of what it became" "$?" 3
is "a script: the file has its name" "$(echo ./*.gz)" ./cprof.script.sh.cpu.pb.gz
shows "a script: what it became" cprof.script.sh.cpu.pb.gz at_first

# ---- What is said, and where ----

# A daemon may have another file where stderr was: nothing is written to it.
rm -f ./*.gz*
cprof record -o p.gz -- bash -c 'exec 2>other; exit 0' 2>words
is "stderr is another file: nothing is said there" "$(cat other words)" ''
cprof record -o p.gz -- bash -c "exec 2>other; exec $PROGRAM exit" >out 2>words
is "nor by what the program became" "$(cat other words)" ''
# shellcheck disable=SC2016 # the inner shell's
cprof record --hz=500 -o p.gz -- bash -c '
    x=$("$0" exit 2>&1); echo "[$x]"
    "$0" exit >/dev/null 2>other
    "$0" exit >/dev/null
    exit 0' "$PROGRAM" >out 2>words
is "a child's stderr is another file: the program computes what it would without" "$(cat out other)" '[ready]'
for file in p.gz.[0-9]*; do
    pprof -traces "$file" 2>&1 | grep -c -m1 ' at_first$'
done >counts
is "each of them has written its file" "$(grep -c 1 counts)" 3
is "a child says so where its stderr is the first process's" \
    "$(grep -cE '^cprof: record_program \(process [0-9]+\): [0-9]+ samples, ' words)" 1

# coreutils close stderr to see whether all was written.
seq 200000 >numbers
LC_ALL=C cprof record --hz=1000 -o p.gz -- sort -R numbers >out 2>words
like "stderr is closed at the end: the list is said nevertheless" "$(<words)" '^cprof: the most used functions$'
like "with the summary" "$(<words)" "^cprof: sort: [0-9]+ samples, .*: $PWD/p\.gz$"
# Who closes all descriptors closes ours, too, and may then have others of these numbers.
record "all descriptors are closed" 3 close
is "all descriptors are closed: nothing is said" "$(<words)" ''
shows "all descriptors are closed" p.gz at_first
# What a child of fork keeps open, who reads a pipe to its end waits for.
rm -f ./*.gz*
before=$SECONDS
cprof record -o p.gz -- "$PROGRAM" background 2>&1 >/dev/null | cat >words
is "a child in the background does not keep stderr open" "$((SECONDS - before < 15))" 1
like "and the first process has spoken" "$(<words)" '^cprof: record_program: '

record "a title in argv" 3 title
like "a title in argv: the program has its name" "$(<words)" '^cprof: record_program: '

# ---- Lua ----

cat >work.lua <<'LUA'
local function spin(seconds)
  local x, stop = 0, os.clock() + seconds
  while os.clock() < stop do
    for i = 1, 2000 do x = x + i % 7 end
  end
  return x
end
spin(0.5)
LUA
for runtime in lua5.1 lua5.2 lua5.3 lua5.4 luajit; do
    rm -f ./*.gz*
    cprof record --hz=500 -o p.gz -- "$runtime" work.lua 2>words
    shows "$runtime" p.gz spin
    cprof record --hz=500 -o p.gz -- "$BUILD/tests/record_$runtime" work.lua 2>words
    shows "a host of $runtime as a library" p.gz spin
    cprof record --hz=500 -o p.gz -- sh -c "$runtime work.lua; true" 2>words
    shows "$runtime as a child" "$(other)" spin
done

# ---- What cannot be recorded ----

rm -f ./*.gz*
# refused STATUS WORDS PROGRAM…
refused() {
    local status=$1 words=$2 got=0
    shift 2
    cprof record -- "$@" >out 2>words || got=$?
    is "refused: $*" "$got $(cat out words)" "$status cprof: $words"
}
cp "$PROGRAM" setuid && chmod u+s setuid
cp "$PROGRAM" setgid && chmod g+xs setgid
cp "$BUILD/tests/record_static" static
{ head -c 4 "$PROGRAM"; printf '\001'; tail -c +6 "$PROGRAM"; } >narrow
{ head -c 18 "$PROGRAM"; printf '\377\377'; tail -c +21 "$PROGRAM"; } >strange
head -c 300 "$PROGRAM" >short
echo text >text
printf '#!%s/static\n' "$PWD" >static.sh
printf '#!/none/sh\n' >none.sh
printf '#!\n' >empty.sh
: >empty
chmod +x narrow strange short text static.sh none.sh empty.sh empty
refused 126 "./static: is statically linked; only dynamically linked programs can be recorded from outside" ./static
refused 126 "./setuid: is a setuid or setgid program; the system preloads nothing into those" ./setuid
refused 126 "./setgid: is a setuid or setgid program; the system preloads nothing into those" ./setgid
refused 126 "./narrow: is a 32-bit program; this cprof records 64-bit ones" ./narrow
refused 126 "./strange: is a program for another kind of machine" ./strange
refused 126 "./short: is no program (its head is cut off)" ./short
refused 126 "./text: is no program (neither ELF nor a script with #!)" ./text
refused 126 "./empty: is no program (neither ELF nor a script with #!)" ./empty
refused 126 "$PWD/static: is statically linked; only dynamically linked programs can be recorded from outside" \
    ./static.sh
refused 127 "/none/sh: No such file or directory" ./none.sh
refused 126 "./empty.sh: its #! line names no program" ./empty.sh
refused 127 "./none: No such file or directory" ./none
refused 127 "none-such: command not found" none-such
refused 126 "$PWD: Is a directory" "$PWD"
refused 126 "./work.lua: Permission denied" ./work.lua
refused 2 "missing argument 'program' (try 'cprof record --help')"
is "nothing is left of what never ran" "$(find . -name '*.gz*')" ''

# ---- What the library is told, where it is preloaded by hand ----

PRELOAD=$BUILD/lib/libcprof_preload.so
by_hand() {
    local what=$1 status=$2 words=$3 got=0
    shift 3
    env "$@" LD_PRELOAD="$PRELOAD" "$PROGRAM" exit >out 2>words || got=$?
    is "$what" "$got" "$status"
    like "$what: words" "$(cat words)" "$words"
}
by_hand "no CPROF_OUTPUT: nothing happens" 3 '^$' CPROF_HZ=7
by_hand "an output is enough" 3 ": $PWD/hand.gz$" CPROF_OUTPUT=hand.gz
by_hand "a wrong rate: the program does not run" 1 \
    '^cprof: record_program cannot be recorded: CPROF_HZ: no whole number$' \
    CPROF_OUTPUT=hand.gz CPROF_HZ=x
by_hand "an unknown engine" 2 '^cprof: record_program cannot be recorded: engine: ' CPROF_OUTPUT=hand.gz CPROF_ENGINE=x
done_testing
