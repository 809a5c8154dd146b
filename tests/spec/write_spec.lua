-- SPDX-License-Identifier: MIT
--
-- write, encode and snapshot: targets, options, failures of the world.

local cprof = require "cprof"

local profile = cprof.new_profile("write_spec")
profile:add("key")

local function read(path)
  local file = assert(io.open(path, "rb"))
  local bytes = file:read("*a")
  file:close()
  return bytes
end

local function is_gzip(bytes)
  return bytes:sub(1, 2) == "\31\139"
end

describe("encode", function()
  it("returns the profile, gzipped, raw or as text", function()
    assert.is_true(is_gzip(profile:encode()))
    assert.is_true(is_gzip(profile:encode { gzip_level = 9 }))
    assert.is_false(is_gzip(profile:encode { gzip_level = 0 }))
    assert.matches("^write_spec profile: total 1\n1 @ 0x", profile:encode { debug = 1 })
  end)

  it("refuses odd options", function()
    local odd = { { debug = 3 }, { gzip_level = 10 }, { symbolize = 1 }, { level = 1 }, { debug = "1" } }
    for _, options in ipairs(odd) do
      local ok, text = pcall(function() profile:encode(options) end)
      assert.is_false(ok)
      assert.matches("bad argument #1 to 'encode'", text)
    end
  end)

  it("leaves native names to the reader where symbolize is false", function()
    local text = profile:snapshot():encode { gzip_level = 0, symbolize = false }
    assert.is_truthy(text:find("write_spec.lua", 1, true))
    assert.is_falsy(text:find("__libc_start_main", 1, true))
    assert.is_truthy(profile:encode { gzip_level = 0 }:find("__libc_start_main", 1, true))
  end)
end)

describe("write", function()
  local path
  before_each(function()
    path = os.tmpname()
  end)
  after_each(function()
    os.remove(path)
  end)

  it("takes a path", function()
    assert.is_true(profile:write(path))
    assert.is_true(is_gzip(read(path)))
  end)

  it("takes an open file", function()
    local file = assert(io.open(path, "wb"))
    assert(file:write("before "))
    assert.is_true(profile:write(file, { debug = 1 }))
    file:close()
    assert.matches("^before write_spec profile: total 1\n", read(path))
    assert.matches("not an open file", select(2, pcall(function() profile:write(file) end)))
  end)

  it("takes a function", function()
    local pieces = {}
    assert.is_true(profile:write(function(piece) pieces[#pieces + 1] = piece end, { debug = 1 }))
    assert.matches("^write_spec profile: total 1\n", table.concat(pieces))
  end)

  it("passes on what the function raises", function()
    local object = {}
    local ok, raised = pcall(function()
      profile:write(function() error(object, 0) end)
    end)
    assert.is_false(ok)
    assert.are.equal(object, raised)
  end)

  it("stops where the function returns nil and a message", function()
    local calls = 0
    local result, text, code = profile:write(function()
      calls = calls + 1
      return nil, "connection closed"
    end)
    assert.is_nil(result)
    assert.are.equal("connection closed", text)
    assert.are.equal("ECANCELED", code)
    assert.are.equal(1, calls)
    local stopped = { profile:write(function()
      return false, "enough"
    end) }
    assert.are.same({ nil, "enough", "ECANCELED" }, stopped)
  end)

  it("may be used from inside the function", function()
    local inner
    profile:write(function()
      inner = inner or profile:encode { debug = 1 }
      profile:add("added")
      profile:remove("added")
    end)
    assert.matches("^write_spec profile: total 1\n", inner)
  end)

  it("returns nil, a message and a code where the world fails", function()
    local result, text, code = profile:write("/no/such/folder/profile.pb.gz")
    assert.is_nil(result)
    assert.matches("/no/such/folder", text)
    assert.are.equal("ENOENT", code)
    local full = io.open("/dev/full", "wb")
    if full then
      result, text, code = profile:write(full)
      assert.is_nil(result)
      assert.matches("No space left", text)
      assert.are.equal("ENOSPC", code)
      full:close()
    end
  end)

  it("refuses other targets", function()
    for _, target in ipairs { 1, true, {}, coroutine.create(function() end) } do
      local ok, text = pcall(function() profile:write(target) end)
      assert.is_false(ok)
      assert.matches("bad argument #1 to 'write' %(path, file or function expected", text)
    end
    assert.is_false(pcall(function() profile:write() end))
    assert.is_false(pcall(function() profile:write(profile) end))
    assert.is_false(pcall(function() profile:write("a\0b") end))
  end)
end)

describe("a snapshot", function()
  it("stays as it was", function()
    local other = cprof.new_profile("write_spec.snapshot")
    other:add(1)
    local data = other:snapshot()
    other:add(2)
    assert.are.equal(1, data:count())
    assert.are.equal("write_spec.snapshot", data:name())
    assert.are.equal("cprof.data: write_spec.snapshot, 1 samples", tostring(data))
    assert.is_nil(data.no_such_field)
    assert.matches("^write_spec.snapshot profile: total 1\n", data:encode { debug = 1 })
    other:remove(1)
    other:remove(2)
    local next_sample = data:samples()
    assert.are.equal(1, next_sample().values[1])
    assert.is_nil(next_sample())
    assert.is_nil(next_sample())
  end)

  it("says where each frame is", function()
    local other = cprof.new_profile("write_spec.frames")
    local line
    local function add_here()
      other:add(1)
      line = 0
    end
    add_here()
    assert.are.equal(0, line)
    local frame = other:snapshot():samples()().frames[1]
    local info = debug.getinfo(add_here, "S")
    assert.are.equal("add_here", frame.name)
    assert.are.equal(info.source:sub(2), frame.file)
    assert.are.equal(info.linedefined, frame.start_line)
    assert.are.equal(info.linedefined + 1, frame.line)
    assert.are.equal("[lua]", frame.mapping)
    assert.is_true(frame.address > 2 ^ 52 and frame.address < 2 ^ 53)
  end)

  it("outlives its handle's iterator", function()
    local samples = profile:snapshot():samples()
    collectgarbage()
    collectgarbage()
    assert.are.equal(1, samples().values[1])
  end)

  it("raises where it was finalized before what uses it", function()
    local told = {}
    -- Leaves an object and data behind. Finalizers run in the order opposite to that in which they were made.
    local function abandon()
      local uses
      local function finalizer()
        for i, use in ipairs(uses) do
          local done, message = pcall(use)
          told[i] = not done and message
        end
      end
      local newproxy = rawget(_G, "newproxy")
      local user = newproxy and newproxy(true) or setmetatable({}, { __gc = finalizer })
      getmetatable(user).__gc = finalizer
      local data = profile:snapshot()
      uses = {
        data:samples(),
        function() return data:count() end,
        function() return data:encode() end,
        function() return data:samples() end,
        function() return data.sample_types end,
        function() return tostring(data) end,
      }
      uses.user = user
    end
    abandon()
    collectgarbage()
    collectgarbage()
    assert.are.equal(6, #told)
    for _, message in ipairs(told) do
      assert.matches("this data was collected", message)
    end
  end)
end)
