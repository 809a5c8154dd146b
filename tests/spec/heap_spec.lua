-- SPDX-License-Identifier: MIT
--
-- Heap profiles of what Lua allocates: exact at a rate of 1, unbiased at others, with the functions that asked.

local cprof = require "cprof"

local jit = rawget(_G, "jit")
local SIZE = 1000 -- of strings: the allocator is asked for some bytes more

-- Sums of the values of all samples of a profile whose stacks fit; PATTERN: in which function.
local function sums(name, pattern, label)
  local total = { 0, 0, 0, 0 }
  for sample in assert(cprof.lookup(name):snapshot()):samples() do
    local fits = not label or (sample.labels and sample.labels.lua_type == label)
    local found = false
    for _, frame in ipairs(sample.frames) do
      found = found or (frame.name:find(pattern, 1, true) ~= nil)
    end
    for i = 1, fits and found and 4 or 0 do
      total[i] = total[i] + sample.values[i]
    end
  end
  return total
end

-- Functions that allocate; each keeps what it makes in KEPT. Strings are made of numbers: none is there already.
local serial = 0

local function make_strings(kept, count, size)
  for i = 1, count do
    serial = serial + 1
    kept[i] = ("%099d"):format(serial):rep(math.ceil(size / 99)):sub(1, size)
  end
end

local function make_tables(kept, count)
  for i = 1, count do
    kept[i] = { i }
  end
end

local function make_closures(kept, count)
  for i = 1, count do
    kept[i] = function()
      return i
    end
  end
end

local function in_a_coroutine(f, ...)
  local result = coroutine.wrap(f)(...) -- no tail call: this function is to be seen
  return result
end

local function near(wanted, got, share)
  return math.abs(got - wanted) <= wanted * share
end

local function collect()
  collectgarbage()
  collectgarbage()
end

describe("a heap profile", function()
  after_each(function()
    cprof.set_native_heap(false)
    cprof.set_mem_profile_rate(0)
  end)

  it("is off until it is turned on, and says how that is done", function()
    for _, name in ipairs { "heap", "allocs" } do
      local profile = cprof.lookup(name)
      local data, message, code = profile:snapshot()
      assert.is_nil(data)
      assert.matches("set_mem_profile_rate%(524288%) turns it on", message)
      assert.equals("EOFF", code)
      local written, why = profile:write(os.tmpname())
      assert.is_nil(written)
      assert.equals(message, why)
      assert.equals(0, profile:count())
    end
    assert.equals(0, cprof.set_mem_profile_rate(4096))
    assert.equals(4096, cprof.mem_profile_rate())
    assert.equals(4096, cprof.set_mem_profile_rate(0))
    assert.is_false(cprof.set_native_heap(true))
    assert.equals(524288, cprof.mem_profile_rate())
    assert.is_true(cprof.set_native_heap(false))
  end)

  it("refuses what makes no sense", function()
    assert.has_error(function()
      cprof.set_mem_profile_rate(-1)
    end, "bad argument #1 to 'set_mem_profile_rate' (rate must be an integer from 0 to 2^40)")
    assert.has_error(function()
      cprof.set_mem_profile_rate(1.5)
    end, "bad argument #1 to 'set_mem_profile_rate' (rate must be an integer from 0 to 2^40)")
    assert.has_error(function()
      cprof.set_mem_profile_rate(2 ^ 41)
    end, "bad argument #1 to 'set_mem_profile_rate' (rate must be an integer from 0 to 2^40)")
    assert.has_error(function()
      cprof.set_mem_profile_rate "1"
    end)
    assert.has_error(function()
      cprof.set_native_heap(1)
    end)
    assert.has_error(function()
      cprof.lookup("heap"):add({}, 0)
    end)
    assert.has_error(function()
      cprof.lookup("heap"):record(1)
    end)
  end)

  it("shows who allocates, exactly at a rate of 1", function()
    local kept = {}
    collect()
    cprof.set_mem_profile_rate(1)
    make_strings(kept, 100, SIZE)
    local now = sums("heap", "make_strings")
    assert.is_true(now[3] >= 100 and now[4] >= 100 * SIZE)
    assert.is_true(now[4] <= now[2])
    kept = {} -- luacheck: ignore 311
    collect()
    local after = sums("heap", "make_strings")
    assert.is_true(after[4] < 10 * SIZE)
    assert.equals(now[2], after[2])
    assert.equals(after[2], sums("allocs", "make_strings")[2])
  end)

  it("follows tables as they grow", function()
    local kept = {}
    cprof.set_mem_profile_rate(1)
    local function grow()
      for i = 1, 10000 do
        kept[i] = i
      end
    end
    grow()
    local now = sums("heap", "grow")
    assert.equals(10000, #kept)
    -- The array part of 16384 slots of 8 or 16 bytes; what was there before it was given back.
    assert.is_true(now[4] >= 80000 and now[4] <= 300000)
    assert.is_true(now[2] > now[4])
  end)

  it("knows coroutines, closures and tables", function()
    local tables, closures = {}, {}
    cprof.set_mem_profile_rate(1)
    make_tables({}, 1) -- called by their names, so that they are known by them
    make_closures({}, 1)
    in_a_coroutine(make_tables, tables, 1000)
    in_a_coroutine(make_closures, closures, 1000)
    assert.is_true(sums("heap", "make_tables")[3] >= 1000)
    assert.is_true(sums("heap", "make_closures")[3] >= 1000)
    assert.is_true(sums("heap", "in_a_coroutine")[3] >= 2000)
    if _VERSION ~= "Lua 5.1" then
      assert.is_true(near(1000, sums("heap", "make_tables", "table")[3], 0.01))
      assert.is_true(near(1000, sums("heap", "make_closures", "function")[3], 0.01))
    end
  end)

  it("stands for all, at other rates", function()
    local kept = {}
    collect()
    cprof.set_mem_profile_rate(16384)
    make_strings(kept, 30000, SIZE)
    collect()
    -- 1,800 samples: 6 sigma are 14%.
    local now = sums("heap", "make_strings")
    assert.is_true(near(30000 * SIZE, now[4], 0.2))
    assert.is_true(now[2] >= now[4])
  end)

  it("is exact from the moment that the rate becomes 1", function()
    local kept = {}
    cprof.set_mem_profile_rate(1e9)
    make_tables(kept, 1000)
    cprof.set_mem_profile_rate(1)
    make_tables(kept, 1000)
    assert.is_true(sums("heap", "make_tables")[3] >= 1000)
  end)

  it("leaves compiled code compiled", function()
    if not jit or not jit.status() then
      return
    end
    local util = require "jit.util"
    local function traces()
      local count = 0
      while util.traceinfo(count + 1) do
        count = count + 1
      end
      return count
    end
    local kept = {}
    cprof.set_mem_profile_rate(65536)
    for _ = 1, 20 do
      make_tables(kept, 10000)
    end
    local before = traces()
    assert.is_true(before > 0)
    for _ = 1, 20 do
      make_tables(kept, 10000)
    end
    assert.is_true(traces() >= before)
    assert.is_true(near(40 * 10000 * 40, sums("allocs", "make_tables")[2], 1.5))
  end)

  it("forgets when it is turned off, and gives the allocator back", function()
    local kept = {}
    cprof.set_mem_profile_rate(1)
    make_tables(kept, 100)
    cprof.set_mem_profile_rate(0)
    make_tables(kept, 100)
    cprof.set_mem_profile_rate(1)
    assert.equals(0, sums("heap", "make_tables")[3])
  end)

  it("counts once what malloc gives to Lua", function()
    local kept = {}
    collect()
    cprof.set_mem_profile_rate(1)
    cprof.set_native_heap(true)
    make_strings(kept, 200, SIZE)
    collect()
    local now = sums("heap", "make_strings")
    assert.is_true(now[4] >= 200 * SIZE and now[4] < 300 * SIZE)
  end)
end)
