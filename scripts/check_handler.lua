-- SPDX-License-Identifier: MIT
--
-- What scripts/check handler finds out from `objdump -tdr` of object files, read from standard input:
-- lua5.4 check_handler.lua ALLOWED ROOT…, where ALLOWED is a file with one "name  reason" a line, and each ROOT a
-- function by which a signal handler is entered, or FILE:FUNCTION where that is static; one with a "-" before it is
-- not followed (a handler hands on its address, and it is called elsewhere). Follows every call and every
-- address taken, through all objects, and prints FILE:1: TEXT for what ends in a function that is neither ours nor
-- allowed, with the way that leads there. Calls through pointers are not followed: what they can reach are roots.

local functions = {}  -- "object:name" -> {name, object, edges = {{object, name}…}}
local globals = {}    -- name -> "object:name"
local data = {}       -- "object:name" of data of ours, and name where it is global
local sections = {}   -- object -> section -> list of {start, name}, in order

-- ---- Reading ----

local object, section, current

local function open_object(path)
    object = path:gsub("^.*/src/", "src/"):gsub("%.o$", "")
    sections[object] = {}
    section, current = nil, nil
end

local function read_symbol(line)
    local address, flags, where, name = line:match("^(%x+) (.......) (%S+)%s+%x+%s+(.+)$")
    if not address then
        return
    end
    name = name:gsub("^%.hidden ", "")
    local kind, key = flags:sub(7, 7), object .. ":" .. name
    if where == "*UND*" then
        return
    elseif kind == "F" or (where:find("^%.text") and kind == " " and flags:sub(6, 6) ~= "d") then
        functions[key] = functions[key] or {name = name, object = object, edges = {}}
        local list = sections[object][where] or {}
        sections[object][where] = list
        list[#list + 1] = {start = tonumber(address, 16), name = name}
        if flags:sub(1, 1) ~= "l" then
            globals[name] = key
        end
    else
        data[key] = true
        if flags:sub(1, 1) ~= "l" then
            data[name] = true
        end
    end
end

local function function_at(where, offset)
    local found
    for _, entry in ipairs(sections[object][where] or {}) do
        if entry.start <= offset and (not found or entry.start > found.start) then
            found = entry
        end
    end
    return found and found.name
end

local function add_edge(name)
    if current then
        current.edges[#current.edges + 1] = {object = object, name = name}
    end
end

-- "name-0x4", ".text+0x1fc": what a relocation refers to.
local function read_relocation(kind, target)
    local name, sign, addend = target:match("^(.-)([+-])0x(%x+)$")
    name = name or target
    if kind:find("TLSGD") or kind:find("TLSLD") then
        return add_edge("__tls_get_addr")
    elseif kind:find("TPOFF") then
        return
    elseif name:find("^%.text") then
        local offset = addend and tonumber(addend, 16) * (sign == "-" and -1 or 1) or 0
        name = function_at(name, offset + 4)
        return name and add_edge(name)
    elseif not name:find("^%.") then
        add_edge(name)
    end
end

local function read_line(line)
    local path = line:match("^(%S+):%s+file format")
    if path then
        return open_object(path)
    end
    local where = line:match("^Disassembly of section (%S+):")
    if where then
        section = where
        return
    end
    if not section then
        return read_symbol(line)
    end
    local name = line:match("^%x+ <([^>]+)>:")
    if name then
        current = functions[object .. ":" .. name]
        return
    end
    local kind, target = line:match("^%s+%x+: (R_X86_64_%S+)%s+(%S+)")
    if kind then
        return read_relocation(kind, target)
    end
    -- Inside one section the assembler leaves no relocation.
    local callee = line:match("%s[cj]%a+%s+%x+ <([^>+]+)>")
    if callee and current and callee ~= current.name then
        add_edge(callee)
    end
end

for line in io.lines() do
    read_line(line)
end

-- ---- Following ----

local allowed = {}
for line in io.lines(arg[1]) do
    local name = line:match("^([%w_]+)%s+%S")
    if name then
        allowed[name] = true
    end
end

local wrong = 0
local seen, queue = {}, {}

local function complain(file, ...)
    wrong = wrong + 1
    print(("%s:1: %s"):format(file, string.format(...)))
end

local function visit(key, from)
    if not seen[key] then
        seen[key] = {from = from}
        queue[#queue + 1] = key
    end
end

for i = 2, #arg do
    local file, name = arg[i]:match("^(.-):(.+)$")
    local key = file and "src/" .. file .. ":" .. name or globals[arg[i]]
    if arg[i]:sub(1, 1) == "-" then
        seen[globals[arg[i]:sub(2)] or ""] = {}
    elseif key and functions[key] then
        visit(key)
    else
        complain("scripts/check", "no function '%s' for the check of handlers to begin at", arg[i])
    end
end

local function way_to(key)
    local names = {}
    while key do
        table.insert(names, 1, functions[key].name)
        key = seen[key].from
    end
    return table.concat(names, ", ")
end

local told = {}
while #queue > 0 do
    local key = table.remove(queue)
    local place = functions[key]
    for _, edge in ipairs(place.edges) do
        local own = edge.object .. ":" .. edge.name
        local target = functions[own] and own or globals[edge.name]
        if target then
            visit(target, key)
        elseif not (data[own] or data[edge.name] or allowed[edge.name] or told[edge.name]) then
            told[edge.name] = true
            complain(place.object, "calls %s, which is not known to be safe in a signal handler (%s)", edge.name,
                way_to(key))
        end
    end
end

os.exit(wrong == 0)
