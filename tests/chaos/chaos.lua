-- SPDX-License-Identifier: MIT
--
-- chaos.lua SEED ACTS: so many random acts of a script that is sampled: coroutines of all kinds and ends, errors across
-- C and Lua, deep recursion, the collector in all its modes, the host's own hooks, cprof's functions meanwhile. The
-- table `host` is what tests/chaos/states.c gives.
local seed, acts = ...
local cprof = require "cprof"
local host, jit = rawget(_G, "host"), rawget(_G, "jit")

-- Park and Miller's generator: math.random is the process's in some versions.
local function random(limit)
    seed = (seed * 16807 + 11) % 2147483647
    return seed % limit + 1
end

local function work(count)
    local sum = 0
    for i = 1, count do
        sum = sum + i % 7
    end
    return sum
end

-- The same, never compiled: compiled code has no hooks.
local function interpreted(count)
    local sum = 0
    for i = 1, count do
        sum = sum + i % 7
    end
    return sum
end
if jit then
    jit.off(interpreted)
end

local function fib(n)
    if n < 2 then
        return n
    end
    return fib(n - 1) + fib(n - 2)
end

local act = {}

local kept = {}

function act.coroutines()
    local wrapped = coroutine.wrap(function()
        for i = 1, 20 do
            coroutine.yield(work(300) + i)
        end
    end)
    for _ = 1, random(20) do
        wrapped()
    end
    kept[random(50)] = wrapped -- abandoned, now or later
end

local function nested(depth)
    if depth == 0 then
        return work(500)
    end
    local thread = coroutine.create(nested)
    local _, result = coroutine.resume(thread, depth - 1)
    return result
end

function act.nested()
    nested(random(30))
end

function act.errors_in_coroutines()
    local thread = coroutine.create(function()
        work(500)
        error({})
    end)
    coroutine.resume(thread)
    pcall(coroutine.wrap(function()
        host.fail("from C")
    end))
end

function act.errors_across()
    pcall(host.call, function()
        host.call(function()
            work(200)
            error("up")
        end)
    end)
    host.try(function()
        host.call(host.fail, {})
    end)
    pcall(table.sort, {3, 1, 2, 5, 4}, function()
        error("in a comparison")
    end)
end

local function deep(n)
    if n == 0 then
        return work(100)
    end
    return 1 + deep(n - 1)
end

function act.deep()
    deep(random(3000))
end

function act.overflow()
    local function forever(n)
        return 1 + forever(n + 1)
    end
    pcall(forever, 1)
end

local function tail(n)
    if n == 0 then
        return host.call(work, 200)
    end
    return tail(n - 1)
end

function act.tail_calls()
    tail(random(500))
end

function act.resumed_by_c()
    host.resume(function()
        for _ = 1, 10 do
            work(300)
            if random(2) == 1 then
                host.resume(function()
                    coroutine.yield(fib(8))
                end, 1)
            end
            pcall(coroutine.yield)
        end
    end, random(10))
end

function act.in_c()
    host.spin(random(2000))
end

function act.returns_c()
    local function run()
        return host.spin(random(500))
    end
    run()
end

function act.strings()
    local text = string.rep("cprof ", 200)
    text = string.gsub(text, "%w+", function(word)
        return word .. #kept
    end)
    local list = {}
    for i = 1, 200 do
        list[i] = string.format("%d %s", i, string.sub(text, i, i + 5))
    end
    table.sort(list, function(a, b)
        return a > b
    end)
    return table.concat(list)
end

function act.metamethods()
    local type = {}
    type.__index = function(_, key)
        return work(50) + #key
    end
    type.__add = function()
        return setmetatable({}, type)
    end
    type.__lt = function()
        return work(20) > 0
    end
    local a, b = setmetatable({}, type), setmetatable({}, type)
    local sum = a + b
    return sum.field, a < b, a.other
end

local function finalized(f)
    if newproxy then -- luacheck: ignore 113
        getmetatable(newproxy(true)).__gc = f -- luacheck: ignore 113
    else
        setmetatable({}, {__gc = f})
    end
end

function act.finalizers()
    for i = 1, 20 do
        finalized(function()
            work(100)
            if i % 7 == 0 and _VERSION ~= "Lua 5.1" and _VERSION ~= "Lua 5.2" and _VERSION ~= "Lua 5.3" then
                error("in a finalizer") -- a warning in 5.4, an error of whoever allocates before
            end
        end)
    end
end

function act.collect()
    collectgarbage()
end

function act.collector()
    if _VERSION == "Lua 5.4" and random(2) == 1 then
        collectgarbage("generational")
    elseif _VERSION == "Lua 5.4" then
        collectgarbage("incremental", 50 + random(300), 50 + random(400), random(14))
    else
        collectgarbage("setpause", 50 + random(300))
        collectgarbage("setstepmul", 100 + random(400))
    end
    for _ = 1, 20 do
        collectgarbage("step", random(100))
    end
end

function act.garbage()
    for i = 1, 2000 do
        kept[random(50)] = {i, tostring(i), {}}
    end
end

-- A host's watchdog keeps coming while it is sampled.
function act.hook()
    local came = 0
    local function watchdog()
        came = came + 1
    end
    debug.sethook(watchdog, "", 1000)
    interpreted(100000)
    debug.sethook()
    if came == 0 then
        error("the count hook never came")
    end
end

-- Hooks that raise, in a thread of their own, which may end by it. (LuaJIT has one hook for all threads.)
function act.hooks()
    local masks, thread = {"c", "r", "l", "crl", ""}, nil
    local mask, count = masks[random(5)], random(2) == 1 and random(1000) or 0
    thread = coroutine.create(function()
        debug.sethook(function()
            if coroutine.running() == thread and random(300) == 1 then
                error("a hook's error")
            end
        end, mask, count)
        fib(6)
        pcall(nested, 3)
        fib(6)
        debug.sethook()
        work(1000)
    end)
    coroutine.resume(thread)
    debug.sethook()
end

function act.record()
    local recording = assert(cprof.start_cpu_profile{hz = random(4000)})
    fib(random(12))
    if random(3) > 1 then
        local data = recording:stop()
        assert(data == recording:stop())
    end
    pcall(cprof.start_cpu_profile, {hz = 0})
    pcall(cprof.start_cpu_profile, {nonsense = true})
end

local blobs = cprof.lookup("chaos.blobs") or cprof.new_profile("chaos.blobs")

function act.profile()
    for _ = 1, 100 do
        local key = kept[random(50)] or act
        if not blobs:remove(key) then
            blobs:add(key)
        end
    end
end

local names = {}
for name in pairs(act) do
    names[#names + 1] = name
end
table.sort(names)

-- Recordings run until their state ends, so there are not too many.
local records = 0
for _ = 1, acts do
    if host.over() then
        break
    end
    local name = names[random(#names)]
    if name == "record" then
        records = records + 1
    end
    if name ~= "record" or records < 8 then
        act[name]()
    end
end
