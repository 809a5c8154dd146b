# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Heap profiles, read by go tool pprof: what is in use, what was allocated, the difference of two, text, HTTP.
. "$(dirname "$0")/lib.sh"

# The value of FUNCTION's flat (or cum) column in a -top listing, in kB. listing FUNCTION COLUMN
kb_of() {
    awk -v name="$2" -v column="$3" '
        index($0, name) {
            value = $column
            factor = value ~ /MB$/ ? 1024 : value ~ /GB$/ ? 1048576 : value ~ /kB$/ ? 1 : 1 / 1024
            printf "%d\n", value * factor
            exit
        }' <<<"$1"
}

within() { # WHAT GOT LOW HIGH
    if [ "${2:-0}" -ge "$3" ] && [ "${2:-0}" -le "$4" ]; then
        ok "$1"
    else
        not_ok "$1" "got ${2:-nothing}, wanted $3 to $4"
    fi
}

# difference DIR OPTION…: of its two profiles, by pprof
difference() {
    local dir=$1
    shift
    pprof "$@" -diff_base "$dir/before.pb.gz" "$dir/after.pb.gz" 2>/dev/null
}

# leaks_are_found WHAT LINE FUNCTION COMMAND…
leaks_are_found() {
    local what=$1 guilty=$2 first=$3 dir=$TMP/$1 top diff
    shift 3
    mkdir -p "$dir"
    runs "$what: the example runs" "$@" "$dir"
    top=$(pprof -top "$dir/after.pb.gz" 2>/dev/null)
    like "$what: what is in use is shown first" "$top" '^Type: inuse_space$'
    diff=$(difference "$dir" -top)
    is "$what: the guilty function is on top of the difference" \
        "$(awk '/flat%/ { getline; print $NF; exit }' <<<"$diff")" "$first"
    diff=$(difference "$dir" -lines -cum -top)
    like "$what: and so is its line" "$diff" "$guilty"
}

for runtime in lua5.1 lua5.2 lua5.3 lua5.4 luajit; do
    # 5000 copies of 2 kB; the closures are small beside them, but their line is there.
    leaks_are_found "$runtime" "subscribe .*leak\\.lua:2[0-9]" table.concat "$runtime" "$ROOT/examples/leaks/leak.lua"
    diff=$(difference "$TMP/$runtime" -sample_index=inuse_space -top)
    within "$runtime: 5000 copies of 2 kB were kept" "$(kb_of "$diff" table.concat 1)" 7500 13500
    objects=$(pprof -sample_index=alloc_space -top "$TMP/$runtime/after.pb.gz" 2>/dev/null)
    like "$runtime: what was allocated is there as well" "$objects" '^Type: alloc_space$'
done

leaks_are_found c "begin_session .*leak\\.c:3[0-9]" begin_session "$BUILD/bin/example_leak"
diff=$(difference "$TMP/c" -top)
within "c: 5000 sessions of 4 kB were kept" "$(kb_of "$diff" begin_session 1)" 17000 22500
unlike "c: the names were not" "$diff" 'copy_name$'
unlike "c: nothing of cprof's is shown" "$(pprof -top "$TMP/c/after.pb.gz" 2>/dev/null)" 'cprof|count_|dwarf|inflate'

# Over HTTP: serving turns it on. The text is read by pprof as well, and is not scaled a second time.
cat >"$TMP/serve.lua" <<'LUA'
local cprof = require "cprof"
cprof.set_mem_profile_rate(1)
local server = assert(cprof.serve { port = 0 })
local kept = {}
local function keep_it() for i = 1, 1000 do kept[i] = { i, i } end end
keep_it()
print("http://127.0.0.1:" .. server.port)
io.stdout:flush()
io.read()
LUA
serve bash -c "sleep 100 | lua5.4 $TMP/serve.lua"
for name in heap allocs; do
    raw=$(pprof -raw "$URL/debug/pprof/$name" 2>/dev/null)
    like "$name: has the four columns" "$raw" \
        'alloc_objects/count alloc_space/bytes(.dflt.)? inuse_objects/count inuse_space/bytes'
    like "$name: says its rate" "$raw" '^Period: 1$'
done
like "heap: shows what is in use" "$(pprof -top "$URL/debug/pprof/heap" 2>/dev/null)" '^Type: inuse_space$'
like "allocs: shows what was allocated" "$(pprof -top "$URL/debug/pprof/allocs" 2>/dev/null)" '^Type: alloc_space$'
curl -s "$URL/debug/pprof/heap?debug=1" >"$TMP/heap.txt"
like "the text is as Go's" "$(head -1 "$TMP/heap.txt")" \
    '^heap profile: [0-9]+: [0-9]+ \[[0-9]+: [0-9]+\] @ heapprofile$'
text=$(pprof -sample_index=inuse_objects -raw "$TMP/heap.txt" 2>/dev/null |
    awk '/^ *[0-9]+ +[0-9]+ +[0-9]+ +[0-9]+:/ { total += $3 } END { print total }')
within "and is read back as it is" "${text:-0}" 1000 3000

done_testing
