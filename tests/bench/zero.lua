-- SPDX-License-Identifier: MIT
--
-- What a script pays for cprof while nothing samples: the same work, alone and after cprof was required, whose
-- instructions callgrind counts. ROUNDS of two sizes are compared, so that what starting costs cancels out.
--
--     zero.lua ROUNDS [required | stopped]
--
-- "stopped" also starts and stops a recording and waits until the sampler's thread, which lingers for some seconds, is
-- gone.

local rounds, how = tonumber((...)), (select(2, ...))

if how then
    local cprof = require "cprof"
    if how == "stopped" then
        assert(cprof.start_cpu_profile()):stop()
        require("cprof_bench").sleep(7000)
    end
end
-- What was loaded is garbage in part; the collector starts from the same place each time.
collectgarbage()
collectgarbage()

local Counter = {}
Counter.__index = Counter

function Counter:add(n)
    self.sum = self.sum + n
    return self
end

-- What cprof could touch: calls, methods, coroutines, protected calls, memory. There is little garbage, since what a
-- collection costs depends on all that lives, cprof's module included.
local function fib(n)
    return n < 2 and n or fib(n - 1) + fib(n - 2)
end

local generator = coroutine.wrap(function()
    local i = 0
    while true do
        i = i + 1
        coroutine.yield(i)
    end
end)

local numbers, counter = {}, setmetatable({ sum = 0 }, Counter)

local function work(round)
    for i = 1, 100 do
        numbers[i] = (round * i * 7919) % 1009
    end
    table.sort(numbers)
    counter:add(fib(12)):add(generator())
    counter:add(select("#", pcall(fib, 5)))
    return #(("%d"):format(round % 100)) + numbers[50]
end

local sum = 0
for round = 1, rounds do
    sum = sum + work(round)
end
print(sum, counter.sum)
