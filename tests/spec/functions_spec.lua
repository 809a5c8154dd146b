-- SPDX-License-Identifier: MIT
--
-- What functions are called and where they are: nothing is ever taken for something else, whatever the collector does.

local cprof = require "cprof"

local compile = rawget(_G, "loadstring") or load
local serial = 0

-- The frame of the function that calls add, in a profile of its own.
local function leaf(run)
  serial = serial + 1
  local profile = cprof.new_profile("functions_spec." .. serial)
  run(function()
    profile:add(1, 2)
  end)
  return profile:snapshot():samples()().frames[1]
end

describe("a function", function()
  it("has the name that its module has for it", function()
    local blobstore = {}
    function blobstore.open(add)
      add()
    end
    package.loaded["functions_spec.blobstore"] = blobstore
    assert.are.equal("functions_spec.blobstore.open", leaf(function(add) blobstore.open(add) end).name)
    package.loaded["functions_spec.blobstore"] = nil
  end)

  it("gets its module's name later where it was met before", function()
    local module = {}
    function module.early(add)
      add()
    end
    assert.are.equal("early", leaf(function(add) module.early(add) end).name)
    package.loaded["functions_spec.late"] = module
    local name
    for _ = 1, 8 do
      name = leaf(function(add) module.early(add) end).name
    end
    assert.are.equal("functions_spec.late.early", name)
    package.loaded["functions_spec.late"] = nil
  end)

  it("of the globals has its bare name", function()
    rawset(_G, "functions_spec_global", function(add) add() end)
    assert.are.equal("functions_spec_global", leaf(rawget(_G, "functions_spec_global")).name)
    rawset(_G, "functions_spec_global", nil)
  end)

  it("without a name is called by its place", function()
    local list = { function(add) add() end }
    local frame = leaf(function(add) pcall(list[1], add) end)
    assert.matches("functions_spec.lua:%d+", frame.name)
  end)

  it("on one line with another is not the other", function()
    -- luacheck: push ignore 631
    local first, second = function(add) add() return 1 end, function(add) add() return 2 end
    -- luacheck: pop
    local a, b = leaf(first), leaf(second)
    assert.are.equal(a.line, b.line)
    assert.are_not.equal(a.address, b.address)
    assert.are.equal(a.address, leaf(first).address)
  end)

  it("that differs from another in the order of operands is not the other", function()
    local text = "return function(add, a, b) add() return (a or 1) - (b or 2) end, "
      .. "function(add, a, b) add() return (b or 2) - (a or 1) end"
    local first, second = compile(text, "=operands")()
    assert.are_not.equal(leaf(first).address, leaf(second).address)
  end)

  it("of a stripped chunk is not another of it", function()
    local text = "local add = ...\nlocal function one() add() return 1 end\nlocal function two() add() return 2 end\n"
      .. "return one, two"
    local parts = { compile(string.dump(compile(text, "@stripped.lua"), true), "stripped") }
    local seen = {}
    leaf(function(add)
      local one, two = parts[1](add)
      parts = { one, two }
      add()
    end)
    for i, part in ipairs(parts) do
      seen[i] = leaf(function(add)
        debug.setupvalue(part, 1, add)
        part()
      end).address
    end
    assert.are_not.equal(seen[1], seen[2])
  end)

  it("of a text is not that of another text", function()
    local function of(text)
      return leaf(compile(text))
    end
    local a = of("local add = ...\nadd()")
    local b = of("local add = ...\nadd() -- b")
    assert.are_not.equal(a.address, b.address)
    assert.are.equal(a.address, of("local add = ...\nadd()").address)
    assert.matches("^%[string", a.file)
    assert.matches("^%[string", a.name)
  end)
end)

describe("the collector", function()
  -- Adds from chunks of many names, made and dropped all the time; each frame's name says in which file it must be.
  local function churn(collect)
    serial = serial + 1
    local profile = cprof.new_profile("functions_spec.churn." .. serial)
    local wrong, key = 0, 0
    for round = 1, 3000 do
      local name = "chunk_" .. round % 700
      local text = ("local add = ...\n%slocal function %s()\n  add()\nend\n%s()"):format(
        ("\n"):rep(round % 13), name, name)
      compile(text, "@" .. name .. ".lua")(function()
        key = key + 1
        profile:add(key, 2)
      end)
      collect(round)
    end
    local total = 0
    for sample in profile:snapshot():samples() do
      local frame = sample.frames[1]
      total = total + sample.values[1]
      if frame.name .. ".lua" ~= frame.file or frame.line ~= frame.start_line + 1 then
        wrong = wrong + 1
      end
    end
    assert.are.equal(0, wrong)
    assert.are.equal(3000, total)
  end

  it("never makes one function pass for another", function()
    churn(function(round)
      if round % 3 == 0 then
        collectgarbage()
      elseif round % 3 == 1 then
        collectgarbage("step", 10)
      end
    end)
  end)

  it("may work by itself, in increments or generations", function()
    for _, mode in ipairs { "incremental", "generational" } do
      local has_mode, before = pcall(collectgarbage, mode)
      churn(function() end)
      if has_mode then
        collectgarbage(type(before) == "string" and before or "incremental")
      end
    end
  end)

  it("may run where the frame of an add's caller still holds what the add left behind", function()
    local profile, wrong = cprof.new_profile("functions_spec.registers"), 0
    local collecting = setmetatable({}, { __index = function() collectgarbage() end })
    local registers = {}
    for i = 1, 150 do
      registers[i] = "r" .. i
    end
    -- The metamethod runs outside of all registers, so that none of them is cleared before the collector looks.
    local text = "local add, collecting = ...\nadd()\nlocal _ = collecting.collect\ndo local "
      .. table.concat(registers, ", ") .. " end"
    for round = 1, 1000 do
      local file = "registers_" .. round % 300
      compile(text, "@" .. file)(function()
        profile:add(round, 2)
      end, collecting)
      wrong = wrong + (profile:snapshot():samples()().frames[1].file == file and 0 or 1)
      profile:remove(round)
    end
    assert.are.equal(0, wrong)
  end)

  it("may be in generations while finalizers wait", function()
    local has_mode, before = pcall(collectgarbage, "generational")
    local profile, wrong = cprof.new_profile("functions_spec.waiting"), 0
    for round = 1, 5000 do
      local file = "waiting_" .. round % 997
      compile("local profile, key = ...\nprofile:add(key)\nreturn key", "@" .. file)(profile, round)
      wrong = wrong + (profile:snapshot():samples()().frames[1].file == file and 0 or 1) -- data have finalizers
      profile:remove(round)
    end
    if has_mode then
      collectgarbage(type(before) == "string" and before or "incremental")
    end
    assert.are.equal(0, wrong)
  end)

  it("may run in the middle of a stack's functions", function()
    local profile, key = cprof.new_profile("functions_spec.closures"), 0
    for round = 1, 2000 do
      local function make(depth)
        return function()
          if depth == 0 then
            key = key + 1
            profile:add(key)
          else
            make(depth - 1)()
          end
          return depth
        end
      end
      make(round % 5)()
      if round % 7 == 0 then
        collectgarbage()
      end
    end
    local total = 0
    for sample in profile:snapshot():samples() do
      total = total + sample.values[1]
      assert.matches("functions_spec.lua", sample.frames[1].file)
    end
    assert.are.equal(2000, total)
  end)
end)
