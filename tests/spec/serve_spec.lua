-- SPDX-License-Identifier: MIT
--
-- serve: the handle and its life. What the server answers is tested by the C and end-to-end tests.

local cprof = require "cprof"

-- The status line for a request, by the shell's own sockets: the tests need no Lua library for it.
local function get(port, path)
  local script = "exec 3<>/dev/tcp/127.0.0.1/%d && printf \"GET %s HTTP/1.0\\r\\n\\r\\n\" >&3 && head -1 <&3"
  local pipe = io.popen("bash -c '" .. script:format(port, path) .. "' 2>/dev/null")
  local line = pipe:read("*l") or ""
  pipe:close()
  return line:match("^HTTP/1%.[01] (%d+)")
end

describe("serve", function()
  it("listens on a free port of this host until it is stopped", function()
    local server = assert(cprof.serve())
    assert.are.equal("127.0.0.1", server.address)
    assert.is_true(server.port > 0)
    assert.are.equal("cprof.server: 127.0.0.1:" .. server.port, tostring(server))
    assert.are.equal("200", get(server.port, "/debug/pprof/"))
    server:stop()
    server:stop()
    assert.matches("stopped", tostring(server))
    assert.is_nil(get(server.port, "/debug/pprof/"))
  end)

  it("goes on when its handle is dropped", function()
    local port = assert(cprof.serve()).port
    for _ = 1, 3 do
      collectgarbage()
    end
    assert.are.equal("200", get(port, "/debug/pprof/"))
  end)

  it("returns nil, a message and a code where the port is taken", function()
    local first = assert(cprof.serve { port = 0 })
    local second, text, code = cprof.serve { port = first.port }
    assert.is_nil(second)
    assert.matches(tostring(first.port), text, 1, true)
    assert.are.equal("EADDRINUSE", code)
    first:stop()
  end)

  it("refuses odd options", function()
    for _, options in ipairs { { prt = 1 }, { port = -1 }, { port = 65536 }, { port = "1" }, { address = 1 },
      { address = "no address" }, 1 } do
      local ok, text = pcall(function() cprof.serve(options) end)
      assert.is_false(ok)
      assert.matches("bad argument #1 to 'serve'", text)
    end
  end)

  it("can be a to-be-closed variable", function()
    local compile = rawget(_G, "loadstring") or load
    local scope = compile("local cprof = ...; local server <close> = assert(cprof.serve()); return server")
    if scope then
      assert.matches("stopped", tostring(scope(cprof)))
    end
  end)
end)

describe("the module", function()
  it("says its version and makes no globals", function()
    assert.matches("^cprof %d+%.%d+%.%d+$", cprof._VERSION)
    assert.is_nil(rawget(_G, "cprof"))
    assert.is_nil(cprof.no_such_function)
  end)
end)
