# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# The scripts keep what their --help says, from any folder and without a home; the checks find what they are there to
# find, and the counts of scripts/test count.
. "$(dirname "$0")/lib.sh"

# As a cron job or a bare container would call them.
bare() {
    (cd / && env -i PATH=/usr/local/bin:/usr/bin:/bin CPROF_BUILD="$BUILD" "$@")
}

helps_and_refuses() {
    local script out
    for script in setup build env demo test bench check format; do
        out=$(bare "$ROOT/scripts/$script" --help 2>&1)
        is "$script --help succeeds" $? 0
        like "$script --help shows the usage" "$out" "^Usage: scripts/$script"
        like "$script --help shows the exit codes" "$out" '^Exit codes: 0 |^Exit codes: COMMAND'
        # No command may be called so; the others know no such argument.
        out=$(bare "$ROOT/scripts/$script" --no-such-thing 2>&1)
        like "$script says no to misuse" "$?" '^(2|127)$'
    done
    out=$(bare "$ROOT/scripts/build" nopreset 2>&1)
    is "build refuses an unknown preset" "$? $out" "2 build: no preset 'nopreset' (try --help)"
}

through_a_link() {
    ln -s "$ROOT/scripts/env" "$TMP/cprof-env"
    is "a link to a script finds the repository" "$(bare "$TMP/cprof-env" printenv LD_LIBRARY_PATH)" "$BUILD/lib"
}

env_gives_each_lua_its_own() {
    local runtime version
    for runtime in lua5.1 lua5.2 lua5.3 lua5.4 luajit; do
        version=${runtime#lua}
        version=${version/jit/5.1}
        is "$runtime loads the module of its ABI" "$(bare "$ROOT/scripts/env" "$runtime" -e '
            local cprof = require "cprof"
            print(package.searchpath and package.searchpath("cprof.core", package.cpath) or
                (package.cpath:match("^[^;]*"):gsub("%?", "cprof/core")))')" "$BUILD/lib/lua/$version/cprof/core.so"
    done
    is "what the caller has set stays, after ours" \
        "$(LUA_PATH='/mine/?.lua;;' bare env LUA_PATH='/mine/?.lua;;' "$ROOT/scripts/env" printenv LUA_PATH_5_4)" \
        "$ROOT/lua/?.lua;$ROOT/lua/?/init.lua;/mine/?.lua;;"
    is "and by the version's own name first" \
        "$(bare env LUA_PATH=/a LUA_PATH_5_3=/b "$ROOT/scripts/env" printenv LUA_PATH_5_3)" \
        "$ROOT/lua/?.lua;$ROOT/lua/?/init.lua;/b"
    bare "$ROOT/scripts/env" sh -c 'exit 7'
    is "the command's exit code is env's" $? 7
}

# found WHAT CHECK PATH TEXT WANTED: the check says WANTED (nothing where it is "") of a file PATH that holds TEXT.
found() {
    local file=$TMP/$3 out
    mkdir -p "${file%/*}"
    printf '%s\n' "$4" >"$file"
    out=$(cd "$TMP" && lua5.4 "$ROOT/scripts/check_source.lua" "$2" "$3")
    is "check: $1" "$out" "$5"
}

checks_find() {
    found "a lower floor may be included" floors src/core/a.c '#include "base/map.h"' ''
    found "a higher floor may not" floors src/base/a.c '#include "core/code.h"' \
        'src/base/a.c:1: base/ (floor 1) may not include core/code.h (floor 3)'
    found "nor a stranger on the same floor" floors src/core/b.c '#include "report/graph.h"' \
        'src/core/b.c:1: core/ (floor 3) may not include report/graph.h (floor 3)'
    found "above the roof only base/ and the gate are seen" floors src/http/a.c \
        $'#include "base/error.h"\n#include "sigsafe/gate.h"\n#include "sigsafe/walk.h"' \
        'src/http/a.c:3: http/ (floor 5) may not include sigsafe/walk.h (floor 0)'
    found "a source is not included" floors src/core/c.c '#include "core/a.c"' 'src/core/c.c:1: includes a .c file'
    found "a public function has words" docs src/cprof.h \
        $'/* Words. */\nCPROF_API int with(void);\n\nCPROF_API int without(void);' \
        'src/cprof.h:4: a public function without a comment above it'
    found "an export has a block" docs lua/a.lua $'--- Words.\ncprof.a = core.a\n\ncprof.b = core.b' \
        'lua/a.lua:4: cprof.b is exported without an LDoc block'
    found "and its parameters are in it" docs lua/b.lua \
        $'--- Words.\n-- @tparam string path where\nfunction cprof.c(path, mode)' \
        "lua/b.lua:3: cprof.c: the parameter 'mode' is not documented"
    found "a binding has a block" bindings src/lualib/a.c '    {"snapshot", profile_snapshot},' \
        "src/lualib/a.c:1: the binding 'snapshot' has no LDoc block (@function snapshot) in lua/"
    found "a block describes something" bindings lua/c.lua '-- @function Profile:vanish' \
        "lua/c.lua:1: nothing is called 'vanish'"
    found "a source names its license" heads src/a.c 'int a;' \
        "src/a.c:1: no 'SPDX-License-Identifier: MIT' in its first lines"
    found "long files are found" length src/b.c "$(seq 601)" 'src/b.c:601: 601 lines; at most 600'
    found "exports are listed" exports src/d.h \
        $'CPROF_API const char *\ncprof_one(int a);\n/* CPROF_API int no(void); */\nCPROF_API int cprof_two(void);' \
        $'cprof_one\ncprof_two'
}

snippets_are_found_out() {
    mkdir -p "$TMP/page"
    printf 'a = 1\nb = 2\nc = 3\n' >"$TMP/page/source.lua"
    # shellcheck disable=SC2016
    printf '<!-- from page/source.lua -->\n```lua\na = 1\n...\nc = 3\n```\n' >"$TMP/page/true.md"
    sed 's/c = 3/c = 4/' "$TMP/page/true.md" >"$TMP/page/false.md"
    is "check: a true snippet" "$(cd "$TMP" && lua5.4 "$ROOT/scripts/check_snippets.lua" page/true.md)" ''
    is "check: a false one" "$(cd "$TMP" && lua5.4 "$ROOT/scripts/check_snippets.lua" page/false.md)" \
        'page/false.md:5: not in page/source.lua: c = 4'
}

# How scripts/test counts, on logs of known content.
counts_are_true() {
    # A program with TAP lines of which one fails; one that says nothing and passes; one that crashes after a good test.
    printf '%s\n' '1: ok 1 - a' '1: not ok 2 - b' '1/3 Test #1: unit/a ....***Failed    0.01 sec' \
        '2: hello' '2/3 Test #2: unit/b ....   Passed    0.01 sec' \
        '3: ok 1 - c' '3/3 Test #3: unit/c ....***Exception: SegFault  0.01 sec' >"$TMP/ctest.log"
    is "ctest's log is counted by tests" "$("$ROOT/scripts/test" --count unit "$TMP/ctest.log")" '3 2'
    printf '+-\n3 successes / 1 failure / 2 errors / 0 pending : 0.1 seconds\n' >"$TMP/busted.log"
    is "busted's is" "$("$ROOT/scripts/test" --count luajit "$TMP/busted.log")" '3 3'
    printf 'ok - check a (0.1 s)\na.c:1: bad\nnot ok - check b (0.1 s)\n' >"$TMP/check.log"
    is "check's is" "$("$ROOT/scripts/test" --count check "$TMP/check.log")" '1 1'
}

# Under nohup, as a background job, without stdin: the programs that tests start see none of it.
tests_begin_afresh() {
    local out
    cat >"$TMP/begins.sh" <<'SH'
. "$ROOT/tests/e2e/lib.sh"
is "$1" "$(readlink /proc/self/fd/0) $(grep SigIgn /proc/self/status)" "/dev/null SigIgn:	0000000000000000"
done_testing
SH
    out=$(trap '' HUP INT QUIT USR1 PIPE; bash "$TMP/begins.sh" "nothing is inherited" 0<&-)
    is "a test begins afresh" "$out" $'ok 1 - nothing is inherited\n1..1'
}

helps_and_refuses
through_a_link
env_gives_each_lua_its_own
checks_find
snippets_are_found_out
counts_are_true
tests_begin_afresh
done_testing
