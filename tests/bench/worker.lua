-- SPDX-License-Identifier: MIT
--
-- The Lua side of `scripts/bench custom`: answers a line of numbers to each line that it is asked.
--
--     add DEPTH ROUNDS     nanoseconds for an add with DEPTH Lua levels on the stack; removing is not in the figure
--     walk DEPTH ROUNDS    nanoseconds for lua_getstack and lua_getinfo("Sl") over the same levels
--     live COUNT STACKS    makes COUNT entries live: bytes of Lua and malloc, bytes of resident memory an entry

local cprof = require "cprof"
local bench = require "cprof_bench"

local KEYS = 1000

local profile = cprof.new_profile("bench.blobs")
local keys = {}
for i = 1, KEYS do
    keys[i] = {}
end

-- Calls bottom(...) at the end of `levels` calls of itself. Results are kept in locals, so that no call is a tail call.
local function dig(levels, bottom, a, b, c, d)
    if levels > 1 then
        local x, y = dig(levels - 1, bottom, a, b, c, d)
        return x, y
    end
    local x, y = bottom(a, b, c, d)
    return x, y
end

-- The two loops differ in the one call that is measured.
local function add_loop(rounds)
    local elapsed = 0
    for _ = 1, rounds do
        local began = bench.now()
        for i = 1, KEYS do
            profile:add(keys[i])
        end
        elapsed = elapsed + bench.now() - began
        for i = 1, KEYS do
            profile:remove(keys[i])
        end
    end
    return elapsed / (rounds * KEYS)
end

local function walk_loop(rounds)
    local elapsed = 0
    for _ = 1, rounds do
        local began = bench.now()
        for i = 1, KEYS do
            bench.walk(keys[i])
        end
        elapsed = elapsed + bench.now() - began
    end
    return elapsed / (rounds * KEYS)
end

local function depth_here()
    return (bench.walk())
end

local function used()
    collectgarbage()
    collectgarbage()
    local malloc, resident = bench.memory()
    -- LuaJIT has an allocator of its own; that of the others is malloc.
    return malloc + (rawget(_G, "jit") and collectgarbage("count") * 1024 or 0), resident
end

local function add_live(objects, first, step)
    for i = first, #objects, step do
        profile:add(objects[i])
    end
end

local function remove_live(objects, first, step, last)
    for i = first, last, step do
        profile:remove(objects[i])
    end
end

local kept = {} -- the keys of live entries

local function live(count, stacks)
    local objects = {}
    for i = 1, stacks do
        objects[i] = {}
    end
    for stack = 1, stacks do -- the stacks are known before memory is measured
        dig(2 + stack, add_live, objects, stack, stacks)
        dig(2 + stack, remove_live, objects, stack, stacks, stacks)
    end
    for i = 1, count do
        objects[i] = {}
    end
    kept[#kept + 1] = objects
    local used_before, resident_before = used()
    for stack = 1, stacks do
        dig(2 + stack, add_live, objects, stack, stacks)
    end
    local used_after, resident_after = used()
    return (used_after - used_before) / count, (resident_after - resident_before) / count
end

local function answer(question, a, b)
    if question == "live" then
        return live(a, b)
    end
    -- depth_here stands where the loop will: dug one level, it says how deep that is.
    local base = dig(1, depth_here)
    local x = dig(a - base + 1, question == "add" and add_loop or walk_loop, b)
    return x
end

for line in io.lines() do
    local question, a, b = line:match("^(%a+) (%d+) (%d+)$")
    local x, y = answer(question, tonumber(a), tonumber(b))
    io.write(("%.2f %.2f\n"):format(x, y or 0))
    io.flush()
end
