-- SPDX-License-Identifier: MIT
--
-- What scripts/check finds out by reading the sources: lua5.4 check_source.lua CHECK FILE…, where CHECK is floors,
-- docs, bindings, heads, length or exports. Prints FILE:LINE: TEXT for each thing that is wrong, and then fails.

local wrong = 0

local function complain(file, line, ...)
    wrong = wrong + 1
    print(("%s:%d: %s"):format(file, line, string.format(...)))
end

local function lines_of(file)
    local lines = {}
    for line in io.lines(file) do
        lines[#lines + 1] = line
    end
    return lines
end

-- ---- floors: a file includes only from lower floors, and rooms on one floor are strangers ----

local FLOORS = {
    sigsafe = 0, base = 1, encode = 2, core = 3, report = 3,
    sampler = 4, luavm = 4, http = 5, lualib = 5, preload = 6,
}
local ROOF = 5 -- from here on: the public headers, base/ and the gate

local function may_include(room, target, header)
    if target == room then
        return true
    end
    if FLOORS[room] >= ROOF then
        return target == "base" or header == "sigsafe/gate.h"
    end
    return FLOORS[target] < FLOORS[room]
end

local function floors(file)
    local room = file:match("src/(%w+)/")
    if not room then
        return
    end
    if not FLOORS[room] then
        return complain(file, 1, "the room '%s' is on no floor; give it one in scripts/check_source.lua", room)
    end
    for number, line in ipairs(lines_of(file)) do
        local header = line:match('^%s*#%s*include%s+"([^"]+)"')
        local target = header and header:match("^(%w+)/")
        if header and header:find("%.c$") then
            complain(file, number, "includes a .c file")
        elseif header and header:find("..", 1, true) then
            complain(file, number, "includes by a relative path: %s", header)
        elseif target and not FLOORS[target] then
            complain(file, number, "includes from an unknown room: %s", header)
        elseif target and not may_include(room, target, header) then
            complain(file, number, "%s/ (floor %d) may not include %s (floor %d)", room, FLOORS[room], header,
                FLOORS[target])
        end
    end
end

-- ---- docs: public C functions and the Lua module's exports are described where they are declared ----

local function c_docs(file, lines)
    for number, line in ipairs(lines) do
        -- A run of declarations may share the comment above its first one; a blank line ends the run.
        if line:find("^CPROF_API") then
            local above = number - 1
            while above > 0 and lines[above]:find("^[%w_ ]") and not lines[above]:find("^ %*") do
                above = above - 1
            end
            if above == 0 or not lines[above]:find("%*/%s*$") then
                complain(file, number, "a public function without a comment above it")
            end
        end
    end
end

-- The LDoc block that ends just above line NUMBER, or "".
local function ldoc_above(lines, number)
    local first = number
    while first > 1 and lines[first - 1]:find("^%s*%-%-") do
        first = first - 1
    end
    local block = table.concat(lines, "\n", first, number - 1)
    return block:find("^%s*%-%-%-") and block or ""
end

-- Each function or field that a module exports has its block, and the block each parameter.
local function lua_docs(file, lines)
    for number, line in ipairs(lines) do
        local name, parameters = line:match("^function ([%w_]+[.:][%w_]+)%(([^)]*)%)")
        name = name or line:match("^([%w_]+%.[%w_]+) = ")
        local block = name and ldoc_above(lines, number)
        if block == "" then
            complain(file, number, "%s is exported without an LDoc block", name)
        end
        for parameter in (parameters or ""):gmatch("[%w_]+") do
            if block ~= "" and parameter:sub(1, 1) ~= "_" and
                not block:find("@t?param[^\n]*[ %]]" .. parameter .. "%f[^%w_]") then
                complain(file, number, "%s: the parameter '%s' is not documented", name, parameter)
            end
        end
    end
end

local function docs(file)
    local lines = lines_of(file)
    if file:find("%.h$") then
        c_docs(file, lines)
    elseif file:find("%.lua$") then
        lua_docs(file, lines)
    end
end

-- The functions that C gives to Lua (the luaL_Reg tables of src/lualib) and the LDoc blocks in lua/ that say @function,
-- each way: a binding without words, and words about nothing.
local function bindings(files)
    local documented, bound, mentioned = {}, {}, {}
    local function note(names, name, file, number)
        if name and not names[name] then
            names[name] = { file = file, line = number }
        end
    end
    for _, file in ipairs(files) do
        for number, line in ipairs(lines_of(file)) do
            if file:find("%.lua$") then
                note(documented, line:match("^%-%-%s*@function%s+[%w_.:]-([%w_]+)%s*$"), file, number)
                note(bound, line:match("^function [%w_]+[.:]([%w_]+)"), file, number)
                note(bound, line:match("^[%w_]+%.([%w_]+) = "), file, number)
            else
                for name in line:gmatch('{"([%w_]+)",%s*[%l_]+}') do
                    note(bound, name, file, number)
                end
                for name in line:gmatch('"([%w_]+)"%)') do -- lua_setfield, or a comparison in an __index
                    mentioned[name] = true
                end
            end
        end
    end
    for name, at in pairs(bound) do
        if at.file:find("%.c$") and name:sub(1, 2) ~= "__" and not documented[name] then
            complain(at.file, at.line, "the binding '%s' has no LDoc block (@function %s) in lua/", name, name)
        end
    end
    for name, at in pairs(documented) do
        if not bound[name] and not mentioned[name] then
            complain(at.file, at.line, "nothing is called '%s'", name)
        end
    end
end

-- ---- heads: each source says its license, and what lives in it ----

local function heads(file)
    local lines = lines_of(file)
    local at = 1
    while at <= 4 and not (lines[at] or ""):find("SPDX%-License%-Identifier: MIT", 1) do
        at = at + 1
    end
    if at > 4 then
        return complain(file, 1, "no 'SPDX-License-Identifier: MIT' in its first lines")
    end
    -- A .c file may leave the words to its header.
    local header = file:match("^(.*)%.c$")
    local handle = header and io.open(header .. ".h")
    if handle then
        return handle:close()
    end
    if file:find("%.cmake$") then
        return
    end
    local words = table.concat(lines, " ", at + 1, math.min(#lines, at + 8))
    if not words:find("%a+,? %a+,? %a+,? %a+") then
        complain(file, at, "no words below the license that say what lives here")
    end
end

-- ---- length: a file over 600 lines wants splitting; lines end within 120 columns ----

local function length(file)
    local lines = lines_of(file)
    if #lines > 600 then
        complain(file, #lines, "%d lines; at most 600", #lines)
    end
    for number, line in ipairs(lines) do
        if utf8.len(line) and utf8.len(line) > 120 then
            complain(file, number, "%d columns; at most 120", utf8.len(line))
        end
        if line:find("%s$") then
            complain(file, number, "blanks at the end")
        end
        if line:find("TODO", 1, true) and not file:find("^scripts/check") then
            complain(file, number, "a TODO")
        end
    end
end

-- ---- exports: prints the functions that the headers declare with CPROF_API, one a line ----

local function exports(file)
    local handle = assert(io.open(file))
    local text = handle:read("a"):gsub("/%*.-%*/", ""):gsub("#[^\n]*\n", "\n")
    handle:close()
    for name in text:gmatch("CPROF_API[^;(]-([%w_]+)%(") do
        print(name)
    end
end

local CHECKS = { floors = floors, docs = docs, heads = heads, length = length, exports = exports }

local name, files = arg[1], { table.unpack(arg, 2) }
if name == "bindings" then
    bindings(files)
else
    local check = assert(CHECKS[name], "which check?")
    for _, file in ipairs(files) do
        check(file)
    end
end
os.exit(wrong == 0)
