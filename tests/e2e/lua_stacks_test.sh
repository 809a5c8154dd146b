# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Lua and C frames on one stack, in the right order and without the VM's own, on each runtime. `go tool pprof
# -traces` reads the profile; each stack is cut behind the script's main chunk, where the interpreter's frames begin.
. "$(dirname "$0")/lib.sh"

# Reduces `pprof -traces` to "CASE: leaf < … < main chunk".
reduce() {
    awk '
        function flush() { if (stack != "") { print (label ? label ": " : "") stack }; stack = ""; label = "" }
        /^-+\+/ { flush(); next }
        /^ +case: / { sub(/^ +case: */, ""); label = $0; next }
        /^ +([0-9]+ +)?[^ ]/ && started {
            sub(/^ +([0-9]+ +)?/, ""); sub(/ \(inline\)$/, "")
            stack = stack (stack == "" ? "" : " < ") $0
        }
        /^Type:/ { started = 1 }
        END { flush() }' | sed -E 's/(.*< lua_stacks\.lua \(main chunk\)) < .*/\1/' | LC_ALL=C sort
}

stacks() {
    local file=$TMP/$1.pb.gz name
    LUA_CPATH="$BUILD/tests/lua/5.1/?.so;$LUA_CPATH" LUA_CPATH_5_2="$BUILD/tests/lua/5.2/?.so;$LUA_CPATH_5_2" \
        LUA_CPATH_5_3="$BUILD/tests/lua/5.3/?.so;$LUA_CPATH_5_3" \
        LUA_CPATH_5_4="$BUILD/tests/lua/5.4/?.so;$LUA_CPATH_5_4" \
        "$1" "$ROOT/tests/e2e/lua_stacks.lua" "$file" 2>&1 || return
    pprof -traces "$file" 2>/dev/null >"$TMP/$1.traces"
    reduce <"$TMP/$1.traces"
    for name in called skipped coroutine sort resumed; do
        pprof -traces "$file.$name" 2>/dev/null >"$TMP/$1.$name.traces"
        echo "C, $name: $(reduce <"$TMP/$1.$name.traces")"
    done
}

for runtime in lua5.1 lua5.2 lua5.3 lua5.4 luajit; do
    golden=$ROOT/tests/golden/lua_stacks.$runtime.txt
    got=$(stacks "$runtime")
    [ -z "${UPDATE_GOLDEN:-}" ] || printf '%s\n' "$got" >"$golden"
    is "the stacks of $runtime are those of $(basename "$golden")" "$got" "$(cat "$golden")"
    unlike "no internals of the VM of $runtime" "$(cat "$TMP/$runtime".*traces)" 'luaV_|luaD_|luaT_|lj_|lua_p?call'
done
done_testing
