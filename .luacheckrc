-- SPDX-License-Identifier: MIT
std = "min" -- what 5.1 to 5.4 and LuaJIT share
max_line_length = 120
files["tests/spec"].std = "+busted"
files["scripts"].std = "lua54" -- run by lua5.4 only
