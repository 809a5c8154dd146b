-- SPDX-License-Identifier: MIT
--
-- A Lua program that serves its profiles and never rests (cpu_http_test.sh): three quarters of its time go into
-- burn_much, the rest into burn_little. It prints its address.

local cprof = require "cprof"

local function burn_much()
  local sum = 0
  for i = 1, 300000 do
    sum = sum + i % 7
  end
  return sum
end

local function burn_little()
  local sum = 0
  for i = 1, 100000 do
    sum = sum + i % 7
  end
  return sum
end

local server = assert(cprof.serve())
io.stdout:write("http://127.0.0.1:", server.port, "\n")
io.stdout:flush()
while true do
  burn_much()
  burn_little()
end
