# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# The examples do what their pages say: 800 blobs are open, and the readers of the profile see who opened them.
. "$(dirname "$0")/lib.sh"

lua_script_shows_its_openers() {
    local runtime=$1 url top traces
    serve "$runtime" "$ROOT/examples/lua-script/main.lua" 0 || return
    url=$URL/debug/pprof/blobstore.Open
    top=$(pprof -top "$url" 2>/dev/null)
    like "$runtime: the type is the profile's name" "$top" '^Type: blobstore\.Open$'
    like "$runtime: 800 are open" "$top" '^Showing nodes accounting for 800, 100% of 800 total$'
    like "$runtime: all were opened by handle_task" "$top" '^ +800 +100% +100% +800 +100% +handle_task$'
    traces=$(pprof -traces "$url" 2>/dev/null)
    in_order "$runtime: the coroutine's frames are followed by its resumer's" "$traces" \
        ' 800 +handle_task$' ' main\.lua:[0-9]+$' ' coroutine\.resume$' ' (main|script)\.lua \(main chunk\)$' ' main$'
    unlike "$runtime: neither the library nor the VM is in the stack" "$traces" '^ .*(Open$|lua_|luaV_|luaD_|lj_|cprof)'
}

c_host_shows_both_kinds() {
    local url top traces
    serve "$BUILD/bin/example_c_host" 0 || return
    url=$URL/debug/pprof/blobstore.Open
    top=$(pprof -top "$url" 2>/dev/null)
    like "c-host: 800 are open" "$top" '^Showing nodes accounting for 800, 100% of 800 total$'
    traces=$(pprof -traces "$url" 2>/dev/null)
    in_order "c-host: 400 were opened by C threads" "$traces" ' 400 +upload( \(inline\))?$' ' upload_worker$'
    in_order "c-host: 300 by the script, which C called from main" "$traces" \
        ' 300 +lua_open_blob$' ' download$' ' (main|script)\.lua \(main chunk\)$' ' run( \(inline\))?$' ' main$'
    in_order "c-host: 100 in a coroutine" "$traces" \
        ' 100 +lua_open_blob$' ' stream$' ' script\.lua:[0-9]+$' ' coroutine\.wrap$' \
        ' (main|script)\.lua \(main chunk\)$' ' run( \(inline\))?$' ' main$'
    unlike "c-host: neither the library nor the VM is in the stack" "$traces" \
        'blobstore_open|luaV_|luaD_|lua_pcallk|lua_callk|cprof'
}

words_shows_its_time() {
    local runtime=$1 out top
    out=$("$runtime" "$ROOT/examples/lua-script/words.lua" "$TMP/words.pb.gz" 2>&1)
    like "$runtime: words.lua says where its time went" "$out" '^ *[0-9.]+%  string\.gmatch$'
    top=$(pprof -top "$TMP/words.pb.gz" 2>/dev/null)
    in_order "$runtime: and so does pprof, of Lua and C in one stack" "$top" '^Type: cpu$' ' count_words$'
    unlike "$runtime: the VM itself is not shown" "$top" 'luaV_|luaD_|lua_p?callk?$|lj_'
}

a_taken_port_is_said() {
    local out
    serve "$BUILD/bin/example_c_host" 0 || return
    out=$("$BUILD/bin/example_c_host" "${URL##*:}" 2>&1 </dev/null)
    is "c-host: a port in use ends the program" $? 1
    like "c-host: and is named" "$out" "(in use|EADDRINUSE).*|.*${URL##*:}"
    out=$(lua5.4 "$ROOT/examples/lua-script/main.lua" "${URL##*:}" 2>&1 </dev/null)
    is "lua-script: a port in use ends the program" $? 1
    like "lua-script: and is named" "$out" "${URL##*:}"
}

for runtime in lua5.1 lua5.2 lua5.3 lua5.4 luajit; do
    lua_script_shows_its_openers $runtime
    words_shows_its_time $runtime
done
c_host_shows_both_kinds
a_taken_port_is_said
done_testing
