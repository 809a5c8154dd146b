-- SPDX-License-Identifier: MIT
--
-- The Lua side of `scripts/bench cpu`: answers a line of numbers to each line that it is asked. Times are CPU time in
-- nanoseconds; MS is how long to burn; FILE gets the profile that was recorded meanwhile at HZ.
--
--     total THREADS MS HZ FILE    what the process used by getrusage, while states on so many threads burn MS each
--     split KIND MS HZ FILE       the process; then each part as it measured itself:
--        lua                      alpha, beta and gamma in Lua
--        c                        alpha in Lua, burn_beta and burn_gamma in C, under Lua functions of their own
--        coroutine                alpha under a cached coroutine.resume, beta in coroutine.wrap, gamma in a coroutine
--                                 that a coroutine resumes
--        host                     alpha in a coroutine that C resumes; beta, which throws what it took through C
--        plain, tail              burn_beta half of the time: x = burn_beta(ns), or return burn_beta(ns); alpha
--        collect, step            30% in collectgarbage "collect" or "step"; alpha
--     cost LEVELS HZ UNITS        UNITS of work at 30 native frames and LEVELS of Lua: the process's time without and
--                                 with a profiler, and the samples it took (0 where it does not tell)
--     hooks COUNT INSTRUCTIONS HZ how often a hook with COUNT fires in so many instructions; HZ 0: not sampled
--
-- The argument names the profiler of `cost`: none is cprof, "jp" LuaJIT's own (jit.p), "hook" the count hook that a
-- profiler in Lua sets, here every so many instructions as the rate asks for. Or "interpreter" turns LuaJIT's compiler
-- off.

local cprof = require "cprof"
local bench = require "cprof_bench"

local thread_ns, process_ns, process_clock = bench.thread_ns, bench.process_ns, bench.process_clock
local burn_beta, burn_gamma = bench.burn_beta, bench.burn_gamma
local resume, yield = coroutine.resume, coroutine.yield

local option = ...
if option == "interpreter" then
    rawget(_G, "jit").off()
end

local MS = 1e6

local unpack = rawget(_G, "unpack") or rawget(table, "unpack")

-- Passes of a loop that take some 100 us, so that the clock takes little of the time.
local pass = 1000

-- Three functions that burn time in a loop of their own and return what it took by the thread's clock.

local function alpha(ns)
    local began, x, now = thread_ns(), 0
    repeat
        for i = 1, pass do
            x = x + i % 7
        end
        now = thread_ns()
    until now - began >= ns
    return now - began, x
end

local function beta(ns)
    local began, x, now = thread_ns(), 0
    repeat
        for i = 1, pass do
            x = x + i % 5
        end
        now = thread_ns()
    until now - began >= ns
    return now - began, x
end

local function gamma(ns)
    local began, x, now = thread_ns(), 0
    repeat
        for i = 1, pass do
            x = x + i % 3
        end
        now = thread_ns()
    until now - began >= ns
    return now - began, x
end

-- Warms up, which compiles, then doubles the passes until they take long enough.
local function calibrate()
    alpha(5 * MS)
    beta(5 * MS)
    gamma(5 * MS)
    repeat
        pass = pass * 2
        local took = math.huge
        for _ = 1, 5 do
            took = math.min(took, (alpha(0)))
        end
    until took > 100e3
end

-- What the process uses between the two is what the profile has to account for.

local recording, began_ns

local function start(hz)
    recording = assert(cprof.start_cpu_profile { hz = hz })
    began_ns = process_ns()
end

local function stop(file)
    local used = process_ns() - began_ns
    local data = recording:stop()
    if file then
        assert(data:write(file))
    end
    return used, data
end

local THREAD = [[
    require "cprof"
    local thread_ns, ns = require("cprof_bench").thread_ns, ...
    local function burn()
        local began, x = thread_ns(), 0
        repeat
            for i = 1, 20000 do
                x = x + i % 7
            end
        until thread_ns() - began >= ns
        return x
    end
    local x = burn()
]]

local function answer_total(threads, ms, hz, file)
    start(hz)
    bench.threads(threads, THREAD, ms * MS)
    local used = stop(file)
    return used
end

-- ---- Splits ----

local function call_beta(ns)
    local took = burn_beta(ns)
    return took
end

local function call_gamma(ns)
    local took = burn_gamma(ns)
    return took
end

local function tail_beta(ns)
    return burn_beta(ns)
end

-- Each turns work(ns) into one that runs in a coroutine which yields what it took.

local function resumed(work)
    local thread = coroutine.create(function(ns)
        while true do
            ns = yield((work(ns)))
        end
    end)
    return function(ns)
        local _, took = resume(thread, ns)
        return took
    end
end

local function wrapped(work)
    return coroutine.wrap(function(ns)
        while true do
            ns = yield((work(ns)))
        end
    end)
end

local function nested(work)
    return resumed(wrapped(work))
end

local function resume_alpha(ns)
    local took = bench.resume(alpha, ns)
    return took
end

local function throw_beta(ns)
    error((beta(ns)), 0)
end

-- Often, since it is the unwinding that could go wrong.
local function catch_beta(ns)
    local sum = 0
    for _ = 1, 10 do
        local _, took = pcall(bench.call_deep, 3, throw_beta, ns / 10)
        sum = sum + took
    end
    return sum
end

-- A heap on which one collection takes a few milliseconds.
local function make_heap(count)
    local heap = {}
    for i = 1, count do
        heap[i] = { i }
    end
    return heap
end

local function timed_collect(_)
    local began = thread_ns()
    collectgarbage("collect")
    return thread_ns() - began
end

-- A step that is large enough for a cycle: of small ones the calls themselves would take the time. 5.4.4 does next to
-- nothing in a step that has a size; without one it takes a basic step, here of 2^18 bytes.
local step_size = 100000
if _VERSION == "Lua 5.4" then
    step_size = 0
    collectgarbage("incremental", 0, 0, 18)
end

local function timed_steps(_)
    local began = thread_ns()
    local now
    repeat
        collectgarbage("step", step_size)
        now = thread_ns()
    until now - began > 2 * MS
    return now - began
end

-- The parts and the share of each in a turn. Of a collection's length nothing is known before; what follows takes
-- seven thirds of it.
local function parts_of(kind)
    if kind == "lua" then
        return { alpha, beta, gamma }, { 0.5, 0.35, 0.15 }
    elseif kind == "c" then
        return { alpha, call_beta, call_gamma }, { 0.4, 0.35, 0.25 }
    elseif kind == "coroutine" then
        return { resumed(alpha), wrapped(beta), nested(gamma) }, { 0.4, 0.35, 0.25 }
    elseif kind == "host" then
        return { resume_alpha, catch_beta, gamma }, { 0.4, 0.35, 0.25 }
    elseif kind == "plain" then
        return { call_beta, alpha }, { 0.5, 0.5 }
    elseif kind == "tail" then
        return { tail_beta, alpha }, { 0.5, 0.5 }
    elseif kind == "collect" then
        return { timed_collect, alpha }
    elseif kind == "step" then
        return { timed_steps, alpha }
    end
    error("split of what?")
end

-- Turns of 2 to 6 ms that keep step with nothing, until ms are over.
local function burn_parts(parts, shares, ms)
    local took, random = {}, 12345
    for i = 1, #parts do
        took[i] = 0
    end
    local ends = thread_ns() + ms * MS
    repeat
        random = (random * 16807) % 2147483647
        local turn, first = (2 + 4 * random / 2147483647) * MS, nil
        for i = 1, #parts do
            local part = parts[i](shares and turn * shares[i] or i > 1 and first * 7 / 3)
            first = first or part
            took[i] = took[i] + part
        end
    until thread_ns() >= ends
    return took
end

local function answer_split(kind, ms, hz, file)
    local parts, shares = parts_of(kind)
    local heap = not shares and make_heap(20000)
    start(hz)
    local took = burn_parts(parts, shares, ms)
    local used = stop(file)
    assert(not heap or #heap > 0) -- it lived until here
    return used, unpack(took)
end

-- ---- The cost of a sample ----

local function work(units)
    local x = 0
    for _ = 1, units do
        for i = 1, 10000 do
            x = x + i % 7
        end
    end
    return x
end

local function dig(levels, units)
    local x
    if levels > 1 then
        x = dig(levels - 1, units)
    else
        x = work(units)
    end
    return x
end

local native_here

local function count_native()
    native_here = bench.native_frames()
end

local function timed(native, levels, units)
    local began = process_clock()
    bench.call_deep(native, dig, levels, units)
    return process_clock() - began
end

-- Raw counts, each function: what jit.p was given to sample is the sum.
local function start_jp(hz)
    local p = require "jit.p"
    local name = os.tmpname()
    p.start("frm0i" .. math.floor(1000 / hz), name)
    return function()
        p.stop()
        local samples = 0
        for line in io.lines(name) do
            samples = samples + (tonumber(line:match("^%s*(%d+)")) or 0)
        end
        os.remove(name)
        return samples
    end
end

local per_ms -- instructions that the work makes in a millisecond

local function instructions_a_ms()
    local instructions, began = 0, process_clock()
    work(200)
    local took = process_clock() - began
    debug.sethook(function()
        instructions = instructions + 1000
    end, "", 1000)
    work(200)
    debug.sethook()
    return instructions / (took / MS)
end

local function start_hook(hz)
    local counts, samples = {}, 0
    debug.sethook(function()
        local stack = debug.traceback()
        counts[stack] = (counts[stack] or 0) + 1
        samples = samples + 1
    end, "", math.floor(per_ms * 1000 / hz))
    return function()
        debug.sethook()
        return samples
    end
end

local function start_cprof(hz)
    start(hz)
    return function()
        local _, data = stop()
        local samples = 0
        for sample in data:samples() do
            samples = samples + sample.values[1]
        end
        return samples
    end
end

local profilers = { jp = start_jp, hook = start_hook }
local native_levels, turn = nil, 0

-- Asked again and again; every second time the turn with the profiler comes first.
local function answer_cost(levels, hz, units)
    if not native_levels then
        bench.call_deep(1, count_native)
        native_levels = math.max(1, 30 - native_here + 1)
    end
    if option == "hook" and not per_ms then
        per_ms = instructions_a_ms()
    end
    turn = turn + 1
    local off
    if turn % 2 == 0 then
        off = timed(native_levels, levels, units)
    end
    local finish = (profilers[option] or start_cprof)(hz)
    local on = timed(native_levels, levels, units)
    local samples = finish()
    return off or timed(native_levels, levels, units), on, samples
end

-- ---- Hooks of the host ----

-- A pass of `for i = 1, n do x = x + i % 7 end` is three instructions in each PUC Lua and four in LuaJIT; it does not
-- matter, as long as it is the same with and without sampling.
local function answer_hooks(count, instructions, hz)
    local fired = 0
    if hz > 0 then
        start(hz)
    end
    debug.sethook(function()
        fired = fired + 1
    end, "", count)
    work(instructions / 30000)
    debug.sethook()
    if hz > 0 then
        stop()
    end
    return fired
end

-- ---- Questions ----

local function answer(question, arguments)
    local a, b, c, d = arguments[1], tonumber(arguments[2]), tonumber(arguments[3]), arguments[4]
    if question == "total" then
        return answer_total(tonumber(a), b, c, d)
    elseif question == "split" then
        return answer_split(a, b, c, d)
    elseif question == "cost" then
        return answer_cost(tonumber(a), b, c)
    elseif question == "hooks" then
        return answer_hooks(tonumber(a), b, c)
    end
    error("unknown question")
end

local function say(...)
    local words = {}
    for i = 1, select("#", ...) do
        words[i] = ("%.0f"):format((select(i, ...)))
    end
    io.write(table.concat(words, " "), "\n")
    io.flush()
end

calibrate()
for line in io.lines() do
    local question, rest = line:match("^(%a+)(.*)$")
    local arguments = {}
    for word in rest:gmatch("%S+") do
        arguments[#arguments + 1] = word
    end
    say(answer(question, arguments))
end
