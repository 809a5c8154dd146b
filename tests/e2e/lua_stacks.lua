-- SPDX-License-Identifier: MIT
--
-- Usage: lua_stacks.lua PROFILE
--
-- Adds an entry in each way in which Lua and C may be mixed on a stack, labelled with the case, and writes PROFILE
-- (lua_stacks_test.sh compares what pprof prints with tests/golden/lua_stacks.RUNTIME.txt). The entries of C code go to
-- PROFILE.c, one file a case.

local cprof = require "cprof"
local host = require "lua_host"

local load_text = rawget(_G, "loadstring") or load
local stacks = cprof.new_profile("stacks")
local serial, current = 0, nil

local function add(skip)
  serial = serial + 1
  stacks:add("key " .. serial, { skip = skip or 1, labels = cprof.labels { case = current } })
end

local function case(name, run)
  current = name
  run()
end

-- ---- Callbacks of the standard library, metamethods ----

local function leaf()
  add(2)
  return 1
end

local function plain()
  leaf()
end

case("pcall", function()
  pcall(plain)
end)

case("xpcall handler", function()
  local function handler()
    leaf()
  end
  local function failing()
    error("thrown")
  end
  xpcall(failing, handler)
end)

case("table.sort", function()
  local done
  local function less(a, b)
    if not done then
      done = true
      leaf()
    end
    return a < b
  end
  table.sort({ 2, 1, 3 }, less)
end)

case("string.gsub", function()
  local function replace()
    leaf()
  end
  string.gsub("a", "a", replace)
end)

local object = setmetatable({}, {
  __index = function()
    leaf()
  end,
  __add = function()
    leaf()
    return 1
  end,
  __tostring = function()
    leaf()
    return "object"
  end,
})

case("__index", function()
  local _ = object.field
end)

case("__add", function()
  local _ = object + 1
end)

case("__tostring", function()
  tostring(object)
end)

case("for iterator", function()
  local function iterator(_, i)
    leaf()
    if not i then
      return 1
    end
  end
  local function once(_, i)
    if not i then
      iterator(nil, 1)
      return 1
    end
  end
  for _ in once do
    assert(true)
  end
end)

case("load", function()
  load_text("local f = ...\nlocal function inner()\n  f()\nend\ninner()", "=text")(leaf)
end)

case("load of a string", function()
  load_text("local f = ... f()")(leaf)
end)

case("load reader", function()
  local read
  local function reader()
    if not read then
      read = true
      leaf()
    end
  end
  load(reader)
end)

case("one line first", function()
  local first, second = function() leaf() end, function() return (leaf()) end
  first()
  current = "one line second"
  second()
end)

case("require", function()
  package.preload.stacks_module = function()
    leaf()
    return {}
  end
  require "stacks_module"
end)

-- ---- Coroutines ----

local resume = coroutine.resume

case("coroutine.resume", function()
  assert(resume(coroutine.create(plain)))
end)

case("coroutine.wrap", function()
  coroutine.wrap(plain)()
end)

case("coroutines in coroutines", function()
  local function innermost()
    coroutine.wrap(plain)()
  end
  local function middle()
    assert(resume(coroutine.create(innermost)))
  end
  coroutine.wrap(middle)()
end)

case("resumed again", function()
  local function twice()
    coroutine.yield()
    leaf()
  end
  local thread = coroutine.create(twice)
  resume(thread)
  pcall(resume, thread)
end)

-- ---- A C host ----

case("host calls", function()
  host.call(plain)
end)

case("host resumes", function()
  host.resume(plain)
end)

case("host resumes, coroutines around", function()
  local function inner()
    coroutine.wrap(plain)()
  end
  local function outer()
    host.resume(inner)
  end
  coroutine.wrap(outer)()
end)

case("everything", function()
  local function compare(a, b)
    if serial and current then
      host.call(function()
        coroutine.wrap(function()
          pcall(plain)
        end)()
      end)
      current = nil
    end
    return a < b
  end
  local first = current
  table.sort({ 2, 1 }, compare)
  current = first
end)

-- ---- Tail calls ----

case("tail calls", function()
  local function third()
    leaf()
  end
  local function second()
    return third()
  end
  local function first()
    return second()
  end
  first()
end)

case("tail call of add", function()
  local function open(key)
    return stacks:add(key, { skip = 2, labels = cprof.labels { case = current } })
  end
  local function user()
    open("tail call")
  end
  user()
end)

-- ---- skip and depth ----

for skip = 0, 4 do
  case("skip " .. skip, function()
    local function inner()
      serial = serial + 1
      stacks:add("key " .. serial, { skip = skip, labels = cprof.labels { case = current } })
    end
    local function outer()
      inner()
    end
    outer()
  end)
end

case("depth", function()
  local function down(n)
    if n == 0 then
      leaf()
    else
      down(n - 1)
    end
    return n
  end
  local old = cprof.set_prof_stack_depth(6)
  down(50)
  cprof.set_prof_stack_depth(old)
end)

assert(stacks:write(arg[1]))

-- ---- Entries that C code adds ----

local function from_c(name, run)
  local profile = cprof.new_profile(name)
  run(name)
  assert(profile:write(arg[1] .. "." .. name))
end

local function adding(name)
  assert(host.add(name, 0) == 0)
end

from_c("called", adding)

from_c("skipped", function(name)
  assert(host.add(name, 3) == 0)
end)

from_c("coroutine", function(name)
  coroutine.wrap(adding)(name)
end)

from_c("sort", function(name)
  local done
  table.sort({ 2, 1 }, function(a, b)
    if not done then
      done = true
      adding(name)
    end
    return a < b
  end)
end)

from_c("resumed", function(name)
  host.resume(function()
    adding(name)
  end)
end)
