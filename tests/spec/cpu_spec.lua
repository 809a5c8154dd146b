-- SPDX-License-Identifier: MIT
--
-- cprof.start_cpu_profile: options, several recordings at once, outputs, handles, what the data holds. Times are CPU
-- times, and nothing is said of how exact they are but that all of it is there.

local cprof = require "cprof"

local function busy(seconds)
  local sum, clock = 0, os.clock() + seconds
  while os.clock() < clock do
    for i = 1, 1000 do
      sum = sum + i % 7
    end
  end
  return sum
end

local function start(options)
  return assert(cprof.start_cpu_profile(options))
end

-- The sum of column COLUMN, of the samples that PREDICATE takes (nil: of all).
local function sum(data, column, predicate)
  local total = 0
  for sample in data:samples() do
    if not predicate or predicate(sample) then
      total = total + sample.values[column]
    end
  end
  return total
end

-- Samples with the Lua function F, of this file, on their stack.
local function with_function(f)
  local about = debug.getinfo(f, "S")
  return function(sample)
    for _, frame in ipairs(sample.frames) do
      if (frame.file or ""):find("cpu_spec.lua", 1, true) and frame.start_line == about.linedefined then
        assert.is_true(frame.line > about.linedefined and frame.line < about.lastlinedefined)
        assert.is_true(#frame.name > 0)
        return true
      end
    end
    return false
  end
end

local function exists(path)
  local file = io.open(path, "rb")
  if file then
    file:close()
  end
  return file ~= nil
end

describe("start_cpu_profile", function()
  it("refuses what it does not know, and running recordings go on", function()
    local recording = start()
    local odd = {
      { hz = 0 }, { hz = -1 }, { hz = 4001 }, { hz = 1.5 }, { hz = "fast" }, { hz = 0 / 0 }, { mode = "cpus" },
      { mode = 1 }, { engine = "itimer" }, { engine = "perf", mode = "wall" }, { output = "" }, { output = 1 },
      { output = "a\0b" }, { rate = 100 }, { 100 },
    }
    for _, options in ipairs(odd) do
      local ok, text = pcall(function() cprof.start_cpu_profile(options) end)
      assert.is_false(ok)
      assert.matches("bad argument #1 to 'start_cpu_profile'", text)
    end
    assert.is_false((pcall(cprof.start_cpu_profile, 100)))
    local none, text, code = cprof.start_cpu_profile { output = "/nowhere/at/all/cpu.pb.gz" }
    assert.is_nil(none)
    assert.matches("/nowhere/at/all", text)
    assert.are.equal("ENOENT", code)
    busy(0.3)
    assert.is_true(sum(recording:stop(), 2) > 0.25e9)
  end)

  it("records what Lua functions use, with names, files and lines", function()
    local recording = start { hz = 1000 }
    busy(0.5)
    local data = recording:stop()
    assert.are.same({ { "samples", "count" }, { "cpu", "nanoseconds" } }, data.sample_types)
    assert.is_true(sum(data, 2) > 0.45e9)
    assert.is_true(sum(data, 2, with_function(busy)) > 0.2e9)
  end)

  it("records inside coroutines", function()
    local recording = start { hz = 1000 }
    local function inside()
      coroutine.yield(busy(0.25))
      busy(0.25)
    end
    local wrapped = coroutine.wrap(inside)
    wrapped()
    wrapped()
    local data = recording:stop()
    assert.is_true(sum(data, 2, with_function(inside)) > 0.2e9)
  end)

  it("runs any number at once, each with its own rate and time", function()
    local rates, recordings = { 100, 1000, 250 }, {}
    for i, hz in ipairs(rates) do
      recordings[i] = start { hz = hz }
      busy(0.1)
    end
    local data = {}
    for i = 1, 3 do
      busy(0.2)
      data[i] = recordings[i]:stop()
    end
    -- Begun after 0, 0.1 and 0.2 seconds, ended after 0.5, 0.7 and 0.9.
    assert.is_true(sum(data[1], 2) > 0.48e9)
    assert.is_true(sum(data[2], 2) > 0.58e9)
    assert.is_true(sum(data[3], 2) > 0.68e9)
    assert.is_true(sum(data[2], 1) > sum(data[3], 1))
    assert.is_true(sum(data[3], 1) > sum(data[1], 1))
  end)

  it("has each engine, or says why not", function()
    for _, name in ipairs { "perf", "timer", "monotonic" } do
      local recording, text, code = cprof.start_cpu_profile { hz = 200, engine = name }
      if recording then
        assert.are.equal(name, recording.engine)
        assert.matches(name, tostring(recording))
        busy(0.3)
        assert.is_true(sum(recording:stop(), 2) > 0.25e9)
      else
        assert.matches(name, text)
        assert.is_string(code)
      end
    end
  end)

  it("sees what waits in mode wall", function()
    local recording = start { hz = 100, mode = "wall" }
    local beside = start { hz = 100 }
    local function wait()
      local pipe = io.popen("sleep 1")
      pipe:read("*a")
      pipe:close()
    end
    wait()
    local data = recording:stop()
    assert.are.same({ "wall", "nanoseconds" }, data.sample_types[2])
    assert.is_true(sum(data, 2) > 0.5e9)
    assert.is_true(sum(data, 2, with_function(wait)) > 0.5e9)
    assert.is_true(sum(beside:stop(), 2) < 0.5e9)
  end)
end)

describe("a recording", function()
  it("returns the same data when it is stopped again", function()
    local recording = start()
    local data = recording:stop()
    assert.are.equal(data, recording:stop())
    assert.matches("stopped", tostring(recording))
  end)

  it("goes on where its handle was dropped", function()
    local path = os.tmpname()
    os.remove(path)
    local recording = start { output = path }
    local weak = setmetatable({ recording }, { __mode = "v" })
    recording = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    assert.is_truthy(weak[1])
    busy(0.05)
    weak[1]:stop()
    assert.is_true(exists(path))
    os.remove(path)
  end)

  it("writes its output when it is stopped, and once", function()
    local path = os.tmpname()
    os.remove(path)
    local recording = start { output = path, hz = 1000 }
    busy(0.05)
    assert.is_false(exists(path))
    recording:stop()
    assert.is_true(exists(path))
    os.remove(path)
    recording:stop()
    assert.is_false(exists(path))
  end)

  it("says where its output cannot be written any more", function()
    local folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir " .. folder))
    local recording = start { output = folder .. "/cpu.pb.gz" }
    assert(os.execute("rmdir " .. folder))
    local none, text, code = recording:stop()
    assert.is_nil(none)
    assert.matches(folder, text, 1, true)
    assert.are.equal("ENOENT", code)
    assert.is_truthy(recording:stop()) -- the data is there nevertheless
  end)

  if _VERSION == "Lua 5.4" then
    it("is stopped by <close>", function()
      local path = os.tmpname()
      os.remove(path)
      local chunk = assert(load([[
        local start, path, busy = ...
        local recording <close> = start { output = path }
        busy(0.05)
      ]]))
      chunk(start, path, busy)
      assert.is_true(exists(path))
      os.remove(path)
    end)
  end

  it("credits nothing to a function that what ran has made way for", function()
    local function last(x)
      return x
    end
    local body = "local last = ... return function(x) local y = x "
      .. ("y = y * 1.0000001 + x "):rep(200) .. "return last(y) end"
    local straight = assert((rawget(_G, "loadstring") or load)(body))(last)
    local recording, clock = start { hz = 1000 }, os.clock() + 0.3
    while os.clock() < clock do
      for i = 1, 1000 do
        straight(i)
      end
    end
    local data = recording:stop()
    assert.is_true(sum(data, 2) > 2e8)
    local line = debug.getinfo(last, "S").linedefined
    local credited = sum(data, 2, function(sample)
      local frame = sample.frames[1]
      return frame ~= nil and (frame.file or ""):find("cpu_spec.lua", 1, true) and frame.start_line == line
    end)
    assert.is_true(credited < sum(data, 2) / 5)
  end)

  it("leaves to the program the hooks that it saves and sets again", function()
    local function hook() end
    local recording, clock, others = start { hz = 4000 }, os.clock() + 0.5, 0
    debug.sethook(hook, "", 100000)
    while os.clock() < clock do
      string.rep("x", 20000)
      local found, mask, count = debug.gethook()
      others = others + (found ~= hook and 1 or 0)
      debug.sethook()
      debug.sethook(hook, mask, count)
    end
    local count = select(3, debug.gethook())
    debug.sethook()
    recording:stop()
    assert.are.equal(0, others)
    assert.are.equal(100000, count)
  end)

  it("is no recording where something else is given", function()
    local recording = start()
    assert.is_false((pcall(recording.stop)))
    assert.is_false((pcall(recording.stop, {})))
    assert.is_nil(recording.nothing)
    recording:stop()
  end)
end)
