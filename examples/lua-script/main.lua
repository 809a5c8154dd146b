-- SPDX-License-Identifier: MIT
--
-- Opens 1000 blobs in 1000 coroutines, of which 200 finish their work, and lets anyone ask over HTTP what is still
-- open:
--
--     main.lua [PORT]          8888 where no port is given, 0 for any free one

local folder = arg[0]:match("^(.*)/") or "."
package.path = folder .. "/?.lua;" .. package.path

local cprof = require "cprof"
local blobstore = require "blobstore"

local function handle_task(number)
    local blob = blobstore.Open("task-blob-" .. number)
    coroutine.yield() -- some work, writing to the blob
    blob:Close()
end

local tasks = {}
for number = 1, 1000 do
    tasks[number] = coroutine.create(function()
        handle_task(number)
    end)
    assert(coroutine.resume(tasks[number]))
end
for number = 1, 200 do
    assert(coroutine.resume(tasks[number]))
end

local server, message = cprof.serve { address = "127.0.0.1", port = tonumber(arg[1] or 8888) }
if not server then
    io.stderr:write("main.lua: ", message, "\n")
    os.exit(1)
end
print(("blobs are open; now try\n\n    go tool pprof -top http://localhost:%d/debug/pprof/blobstore.Open\n")
    :format(server.port))
io.stdout:flush()

-- The server has a thread of its own; this is the program going about its business until Ctrl-C.
repeat
    local slept = os.execute("sleep 1")
until slept ~= true and slept ~= 0
server:stop()
