-- SPDX-License-Identifier: MIT
--- Profiles for Lua scripts, after Go's `runtime/pprof` and `net/http/pprof`.
--
-- A profile is a named collection of stacks. A program adds an entry when something begins to live and removes it
-- when that ends; anyone may ask at any time who opened what is still open, also over HTTP with `go tool pprof`.
--
-- Misuse raises an error that names the argument. Where the world fails (a full disk, a port in use), functions
-- return nil, a message and a code such as "ENOSPC".
--
-- @module cprof
-- @usage
-- local cprof = require "cprof"
-- local open_blobs = cprof.new_profile("blobstore.Open")
--
-- function blobstore.open(name)
--   local blob = { name = name }
--   open_blobs:add(blob, 2) -- blame the caller of blobstore.open
--   return blob
-- end
--
-- function blobstore.close(blob)
--   open_blobs:remove(blob)
-- end
--
-- local server = assert(cprof.serve { port = 8888 })

local core = require "cprof.core"

local cprof = {}

--- The version, as "cprof 0.1.0".
cprof._VERSION = core._VERSION

--- Defines a profile.
-- A profile of that name which another Lua state or C code made, with the same sample types, is shared.
-- @function new_profile
-- @tparam string name any text but the name of a built-in profile; by convention "module.what"
-- @tparam[opt] table options `sample_types`: a list of one to four `{type, unit}`, the columns of its values; when
--   it is left out, one column `{name, "count"}`
-- @treturn Profile the profile
-- @raise where the name is empty, built-in or already defined in this state, or exists with other sample types
-- @usage
-- local reads = cprof.new_profile("blob.reads", { sample_types = { { "reads", "count" }, { "bytes", "bytes" } } })
cprof.new_profile = core.new_profile

--- Finds a profile by its name.
-- @function lookup
-- @tparam string name its name
-- @treturn ?Profile the profile, or nil
-- @raise where name is no string
-- @usage local heap = cprof.lookup("heap")
cprof.lookup = core.lookup

--- Lists all profiles of the process.
-- @function profiles
-- @treturn {Profile,...} the profiles, sorted by name
-- @usage for _, profile in ipairs(cprof.profiles()) do print(profile:name(), profile:count()) end
cprof.profiles = core.profiles

--- Makes a set of labels to give to entries. Making it once and using it often is cheap.
-- @function labels
-- @tparam table labels string keys; values are strings, or integers, for which `go tool pprof` takes the key as unit
-- @treturn Labels the set; equal sets compare equal
-- @raise where a key or value has another type
-- @usage local set = cprof.labels { route = "/blob" }; open_blobs:add(blob, { labels = set })
cprof.labels = core.labels

--- Calls a function under labels.
-- While it runs, the labels appear on CPU samples and on all entries and events, beside the labels from before, over
-- which they take precedence; a label of an entry's own takes precedence over both. Afterwards, also where the function
-- raised, the labels are as they were. They belong to the coroutine: the function may yield, and be resumed under
-- other labels; and coroutines that it creates have them as well, for as long as they live. Where OpenResty ends a
-- request inside (`ngx.exit`, `ngx.redirect`), the next one in the same coroutine has none of them.
--
-- An error keeps its value. On Lua 5.4 a message handler further out also sees the whole stack; elsewhere it sees the
-- stack from here on.
-- @function with_labels
-- @tparam Labels|table set what `labels` returns, or takes
-- @tparam function fn the function
-- @param ... its arguments
-- @return what the function returns
-- @raise where set holds no labels or fn cannot be called, and what the function raised
-- @usage local body = cprof.with_labels({ route = "/blob" }, handle, request)
cprof.with_labels = core.with_labels

--- Gives the running coroutine labels, in the place of those it has, until it is given others.
-- They appear on CPU samples and on all entries and events; coroutines that it creates from now on have them as well.
-- On LuaJIT a coroutine that was created before the first labels, or by a C host, has those of the one that resumes it.
-- OpenResty runs one request after the other in the same coroutine. What was set by one ends where the next runs other
-- code; where it runs the same code, or leaves it by a tail call, it has those labels until it sets its own. There
-- `with_labels` is better, which always takes them back.
-- @function set_labels
-- @tparam ?Labels|table set what `labels` returns, or takes; nil: no labels
-- @treturn ?Labels the labels from before, or nil where there were none
-- @raise where set holds no labels
-- @usage local old = cprof.set_labels { phase = "load" }; load_all(); cprof.set_labels(old)
cprof.set_labels = core.set_labels

--- Sets how many frames of a stack are kept at most, from now on.
-- @function set_prof_stack_depth
-- @tparam integer depth from 1 to 1024; 128 at first
-- @treturn integer the depth before
-- @raise where depth is out of range
-- @usage cprof.set_prof_stack_depth(256)
cprof.set_prof_stack_depth = core.set_prof_stack_depth

--- Starts to record where all threads of the process spend their CPU time, in C and in Lua.
-- Any number of recordings run at once. A recording runs until it is stopped or the state is closed; dropping the
-- handle stops nothing.
-- @function start_cpu_profile
-- @tparam[opt] table options `hz` (samples a second of CPU time, 1 to 4000; 100), `output` (a file written when
--   the recording stops, or the process exits or is ended by SIGINT or SIGTERM; "%p" in it is the process's id, "%%" a
--   "%"), `mode` ("cpu", or "wall": threads that wait are sampled too), `engine` ("perf", "timer" or "monotonic"; by
--   default the first of these that the system allows; while recordings of the same mode run, no other than theirs)
-- @treturn[1] Recording the recording
-- @treturn[2] nil where it cannot be started, or the output not be written
-- @treturn[2] string a message
-- @treturn[2] string a code, as "EACCES"
-- @raise where an option is unknown or makes no sense
-- @usage local recording = assert(cprof.start_cpu_profile { output = "cpu.pb.gz" }); work(); recording:stop()
cprof.start_cpu_profile = core.start_cpu_profile

--- Sets how much of what is allocated is sampled for the profiles "heap" and "allocs".
-- Each byte has the same chance, and the samples are scaled to stand for all: columns are alloc_objects, alloc_space,
-- inuse_objects and inuse_space. Until this is called (or `serve`), both are off, and `snapshot` and `write` say so. It
-- covers what this Lua state allocates from now on, in C and in Lua; other states take part once they use cprof. On Lua
-- 5.2 and later the label `lua_type` says what for.
--
-- What is allocated is shown under the function that asked for it; where the line cannot be had in the middle of an
-- allocation, it is that of the next instruction that can be seen.
-- @function set_mem_profile_rate
-- @tparam integer rate one sample in so many bytes, on average; 524288 (512 KiB) is usual; 1: all, exactly; 0: off, and
--   what was sampled is forgotten
-- @treturn integer the rate before; 0 at first
-- @raise where rate is no integer, negative, or more than 2^40
-- @usage cprof.set_mem_profile_rate(524288); work(); cprof.lookup("heap"):write("heap.pb.gz")
cprof.set_mem_profile_rate = core.set_mem_profile_rate

--- Tells how much of what is allocated is sampled.
-- @function mem_profile_rate
-- @treturn integer the rate; 0: nothing
-- @usage if cprof.mem_profile_rate() == 0 then cprof.set_mem_profile_rate(524288) end
cprof.mem_profile_rate = core.mem_profile_rate

--- Says whether malloc and its like are sampled as well, wherever the program's libraries call them.
-- Turned on, it turns on the profiles too, at 524288 where there is no rate yet. Turned off, what it took over is given
-- back.
-- @function set_native_heap
-- @tparam boolean on
-- @treturn[1] boolean what was before
-- @treturn[2] nil where the program's allocator lacks a function
-- @treturn[2] string a message
-- @treturn[2] string a code, "ESYSTEM"
-- @raise where on is no boolean
-- @usage cprof.set_native_heap(true)
cprof.set_native_heap = core.set_native_heap

--- Serves all profiles under /debug/pprof/, from a thread of its own.
-- The server runs until it is stopped or the state is closed; dropping the handle stops nothing. It turns the profiles
-- "heap" and "allocs" on, at a rate of 524288, where they are off (see `set_mem_profile_rate`).
-- @function serve
-- @tparam[opt] table options `address` (numeric; "127.0.0.1"), `port` (0, the default: any free one)
-- @treturn[1] Server the server
-- @treturn[2] nil where it cannot listen
-- @treturn[2] string a message
-- @treturn[2] string a code, as "EADDRINUSE"
-- @raise where an option is unknown or makes no sense
-- @usage local server = assert(cprof.serve { port = 8888 }); print(server.port); server:stop()

--- A profile.
-- @type Profile

--- Adds an entry for a key, with the stack of the call.
-- The key is not kept alive, unless it is a string or a number, which compare by value. A key that is collected
-- leaves its entry behind.
-- @function Profile:add
-- @param key any value that can index a table
-- @tparam[opt=1] integer|table options a skip, or a table with `skip` (0 shows `add` itself, 1 the function that
--   called it, 2 that function's caller; where no frame is left, "[skipped]" is shown), `labels` (from
--   `cprof.labels`), `values` (one for each column)
-- @raise where the key is nil, NaN or has an entry already, or an option is wrong; nothing is changed then
-- @usage open_blobs:add(blob, 2)
-- @usage open_blobs:add(blob, { skip = 2, labels = set })

--- Removes the entry of a key.
-- @function Profile:remove
-- @param key what was added
-- @treturn boolean false where there was no entry
-- @raise where no key is given
-- @usage open_blobs:remove(blob)

--- Counts an event at the stack of the call: its values are added to those of the same stack, for ever.
-- A profile holds entries or events, never both.
-- @function Profile:record
-- @tparam integer ... a value for each column; none means 1 in the first
-- @tparam[opt] table options `skip`, `labels`, as for `add`
-- @raise where there are more values than columns, or one is no integer
-- @usage reads:record(1, #bytes, { labels = set })

--- How many entries are live, or events were recorded.
-- @function Profile:count
-- @treturn integer the count
-- @usage print(open_blobs:count())

--- The profile's name.
-- @function Profile:name
-- @treturn string the name
-- @usage print(open_blobs:name())

--- The profile as it is now.
-- @function Profile:snapshot
-- @treturn[1] Data its data
-- @treturn[2] nil where memory ran out, or a built-in profile is turned off
-- @treturn[2] string a message
-- @treturn[2] string a code, "ENOMEM" or "EOFF"
-- @usage for sample in open_blobs:snapshot():samples() do print(sample.values[1], sample.frames[1].name) end

--- Writes the profile for pprof.
-- @function Profile:write
-- @tparam string|file|function target a path (the file is whole or as it was), an open file, or a function that is
--   called with the bytes piece by piece, and may return nil and a message to stop
-- @tparam[opt] table options `debug` (1: text), `gzip_level` (0 to 9; 1), `symbolize` (false: leave native code to
--   the reader)
-- @treturn[1] boolean true
-- @treturn[2] nil where it could not be written
-- @treturn[2] string a message
-- @treturn[2] string a code, as "ENOSPC"
-- @raise where an argument is wrong, and what the function raised
-- @usage assert(open_blobs:write("blobs.pb.gz"))

--- The bytes that `write` writes.
-- @function Profile:encode
-- @tparam[opt] table options as for `write`
-- @treturn[1] string the bytes
-- @treturn[2] nil where memory ran out
-- @treturn[2] string a message
-- @treturn[2] string a code, "ENOMEM"
-- @raise where an option is wrong
-- @usage io.write(open_blobs:encode { debug = 1 })

--- What a profile held at one moment. `data.sample_types` is the list of its columns. `data:name()`, `data:count()`,
-- `data:write(target, options)` and `data:encode(options)` are as a profile's.
-- @type Data

--- Iterates over the samples.
-- Each has `values` (a number for each column), `labels`, and `frames` from the leaf to the root, each with `name`,
-- `file`, `line`, `start_line`, `address` and `mapping`.
-- @function Data:samples
-- @treturn function an iterator
-- @usage for sample in data:samples() do total = total + sample.values[1] end

--- A CPU profile that is being recorded; `recording.engine` says by what means. On Lua 5.4 it can be a to-be-closed
-- variable.
-- @type Recording

--- Stops the recording and writes its output. A second stop returns the same data.
-- @function Recording:stop
-- @treturn[1] Data what was recorded, with the columns {"samples", "count"} and {"cpu", "nanoseconds"}
-- @treturn[2] nil where the output could not be written (a second stop returns the data)
-- @treturn[2] string a message
-- @treturn[2] string a code, as "ENOSPC"
-- @usage local data = recording:stop()

--- A server. `server.address` and `server.port` say where it listens. On Lua 5.4 it can be a to-be-closed variable.
-- @type Server

--- Stops the server. A second stop does nothing.
-- @function Server:stop
-- @usage server:stop()

-- The server is another library; it is loaded when it is asked for.
return setmetatable(cprof, {
  __index = function(self, name)
    if name == "serve" then
      local serve = require("cprof.http").serve
      rawset(self, name, serve)
      return serve
    end
  end,
})
