-- SPDX-License-Identifier: MIT
--
-- Labels of what runs: given and taken back, nested, across yields, errors and coroutines, beside hooks of the host.

local cprof = require "cprof"

local yield, create, wrap, resume = coroutine.yield, coroutine.create, coroutine.wrap, coroutine.resume

local is_jit = type(rawget(_G, "jit")) == "table"

local profile = cprof.new_profile("labels_spec.entries")

local function text(labels)
  local list = {}
  for key, value in pairs(labels) do
    list[#list + 1] = key .. "=" .. value
  end
  table.sort(list)
  return table.concat(list, " ")
end

-- The labels that an entry gets here and now, with OWN for its own.
local function now(own)
  local key = {}
  profile:add(key, { labels = own })
  local found
  for sample in profile:snapshot():samples() do
    found = text(sample.labels)
  end
  profile:remove(key)
  return found
end

-- What coroutine.resume returns, where it went well.
local function go(co, ...)
  local function check(ok, ...)
    assert.is_true(ok, (...))
    return ...
  end
  return check(resume(co, ...))
end

-- Busy until a hook that counts instructions has had time to be called.
local function work()
  local n = 0
  for i = 1, 10000 do
    n = n + i % 3
  end
  return n
end

describe("set_labels", function()
  after_each(function() cprof.set_labels(nil) end)

  it("labels entries until it is called again, and returns the labels before", function()
    local set = cprof.labels { route = "/", size = 3 }
    assert.are.equal("", now())
    assert.is_nil(cprof.set_labels(set))
    assert.are.equal("route=/ size=3", now())
    assert.are.equal(set, cprof.set_labels { phase = "load" })
    assert.are.equal("phase=load", now())
    assert.are.equal(cprof.labels { phase = "load" }, cprof.set_labels(nil))
    assert.are.equal("", now())
    assert.is_nil(cprof.set_labels(nil))
  end)

  it("labels events", function()
    local events = cprof.new_profile("labels_spec.events")
    cprof.set_labels { a = 1 }
    events:record()
    cprof.set_labels { a = 2 }
    events:record(10)
    local found = {}
    for sample in events:snapshot():samples() do
      found[#found + 1] = text(sample.labels) .. ": " .. sample.values[1]
    end
    assert.are.same({ "a=2: 10", "a=1: 1" }, found)
  end)

  it("gives way to the labels of an entry's own", function()
    cprof.set_labels { a = "outer", b = "outer" }
    assert.are.equal("a=own b=outer c=own", now(cprof.labels { a = "own", c = "own" }))
  end)

  it("keeps one handle for a set", function()
    local set = cprof.labels { one = "handle" }
    assert.is_true(rawequal(set, cprof.labels { one = "handle" }))
    cprof.set_labels { one = "handle" }
    assert.is_true(rawequal(set, cprof.set_labels(nil)))
  end)

  it("takes long tables", function()
    local labels, wanted = {}, {}
    for i = 10, 60 do
      labels["k" .. i] = i
      wanted[#wanted + 1] = "k" .. i .. "=" .. i
    end
    cprof.set_labels(labels)
    assert.are.equal(table.concat(wanted, " "), now())
  end)

  it("refuses what is no labels, and changes nothing", function()
    local function refused(...)
      local ok, message = pcall(cprof.set_labels, ...)
      assert.is_false(ok)
      assert.are.equal("a=1", now())
      return message
    end
    cprof.set_labels { a = 1 }
    assert.matches("value expected", refused())
    assert.matches("labels or table expected, got number", refused(1))
    assert.matches("labels or table expected, got userdata", refused(io.stdout))
    assert.matches("label keys are strings", refused({ "x" }))
    assert.matches("label 'x' must be an integer or a string", refused({ x = true }))
    local ok, message = pcall(function() cprof.set_labels(1) end)
    assert.is_false(ok)
    assert.matches("labels_spec.lua:%d+: bad argument #1 to '[%w.]*set_labels'", message)
  end)
end)

describe("with_labels", function()
  it("passes arguments and results, and gives the labels back", function()
    local function f(...)
      return now(), select("#", ...), ...
    end
    assert.are.same({ "a=1", 3, 1, nil, 3, n = 5 }, (function(...)
      return { n = select("#", ...), ... }
    end)(cprof.with_labels({ a = 1 }, f, 1, nil, 3)))
    assert.are.equal(0, select("#", cprof.with_labels({ a = 1 }, function() end)))
    assert.are.equal("", now())
  end)

  it("joins, the inner labels first", function()
    local function inner()
      return now()
    end
    local function outer()
      local a = cprof.with_labels({ a = 2, b = 2 }, inner)
      local b = cprof.with_labels(cprof.labels { c = 3 }, inner)
      return a, b, cprof.with_labels({}, inner), now()
    end
    assert.are.same({ "a=2 b=2", "a=1 c=3", "a=1", "a=1" }, { cprof.with_labels({ a = 1 }, outer) })
    assert.are.equal("", now())
  end)

  it("gives the labels back that set_labels changed meanwhile", function()
    cprof.with_labels({ a = 1 }, function() cprof.set_labels { b = 2 } end)
    assert.are.equal("", now())
  end)

  it("gives the labels back after an error, which keeps its value", function()
    local value = {}
    for _, thrown in ipairs { value, "text", 7 } do
      local ok, caught = pcall(cprof.with_labels, { a = 1 }, function() error(thrown, 0) end)
      assert.is_false(ok)
      assert.is_true(rawequal(thrown, caught))
      assert.are.equal("", now())
    end
    local ok, caught = pcall(cprof.with_labels, { a = 1 }, function() error() end)
    assert.is_false(ok)
    assert.is_nil(caught)
    local _, message = pcall(function()
      cprof.with_labels({ a = 1 }, function() error("here") end)
    end)
    assert.matches("labels_spec.lua:%d+: here", message)
    assert.are.equal("", now())
  end)

  it("gives the labels back after an error in a coroutine", function()
    local co = create(function()
      cprof.set_labels { outer = 1 }
      local ok = pcall(cprof.with_labels, { a = 1 }, error)
      local inside = now()
      cprof.with_labels({ last = 1 }, error)
      return ok, inside
    end)
    assert.is_false((resume(co)))
    co = create(function()
      cprof.set_labels { outer = 1 }
      return pcall(cprof.with_labels, { a = 1 }, error), now()
    end)
    assert.are.same({ false, "outer=1" }, { go(co) })
    assert.are.equal("", now())
  end)

  it("shows a message handler the whole stack, where Lua allows it", function()
    if not rawget(_G, "utf8") or _VERSION ~= "Lua 5.4" then
      return
    end
    local function culprit()
      error("deep")
    end
    local _, trace = xpcall(cprof.with_labels, debug.traceback, { a = 1 }, function()
      culprit()
      return 1
    end)
    assert.matches("culprit", trace)
    assert.are.equal("", now())
  end)

  it("can be called by anything that can be called, and calls such", function()
    local callable = setmetatable({}, { __call = function(_, x) return now() .. x end })
    assert.are.equal("a=1!", cprof.with_labels({ a = 1 }, callable, "!"))
    local t = { 3, 1, 2 }
    table.sort(t, function(a, b)
      return cprof.with_labels({ a = 1 }, function() return a < b end)
    end)
    assert.are.same({ 1, 2, 3 }, t)
  end)

  it("refuses wrong arguments, and changes nothing", function()
    local function refused(...)
      local ok, message = pcall(cprof.with_labels, ...)
      assert.is_false(ok)
      assert.are.equal("", now())
      return message
    end
    assert.matches("bad argument #1 .*labels or table expected, got n", refused())
    assert.matches("bad argument #1 .*labels or table expected, got nil", refused(nil, print))
    assert.matches("bad argument #1 .*label keys are strings", refused({ 1 }, print))
    assert.matches("bad argument #2 .*function expected, got", refused({ a = 1 }))
    assert.matches("bad argument #2 .*function expected, got string", refused({ a = 1 }, "x"))
    local ok, message = pcall(function()
      cprof.with_labels({ a = 1 }, 1)
      return 1
    end)
    assert.is_false(ok)
    assert.matches("labels_spec.lua:%d+: bad argument #2 to '[%w.]*with_labels'", message)
  end)
end)

describe("a coroutine's labels", function()
  after_each(function() cprof.set_labels(nil) end)

  it("stay its own across yields", function()
    local function body(name)
      return cprof.with_labels({ name = name }, function(...)
        local seen = { now(), ... }
        for _ = 1, 3 do
          seen[#seen + 1] = yield(now())
          seen[#seen + 1] = now()
        end
        return table.concat(seen, ", ")
      end, "arg")
    end
    local a, b = create(body), create(body)
    assert.are.equal("name=a", go(a, "a"))
    assert.are.equal("name=b", go(b, "b"))
    assert.are.equal("", now())
    cprof.with_labels({ other = 1 }, function()
      assert.are.equal("name=a", go(a, 1))
      assert.are.equal("other=1", now())
    end)
    assert.are.equal("name=b", go(b, 1))
    assert.are.equal("name=a", go(a, 2))
    local wrapped = coroutine.wrap(function() return go(a, 3) end)
    assert.are.equal("name=a, arg, 1, name=a, 2, name=a, 3, name=a", wrapped())
    assert.are.equal("name=b", go(b, 2))
    assert.are.equal("", now())
  end)

  it("are given back inside it after a yield", function()
    local co = create(function()
      cprof.set_labels { own = 1 }
      cprof.with_labels({ a = 1 }, yield)
      yield(now())
      local ok = select(2, pcall(cprof.with_labels, { a = 1 }, error, "x"))
      return ok .. now()
    end)
    go(co)
    assert.are.equal("own=1", go(co))
    assert.are.equal("xown=1", go(co))
  end)

  it("survive an error after a yield", function()
    local co = create(function()
      local ok, message = true, "not run"
      -- 5.1 cannot yield across pcall.
      if _VERSION ~= "Lua 5.1" or is_jit then
        ok, message = pcall(cprof.with_labels, { a = 1 }, function()
          yield(now())
          error("after", 0)
        end)
      end
      return ok, message, now()
    end)
    local first = go(co)
    if first == "a=1" then
      assert.are.same({ false, "after", "" }, { go(co) })
    end
  end)

  it("are inherited from its creator when it is created", function()
    local co, wrapped
    local function body()
      local first = now()
      return first .. "; " .. yield() .. "; " .. now()
    end
    cprof.with_labels({ creator = 1 }, function()
      co, wrapped = coroutine.create(body), coroutine.wrap(body)
    end)
    cprof.set_labels { resumer = 1 }
    local free = coroutine.create(function()
      return now()
    end)
    cprof.set_labels(nil)
    go(co)
    wrapped()
    assert.are.equal("resumer=1", go(free))
    cprof.set_labels { later = 1 }
    assert.are.equal("creator=1; x; creator=1", go(co, "x"))
    assert.are.equal("creator=1; y; creator=1", wrapped("y"))
    cprof.set_labels(nil)
    local none = coroutine.wrap(now)
    cprof.set_labels { resumer = 1 }
    assert.are.equal("", none())
  end)

  it("are inherited by grandchildren", function()
    local inner
    cprof.with_labels({ a = 1 }, function()
      coroutine.wrap(function()
        cprof.set_labels { b = 2 }
        inner = coroutine.wrap(function()
          return now(), cprof.with_labels({ c = 3 }, now)
        end)
      end)()
    end)
    assert.are.same({ "b=2", "b=2 c=3" }, { inner() })
  end)

  it("are inherited also through functions that were cached before the first labels", function()
    local co, wrapped
    cprof.with_labels({ creator = 1 }, function()
      co, wrapped = create(function() return now() end), wrap(function() return now() end)
    end)
    cprof.set_labels { resumer = 1 }
    assert.are.equal("creator=1", go(co))
    assert.are.equal("creator=1", wrapped())
    for i = 1, 300 do -- compiled, too
      cprof.set_labels { i = i }
      local inner, message = create(function(x) return now() .. x end)
      cprof.set_labels { resumer = 1 }
      assert.is_nil(message)
      assert.are.equal("i=" .. i .. "!", go(inner, "!"))
    end
  end)

  it("leave the functions of coroutines as they are", function()
    cprof.set_labels { a = 1 }
    assert.is_true(rawequal(create, coroutine.create) and rawequal(wrap, coroutine.wrap))
  end)

  it("are set for it alone", function()
    local co = create(function()
      cprof.set_labels { own = 1 }
      yield()
      return now(), cprof.set_labels(nil), now()
    end)
    go(co)
    assert.are.equal("", now())
    cprof.set_labels { main = 1 }
    local before, old, after = go(co)
    assert.are.same({ "own=1", "" }, { before, after })
    assert.are.equal(cprof.labels { own = 1 }, old)
    assert.are.equal("main=1", now())
  end)

  it("do not come back in another coroutine at the same address", function()
    for _ = 1, 300 do
      local co = create(function()
        local before = now()
        cprof.set_labels { short = 1 }
        return before
      end)
      assert.are.equal("", go(co))
    end
    collectgarbage()
    collectgarbage()
    for _ = 1, 300 do
      assert.are.equal("", go(create(function() return now() end)))
    end
  end)

  it("are no obstacle to coroutine functions that fail", function()
    cprof.set_labels { a = 1 }
    local ok, message = pcall(function()
      local co = coroutine.create(1)
      return co
    end)
    assert.is_false(ok)
    assert.matches("labels_spec.lua:%d+: bad argument #1 to", message)
    assert.is_false((pcall(coroutine.wrap)))
  end)
end)

describe("hooks of the host", function()
  after_each(function()
    debug.sethook()
    cprof.set_labels(nil)
  end)

  -- LuaJIT calls no hooks from compiled code.
  local function count_hook(step)
    local calls = 0
    if is_jit then
      require("jit").off(work)
    end
    debug.sethook(function() calls = calls + 1 end, "", step)
    return function() return calls end
  end

  it("are called as before while labels are set, and labels are kept beside them", function()
    local calls = count_hook(1000)
    cprof.set_labels { a = 1 }
    assert.are.equal("a=1", now())
    local before = calls()
    work()
    assert.is_true(calls() > before)
    assert.are.equal("a=1 b=2", cprof.with_labels({ b = 2 }, now))
    assert.are.equal("a=1", now())
    assert.are.equal(1000, select(3, debug.gethook()))
    debug.sethook()
    assert.are.equal("a=1", now())
    assert.are.equal(cprof.labels { a = 1 }, cprof.set_labels(nil))
    assert.are.equal("", now())
  end)

  it("may come and go under labels", function()
    cprof.with_labels({ a = 1 }, function()
      local calls = count_hook(100)
      assert.are.equal("a=1", now())
      work()
      assert.is_true(calls() > 0)
      debug.sethook()
      assert.are.equal("a=1", now())
      local lines = 0
      debug.sethook(function() lines = lines + 1 end, "l")
      assert.are.equal("a=1", now())
      debug.sethook()
      assert.is_true(lines > 0)
      assert.are.equal("a=1", now())
    end)
    assert.are.equal("", now())
  end)

  it("without a count leave labels where they are", function()
    local calls = 0
    debug.sethook(function() calls = calls + 1 end, "c")
    cprof.set_labels { a = 1 }
    local before = calls
    assert.are.equal("a=1", now())
    assert.is_true(calls > before)
    local inherited = coroutine.wrap(now)
    cprof.set_labels(nil)
    assert.are.equal("a=1", inherited())
    cprof.set_labels { a = 1 }
    debug.sethook(debug.gethook())
    assert.are.equal("a=1", now())
    assert.are.equal("c", select(2, debug.gethook()))
    cprof.set_labels(nil)
    before = calls
    assert.are.equal("", now())
    assert.is_true(calls > before)
  end)

  it("with a count that a coroutine inherits hide nothing but who created it", function()
    count_hook(1000000)
    local inside = cprof.with_labels({ a = 1 }, function()
      return go(coroutine.create(function()
        return now() .. ", " .. cprof.with_labels({ b = 2 }, now)
      end))
    end)
    assert.are.equal("a=1, a=1 b=2", inside)
  end)

  it("are not there where there were none", function()
    cprof.set_labels { a = 1 }
    work()
    cprof.set_labels(nil)
    assert.is_nil((debug.gethook()))
  end)
end)

describe("CPU samples", function()
  local function burn(seconds)
    local stop = os.clock() + seconds
    local n = 0
    while os.clock() < stop do
      for i = 1, 1000 do
        n = n + i % 7
      end
    end
    return n
  end

  -- Where the runtime's frames are on a sample, the coroutine's labels are as well.
  it("have the labels of the coroutine that ran", function()
    now() -- looks up symbols, which takes time
    local recording = assert(cprof.start_cpu_profile { hz = 1000 })
    for _ = 1, 20 do
      local co = coroutine.create(function()
        cprof.set_labels { route = "b" }
        burn(0.003)
        yield()
        return now()
      end)
      cprof.with_labels({ route = "a" }, function()
        burn(0.006)
        go(co)
        assert.are.equal("route=a", now())
      end)
      assert.are.equal("route=b", go(co))
      burn(0.003)
      assert.are.equal("", now())
    end
    local seen, total = { a = 0, b = 0, none = 0 }, 0
    for sample in recording:stop():samples() do
      for _, frame in ipairs(sample.frames) do
        if frame.name:find("burn", 1, true) then
          local route = sample.labels.route or "none"
          assert.is_number(seen[route], route)
          seen[route] = seen[route] + sample.values[1]
          total = total + sample.values[1]
          break
        end
      end
    end
    assert.is_true(total > 20)
    assert.is_true(seen.a > total / 4)
    assert.is_true(seen.b > total / 10)
    assert.is_true(seen.none > total / 10)
  end)
end)
