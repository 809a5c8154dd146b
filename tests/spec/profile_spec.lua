-- SPDX-License-Identifier: MIT
--
-- Profiles: names, keys, counts, skip, what misuse raises.

local cprof = require "cprof"

local serial = 0

-- A profile with a name of its own.
local function fresh(options)
  serial = serial + 1
  return cprof.new_profile("profile_spec." .. serial, options)
end

-- The frames' names of the only sample, leaf first.
local function names(profile)
  local list = {}
  for sample in profile:snapshot():samples() do
    for _, frame in ipairs(sample.frames) do
      list[#list + 1] = frame.name
    end
  end
  return list
end

-- What a call raises.
local function message(f, ...)
  local ok, text = pcall(f, ...)
  assert.is_false(ok)
  return text
end

-- An object with FINALIZER, which on 5.1 only userdata have.
local function finalized(finalizer)
  local newproxy = rawget(_G, "newproxy")
  if newproxy then
    local proxy = newproxy(true)
    getmetatable(proxy).__gc = finalizer
    return proxy
  end
  return setmetatable({}, { __gc = finalizer })
end

describe("new_profile", function()
  it("defines a profile that lookup finds", function()
    local profile = fresh()
    assert.are.equal(profile, cprof.lookup(profile:name()))
    assert.are.equal("cprof.profile: " .. profile:name(), tostring(profile))
    assert.are.equal(0, profile:count())
  end)

  it("refuses an empty, a built-in and a taken name", function()
    local profile = fresh()
    assert.matches("bad argument #1 to 'new_profile'", message(function() cprof.new_profile("") end))
    assert.matches("bad argument #1 to 'new_profile'", message(function() cprof.new_profile("heap") end))
    local text = message(function() cprof.new_profile(profile:name()) end)
    assert.matches("profile_spec.lua:%d+: bad argument #1 to 'new_profile'", text)
    assert.matches("defined already", text)
    assert.matches("zero", message(function() cprof.new_profile("a\0b") end))
    assert.matches("string", message(function() cprof.new_profile(1) end))
  end)

  it("refuses unknown options and odd sample types", function()
    local function with(options)
      return message(function() cprof.new_profile("profile_spec.odd", options) end)
    end
    assert.matches("unknown option 'sample_type'", with { sample_type = {} })
    assert.matches("option 'sample_types' must be", with { sample_types = {} })
    assert.matches("option 'sample_types' must be", with { sample_types = { "bytes" } })
    assert.matches("option 'sample_types' must be", with { sample_types = { { "bytes" } } })
    assert.matches("options have names", with { 1 })
    assert.matches("table expected", with(1))
    assert.is_nil(cprof.lookup("profile_spec.odd"))
  end)
end)

describe("profiles", function()
  it("lists all of them, sorted by name", function()
    local profile, found, last = fresh(), false, ""
    for _, each in ipairs(cprof.profiles()) do
      found = found or each == profile
      assert.is_true(last < each:name())
      last = each:name()
    end
    assert.is_true(found)
  end)

  it("does not find what is not there", function()
    assert.is_nil(cprof.lookup("no such profile"))
    assert.matches("bad argument #1 to 'lookup'", message(function() cprof.lookup() end))
  end)
end)

describe("add and remove", function()
  it("count what is live", function()
    local profile, a, b = fresh(), {}, {}
    profile:add(a)
    profile:add(b)
    assert.are.equal(2, profile:count())
    assert.is_true(profile:remove(a))
    assert.is_false(profile:remove(a))
    assert.are.equal(1, profile:count())
    profile:add(a)
    assert.are.equal(2, profile:count())
  end)

  it("take any value that can index a table", function()
    local profile = fresh()
    local thread = coroutine.create(function() end)
    local keys = { {}, print, thread, io.stdout, "text", 1, 1.5, true, false, function() end }
    for _, key in ipairs(keys) do
      profile:add(key)
    end
    assert.are.equal(#keys, profile:count())
    for _, key in ipairs(keys) do
      assert.is_true(profile:remove(key))
    end
    assert.are.equal(0, profile:count())
  end)

  it("compare strings and numbers by value", function()
    local profile = fresh()
    profile:add("a" .. "b")
    profile:add(2)
    assert.matches("key has an entry", message(function() profile:add("ab") end))
    assert.matches("key has an entry", message(function() profile:add(4 / 2) end))
    assert.is_false(profile:remove("2"))
    assert.is_true(profile:remove(("ab"):lower()))
    assert.is_true(profile:remove(2.0))
  end)

  it("refuse nil, NaN and a key that is there, and change nothing", function()
    local profile, key = fresh(), {}
    profile:add(key)
    assert.matches("bad argument #1 to 'add' %(key is nil%)", message(function() profile:add(nil) end))
    assert.matches("bad argument #1 to 'add' %(key is nil%)", message(function() profile:add() end))
    assert.matches("bad argument #1 to 'add' %(key is NaN%)", message(function() profile:add(0 / 0) end))
    assert.matches("bad argument #1 to 'add' %(key has an entry", message(function() profile:add(key) end))
    assert.are.equal(1, profile:count())
    assert.is_false(profile:remove(0 / 0))
    assert.is_false(profile:remove(nil))
    assert.is_false(pcall(function() profile:remove() end))
    assert.is_false(pcall(profile.add, {}, key))
    assert.is_false(pcall(profile.add, io.stdout, key))
    assert.is_false(pcall(profile.add))
  end)

  it("refuse odd options, and change nothing", function()
    local profile = fresh()
    local function with(options)
      local text = message(function() profile:add({}, options) end)
      assert.matches("bad argument #2 to 'add'", text)
      return text
    end
    with(-1)
    with(1.5)
    with("2")
    with(true)
    assert.matches("unknown option 'skp'", with { skp = 1 })
    assert.matches("option 'skip'", with { skip = "1" })
    assert.matches("option 'skip'", with { skip = -1 })
    assert.matches("option 'labels'", with { labels = { a = "b" } })
    assert.matches("option 'values'", with { values = 1 })
    assert.matches("option 'values'", with { values = { "1" } })
    assert.matches("2 values for 1 column%)", with { values = { 1, 2 } })
    -- Values that have no column are not dropped in silence.
    assert.matches("option 'values' must be a list", with { values = { bytes = 1 } })
    assert.matches("option 'values' must be a list", with { values = { 1, bytes = 1 } })
    assert.matches("option 'values' must be a list", with { values = { [3] = 1 } })
    local set = cprof.labels { route = "/" }
    assert.matches("bad argument #3 to 'add' %(skip and other options go together in one table",
      message(function() profile:add(1, 2, { labels = set }) end))
    assert.are.equal(0, profile:count())
  end)

  it("leave out frames as skip says", function()
    local function stack(skip)
      local profile = fresh()
      local function inner() profile:add(1, skip) end
      local function outer() inner() end
      outer()
      return names(profile)
    end
    assert.are.same({ "inner", "outer" }, { stack()[1], stack()[2] })
    assert.are.equal("inner", stack(1)[1])
    assert.are.equal("outer", stack(2)[1])
    assert.are.equal("inner", stack(0)[2])
    assert.are.same({ "[skipped]" }, stack(10000))
  end)

  it("keep errors out: what is thrown after an add changes nothing", function()
    local profile = fresh()
    local thread = coroutine.create(function()
      profile:add(1)
      error("thrown")
    end)
    assert.is_false(coroutine.resume(thread))
    assert.is_false(pcall(function()
      profile:add(2)
      error("thrown")
    end))
    assert.are.equal(2, profile:count())
    profile:add(3)
    assert.are.equal(3, profile:count())
  end)
end)

describe("a key", function()
  local function collect()
    collectgarbage()
    collectgarbage()
  end

  it("is not kept alive by its entry, which stays", function()
    local profile = fresh()
    local weak = setmetatable({}, { __mode = "k" })
    do
      local key = {}
      weak[key] = true
      profile:add(key)
    end
    collect()
    assert.is_nil(next(weak))
    assert.are.equal(1, profile:count())
  end)

  it("at the address of a collected one is another key", function()
    local profile, adds = fresh(), 20000
    for _ = 1, adds do
      profile:add({})
    end
    assert.are.equal(adds, profile:count())
    local key = {}
    assert.is_false(profile:remove(key))
    profile:add(key)
    assert.is_true(profile:remove(key))
    assert.are.equal(adds, profile:count())
  end)

  it("can be removed by its own finalizer", function()
    local profile = fresh()
    for _ = 1, 100 do
      profile:add(finalized(function(self)
        profile:remove(self)
      end))
    end
    collect()
    assert.are.equal(0, profile:count())
  end)

  it("of cdata is compared by identity", function()
    local has_ffi, ffi = pcall(require, "ffi")
    if not has_ffi then
      return
    end
    local profile = fresh()
    local key = ffi.new("int64_t", 1)
    profile:add(key)
    profile:add(ffi.new("int64_t", 1))
    assert.is_true(profile:remove(key))
    assert.are.equal(1, profile:count())
  end)
end)

describe("values and labels", function()
  it("are those of the entry", function()
    local profile = fresh { sample_types = { { "blobs", "count" }, { "bytes", "bytes" } } }
    local set = cprof.labels { route = "/blob", size = 3 }
    profile:add(1, { values = { 2, 4096 }, labels = set })
    local data = profile:snapshot()
    assert.are.same({ { "blobs", "count" }, { "bytes", "bytes" } }, data.sample_types)
    for sample in data:samples() do
      assert.are.same({ 2, 4096 }, sample.values)
      assert.are.same({ route = "/blob", size = 3 }, sample.labels)
    end
    profile:remove(1)
    for _ in profile:snapshot():samples() do
      error("a sample is left")
    end
  end)

  it("make equal sets equal", function()
    local set = cprof.labels { a = "1", b = 2 }
    assert.are.equal(set, cprof.labels { b = 2, a = "1" })
    assert.are_not.equal(set, cprof.labels { a = "1", b = "2" })
    assert.are.equal('cprof.labels{a = "1", b = 2}', tostring(set))
  end)

  it("may be compared with anything", function()
    local set = cprof.labels { a = "1" }
    for _, other in ipairs { io.stdout, fresh(), 1, "a", {} } do
      assert.is_false(set == other)
      assert.is_false(other == set)
    end
  end)

  it("are read from a table that a finalizer changes at the same time", function()
    for _ = 1, 2000 do
      local labels = { a = "1" }
      finalized(function()
        for i = 1, 50 do
          labels["label" .. i] = i
        end
      end)
      local made, set = pcall(cprof.labels, labels)
      assert.is_true(made and tostring(set) ~= "" or set:match("changed meanwhile") ~= nil)
    end
  end)

  it("refuse other types", function()
    assert.matches("bad argument #1 to 'labels'", message(function() cprof.labels() end))
    assert.matches("label 'a' must be", message(function() cprof.labels { a = true } end))
    assert.matches("label 'a' must be", message(function() cprof.labels { a = 1.5 } end))
    assert.matches("label keys are strings", message(function() cprof.labels { "a" } end))
    assert.matches("a label key is empty", message(function() cprof.labels { [""] = "a" } end))
  end)
end)

describe("record", function()
  it("adds up the values of a stack", function()
    local profile = fresh { sample_types = { { "reads", "count" }, { "bytes", "bytes" } } }
    for i = 1, 10 do
      profile:record(1, i)
    end
    local samples = 0
    for sample in profile:snapshot():samples() do
      samples = samples + 1
      assert.are.same({ 10, 55 }, sample.values)
    end
    assert.are.equal(1, samples)
    assert.are.equal(10, profile:count())
  end)

  it("keeps labels apart, and takes 1 for no value", function()
    local profile = fresh()
    for i = 1, 4 do
      profile:record { labels = cprof.labels { half = i % 2 } }
    end
    local samples = 0
    for sample in profile:snapshot():samples() do
      samples = samples + 1
      assert.are.same({ 2 }, sample.values)
    end
    assert.are.equal(2, samples)
  end)

  it("does not mix with add, and refuses odd arguments", function()
    local events, entries = fresh(), fresh()
    events:record()
    entries:add(1)
    assert.is_false(pcall(function() events:add(1) end))
    assert.is_false(pcall(function() entries:record() end))
    assert.is_false(events:remove(1))
    events:record(1)
    assert.are.equal(2, events:count())
    assert.matches("bad argument #2 to 'record' %(2 values for 1 column%)", message(function() events:record(1, 2) end))
    assert.matches("bad argument #1 to 'record' %(options come after the values",
      message(function() events:record({ skip = 2 }, 1) end))
    assert.matches("bad argument #1 to 'record'", message(function() events:record("1") end))
    assert.matches("bad argument #1 to 'record'", message(function() events:record(1.5) end))
    assert.matches("unknown option 'values'", message(function() events:record { values = { 1 } } end))
    assert.are.equal(2, events:count())
  end)
end)

describe("set_prof_stack_depth", function()
  it("bounds stacks visibly and returns the bound before", function()
    local profile = fresh()
    local function down(n)
      if n == 0 then
        profile:add(1)
      else
        down(n - 1)
      end
      return n
    end
    local old = cprof.set_prof_stack_depth(5)
    down(20)
    assert.are.equal(5, cprof.set_prof_stack_depth(old))
    local list = names(profile)
    assert.are.equal("[truncated]", list[#list])
    assert.are.equal("down", list[1])
  end)

  it("refuses what is no depth", function()
    for _, depth in ipairs { 0, 1025, 1.5, -1, "7" } do
      assert.matches("bad argument #1 to 'set_prof_stack_depth'",
        message(function() cprof.set_prof_stack_depth(depth) end))
    end
  end)
end)
