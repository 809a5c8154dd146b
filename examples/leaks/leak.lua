-- SPDX-License-Identifier: MIT
--
-- A program that leaks: each request leaves a closure behind in a table of listeners that nobody empties. Two heap
-- profiles, written some requests apart, tell who keeps what; see README.md.
--
--   leak.lua [FOLDER]   writes before.pb.gz and after.pb.gz there ("." where none is given)

local cprof = require "cprof"

local folder = arg[1] or "."
local listeners = {}

local function parse(request)
  local fields = {}
  for word in request:gmatch "%S+" do
    fields[#fields + 1] = word
  end
  return fields
end

local function subscribe(fields)
  local copy = table.concat(fields, ",")
  listeners[#listeners + 1] = function() -- the leak: this keeps COPY, and nothing takes it out
    return copy
  end
end

local function handle_request(number)
  local fields = parse(("GET /blob/%d HTTP/1.1 "):format(number) .. ("x"):rep(2000))
  subscribe(fields)
  return #fields
end

local function serve_requests(first, last)
  for number = first, last do
    handle_request(number)
  end
end

local function write(name)
  collectgarbage() -- what is garbage by now is no leak
  collectgarbage()
  assert(cprof.lookup("heap"):write(folder .. "/" .. name))
end

cprof.set_mem_profile_rate(4096)
serve_requests(1, 1000)
write "before.pb.gz"
serve_requests(1001, 6000)
write "after.pb.gz"
