-- SPDX-License-Identifier: MIT
--- What `lua/bin/cprof` starts, with the folder of our Lua files, the folder of our modules ("": those of the
-- environment) and the interpreter that runs this, before the command's own arguments. The folders come as arguments
-- because the environment is the profiled program's too.
-- @script cprof.main

local function find_modules(scripts, modules)
  package.path = scripts .. "/?.lua;" .. package.path
  if modules ~= "" then
    package.cpath = modules .. "/?.so;" .. package.cpath
  end
end

local function rest(first)
  local list = {}
  for index = first, #arg do
    list[#list + 1] = arg[index]
  end
  return list
end

find_modules(arg[1], arg[2])
os.exit(require("cprof.cli").main(rest(4), arg[3]))
