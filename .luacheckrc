-- SPDX-License-Identifier: MIT
std = "min" -- what 5.1 to 5.4 and LuaJIT share
max_line_length = 120
files["tests/spec"].std = "+busted"
files["examples/c-host/script.lua"].globals = { "blobs" }
files["examples/c-host/script.lua"].read_globals = { "open_blob" }
files["scripts"].std = "lua54" -- run by lua5.4 only
