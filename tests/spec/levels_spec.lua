-- SPDX-License-Identifier: MIT
--
-- Lua's own debug.getinfo judges the Lua frames of a stack: file and line of each, through calls of every kind
-- nested at
-- random.

local cprof = require "cprof"

local profile = cprof.new_profile("levels_spec")
local key = 0

-- What debug.getinfo says of the running thread's Lua functions, from LEVEL outward.
local function told(level)
  local list = {}
  local info = debug.getinfo(level, "Sl")
  while info do
    if info.what ~= "C" and info.what ~= "tail" then
      list[#list + 1] = info.short_src:match("[^/]*$") .. ":" .. info.currentline
    end
    level = level + 1
    info = debug.getinfo(level, "Sl")
  end
  return list
end

local expected = {}

local function leaf()
  key = key + 1
  expected[key] = told(2) profile:add(key, { skip = 1, labels = cprof.labels { key = key } })
  return key
end

local random
do
  local seed = 1
  -- The same on every Lua.
  function random(n)
    seed = (seed * 16807) % 2147483647
    return seed % n + 1
  end
end

local call -- of the next kind

local function object(depth)
  local function go()
    call(depth)
    return 1
  end
  local meta = {
    __index = go, __newindex = go, __call = go, __concat = go, __unm = go, __tostring = function()
      go()
      return "object"
    end,
    __add = go, __lt = go, __le = go, __eq = go,
  }
  return setmetatable({}, meta), setmetatable({}, meta)
end

local function varargs(depth, ...)
  call(depth)
  return select("#", ...)
end

local kinds = {
  function(depth) call(depth) end,
  function(depth) return call(depth) end,
  function(depth) pcall(call, depth) end,
  function(depth) local _ = varargs(depth, 1, 2, 3) end,
  function(depth) return varargs(depth, nil, nil) end,
  function(depth) table.sort({ 1, 2 }, function(a, b) call(depth) depth = 0 return a < b end) end,
  function(depth) string.gsub("a", ".", function() call(depth) end) end,
  function(depth) local a = object(depth) return a.field end,
  function(depth) local a = object(depth) a.field = 1 end,
  function(depth) local a = object(depth) a(1, 2) end,
  function(depth) local a = object(depth) return a(1, 2) end,
  function(depth) local a, b = object(depth) return a .. b end,
  function(depth) local a, b = object(depth) return a + b, -a end,
  function(depth) local a, b = object(depth) return a < b end,
  function(depth) local a, b = object(depth) return a ~= b end,
  function(depth) local a = object(depth) return tostring(a) end,
  function(depth) for _ in function(_, i) if not i then call(depth) return 1 end end do depth = 0 end end,
  function(depth) xpcall(function() error("thrown") end, function() call(depth) end) end,
  function(depth) xpcall(nil, function() call(depth) end) end,
  function(depth) xpcall(function() local none = nil return none.field end, function() call(depth) end) end,
  function(depth) xpcall(function() local none = nil return none() end, function() call(depth) end) end,
  function(depth) pcall(pcall, pcall, call, depth) end,
  function(depth) coroutine.wrap(function() call(depth) end)() end,
  function(depth) coroutine.wrap(call)(depth) end,
  function(depth) local t = coroutine.create(function() coroutine.yield() call(depth) end)
    coroutine.resume(t)
    coroutine.resume(t)
  end,
  function(depth) assert(load(function() call(depth) depth = 0 end)) end,
}

function call(depth)
  if depth <= 0 then
    leaf()
    return
  end
  return kinds[random(#kinds)](depth - 1)
end

-- Lua frames of a sample up to the first thread's end: what debug.getinfo does not see is further out.
local function seen(sample)
  local list = {}
  for _, frame in ipairs(sample.frames) do
    if frame.mapping == "[lua]" and frame.line > 0 then
      list[#list + 1] = frame.file:match("[^/]*$") .. ":" .. frame.line
    end
  end
  return list
end

describe("the Lua frames of a stack", function()
  it("are those that debug.getinfo tells", function()
    local old = cprof.set_prof_stack_depth(1024)
    for _, kind in ipairs(kinds) do
      kind(0)
      kind(1)
    end
    for _ = 1, 1500 do
      call(random(8))
    end
    cprof.set_prof_stack_depth(old)
    local samples = 0
    for sample in profile:snapshot():samples() do
      samples = samples + 1
      local wanted, got = expected[sample.labels.key], seen(sample)
      assert.is_true(#got >= #wanted)
      for i, place in ipairs(wanted) do
        if got[i] ~= place then
          assert.are.same(wanted, got)
        end
      end
    end
    assert.is_true(samples > 1500)
    assert.are.equal(key, samples)
  end)
end)
