-- SPDX-License-Identifier: MIT
--- The command `cprof`.
--
-- `run` and `record` become the program that they profile: there is no parent that waits, so its exit status, its
-- signals and its terminal are its own. What records is libcprof_preload.so, which the loader brings into the program
-- and which writes the file and the summary when the program ends.
--
-- Exit codes before a program runs: 1 something is missing; 2 misuse; 126 the program cannot be recorded; 127 it is
-- not found.
--
-- @module cprof.cli

local argparse = require "argparse"
local process = require "cprof.process"

local cli = {}

local function complain(text, status)
  io.stderr:write("cprof: ", text, "\n")
  return status
end

-- ---- cprof.process, in C ----

--- Looks for a program as a shell does.
-- @function process.find
-- @tparam string name its name or path
-- @treturn[1] string its path
-- @treturn[2] nil where there is none that may be run
-- @treturn[2] string a message
-- @treturn[2] boolean whether there is a file of that name

--- Whether a program can be recorded by preloading.
-- @function process.check
-- @tparam string path the program
-- @treturn[1] boolean true
-- @treturn[2] string what follows the "#!", where it is a script
-- @treturn[3] nil where it cannot
-- @treturn[3] string a message that says why

--- Becomes another program.
-- @function process.exec
-- @tparam string path the program
-- @tparam {string,...} arguments its arguments, from its name on
-- @tparam table environment what changes: names to values, false for what goes
-- @treturn nil where it cannot
-- @treturn string a message

--- Whether a file can be written.
-- @function process.writable
-- @tparam string file its path
-- @treturn[1] boolean true
-- @treturn[2] nil where its folder is not there, or may not be written
-- @treturn[2] string a message

--- Where a library of cprof's lies.
-- @function process.library
-- @tparam string name its file name
-- @treturn[1] string its path
-- @treturn[2] nil where it is not there
-- @treturn[2] string a message

-- ---- Options ----

-- Those of both subcommands. One that takes a value has a placeholder for it.
local COMMON = {
  { "--cpu", "record where CPU time goes (the default)" },
  { "--hz", "samples a second, 1 to 4000 (100)", value = "N" },
  { "--mode", "cpu: time that threads run (the default); wall: also time that they wait", value = "MODE" },
  { "--engine", "what makes the samples: perf, timer or monotonic; the best that works", value = "ENGINE" },
}

local RUN = {
  name = "run",
  description = "Runs a Lua script as its interpreter would and profiles it. What follows the script's name is the "
    .. "script's own. The interpreter is --lua's, else that of the script's #! line, else the one that runs cprof.",
  epilog = "Example: cprof run --hz=1000 -o fib.pb.gz fib.lua 32\n         go tool pprof -top fib.pb.gz",
  target = "script",
  target_description = "the script; - is standard input",
  output = "the file (cprof.SCRIPT.cpu.pb.gz); %p in it is the process's id, %% a %",
  options = { { "--lua", "the interpreter", value = "LUA" } },
}

local RECORD = {
  name = "record",
  description = "Runs any dynamically linked program and profiles it, and the programs that it starts, which write "
    .. "files of their own: FILE.PID. Lua frames are shown where it is or embeds Lua.",
  epilog = "Example: cprof record -o sort.pb.gz -- sort --parallel=2 words\n         go tool pprof -top sort.pb.gz",
  target = "program",
  target_description = "the program, looked for in PATH",
  output = "the file (cprof.PROGRAM.cpu.pb.gz); %p in it is the process's id, %% a %",
  options = {},
}

local function add_options(parser, options)
  for _, option in ipairs(options) do
    if option.value then
      parser:option(option[1], option[2]):argname(option.value)
    else
      parser:flag(option[1], option[2])
    end
  end
end

local function new_parser(command)
  local parser = argparse("cprof " .. command.name, command.description, command.epilog):help_max_width(100)
  add_options(parser, COMMON)
  parser:option("-o --output", command.output):argname("FILE")
  add_options(parser, command.options)
  parser:argument(command.target, command.target_description)
  parser:argument("arguments", "its arguments"):args("*")
  return parser
end

-- Whether an option's value is the argument after it.
local function takes_next(command, argument)
  if argument == "-o" or argument == "--output" then
    return true
  end
  for _, options in ipairs { COMMON, command.options } do
    for _, option in ipairs(options) do
      if option[1] == argument then
        return option.value ~= nil
      end
    end
  end
  return false
end

-- Parts the command's own options from the program and its arguments, which are nobody else's to read.
local function part(command, arguments)
  local own, index = {}, 1
  while index <= #arguments and arguments[index]:find("^%-.") and arguments[index] ~= "--" do
    own[#own + 1] = arguments[index]
    if takes_next(command, arguments[index]) then
      index = index + 1
      own[#own + 1] = arguments[index]
    end
    index = index + 1
  end
  if arguments[index] == "--" then
    index = index + 1
  end
  local rest = {}
  for i = index, #arguments do
    rest[#rest + 1] = arguments[i]
  end
  return own, rest
end

-- What is wrong with the values; argparse has seen to the rest.
local function wrong_value(options)
  local hz = options.hz or "100" -- in digits alone, as the preloaded library reads it
  if not hz:find("^%d+$") or tonumber(hz) < 1 or tonumber(hz) > 4000 then
    return "--hz must be a whole number from 1 to 4000"
  end
  if options.mode and options.mode ~= "cpu" and options.mode ~= "wall" then
    return "--mode must be cpu or wall"
  end
  local engine = options.engine
  if engine and engine ~= "perf" and engine ~= "timer" and engine ~= "monotonic" then
    return "--engine must be perf, timer or monotonic"
  end
  if options.mode == "wall" and engine and engine ~= "monotonic" then
    return "--mode=wall goes with --engine=monotonic only"
  end
end

-- Returns the options and the rest, or nil and an exit status.
local function parse(command, arguments)
  local own, rest = part(command, arguments)
  if #rest > 0 then
    own[#own + 1] = "--"
    own[#own + 1] = rest[1]
  end
  local ok, options = new_parser(command):pparse(own)
  local wrong = ok and wrong_value(options) or not ok and options
  if wrong then
    wrong = wrong:gsub("\n", "; "):gsub("Did", "did")
    return nil, complain(("%s (try 'cprof %s --help')"):format(wrong, command.name), 2)
  end
  return options, rest
end

-- ---- Programs ----

-- The words of a #! line, as the kernel and env take them: an interpreter and one argument, but `env -S` parts that.
local function shebang_words(line)
  local interpreter, argument = line:match("^%s*(%S+)%s*(.-)%s*$")
  local words = { interpreter }
  if interpreter and interpreter:find("/env$") then
    for word in argument:gsub("^%-S%s*", ""):gmatch("%S+") do
      words[#words + 1] = word
    end
    table.remove(words, 1)
  elseif argument ~= "" then
    words[2] = argument
  end
  return words
end

-- Whether the program NAME, and what interprets it where it is a script, can be recorded. Returns its path, or nil and
-- an exit status.
local function check(name, depth)
  local path, message, there = process.find(name)
  if not path then
    return nil, complain(message, there and 126 or 127)
  end
  local kind
  kind, message = process.check(path)
  if not kind then
    return nil, complain(message, 126)
  end
  if kind ~= true then
    local interpreter = shebang_words(kind)[1]
    if not interpreter or depth > 4 then
      return nil, complain(path .. ": its #! line names no program", 126)
    end
    local found, status = check(interpreter, depth + 1)
    if not found then
      return nil, status
    end
  end
  return path
end

-- The words that run SCRIPT: --lua's, the script's own, or INTERPRETER. Returns nil and an exit status where there is
-- no such script.
local function interpreter_words(options, script, interpreter)
  if options.lua then
    return { options.lua }
  end
  if script ~= "-" then
    local file, message = io.open(script, "rb")
    local line = file and file:read("*l")
    if file then
      file:close()
    end
    if not file then
      return nil, complain(message, 127)
    end
    local words = line and line:sub(1, 2) == "#!" and shebang_words(line:sub(3))
    if words and words[1] then
      return words
    end
  end
  return { interpreter }
end

-- ---- Recording ----

-- "dir/fib.lua" gives "cprof.fib.cpu.pb.gz". What is returned may be given to -o: a "%" of the name is doubled.
local function default_output(target)
  local name = target:match("([^/]*)$"):gsub("%.lua$", ""):gsub("%%", "%%%%")
  return ("cprof.%s.cpu.pb.gz"):format((name == "" or name == "-") and "stdin" or name)
end

-- What the program's environment has more, or less, than ours. The launcher put LUA_INIT aside.
local function environment(options, output, preload, follow)
  local others = os.getenv("LD_PRELOAD")
  local changes = {
    LD_PRELOAD = others and others ~= "" and preload .. ":" .. others or preload,
    CPROF_OUTPUT = output,
    CPROF_HZ = options.hz and ("%d"):format(tonumber(options.hz)) or false,
    CPROF_MODE = options.mode or false,
    CPROF_ENGINE = options.engine or false,
    CPROF_FOLLOW = not follow and "0",
    CPROF_ROOT = false,
    CPROF_STDERR = false,
  }
  for _, name in ipairs { "LUA_INIT", "LUA_INIT_5_2", "LUA_INIT_5_3", "LUA_INIT_5_4" } do
    local kept = "CPROF_KEPT_" .. name
    changes[name] = os.getenv(kept)
    changes[kept] = false
  end
  return changes
end

-- Becomes WORDS[1] with recording on. Returns an exit status where it cannot.
local function become(words, options, output, follow)
  local path, status = check(words[1], 1)
  if not path then
    return status
  end
  local preload, message = process.library("libcprof_preload.so")
  if not preload then
    return complain(message, 1)
  end
  if preload:find("[ :]") then
    return complain(preload .. ": LD_PRELOAD takes no path with blanks or colons", 1)
  end
  local writable
  writable, message = process.writable((output:gsub("%%%%", "%%")))
  if not writable then
    return complain(message, 1)
  end
  local _, wrong = process.exec(path, words, environment(options, output, preload, follow))
  return complain(wrong, 126)
end

local function run(arguments, interpreter)
  local options, rest = parse(RUN, arguments)
  if not options then
    return rest
  end
  local words, status = interpreter_words(options, rest[1], interpreter)
  if not words then
    return status
  end
  for _, word in ipairs(rest) do
    words[#words + 1] = word
  end
  return become(words, options, options.output or default_output(rest[1]), false)
end

local function record(arguments)
  local options, rest = parse(RECORD, arguments)
  if not options then
    return rest
  end
  return become(rest, options, options.output or default_output(rest[1]), true)
end

-- ---- The command ----

local USAGE = [[
Usage: cprof COMMAND …

Profiles of C programs and Lua scripts, as files that pprof reads.

  run      runs a Lua script and profiles it:   cprof run fib.lua 32
  record   runs any program and profiles it:    cprof record -- ./server --port=80

'cprof COMMAND --help' tells more.
]]

local COMMANDS = { run = run, record = record }

--- Runs the command.
-- @tparam {string,...} arguments what the person wrote after "cprof"
-- @tparam string interpreter the Lua that runs this: `run`'s where the script names none
-- @treturn integer the exit status
function cli.main(arguments, interpreter)
  local name = arguments[1]
  if name == "--help" or name == "-h" or name == "help" then
    io.write(USAGE)
    return 0
  end
  if name == "--version" then
    io.write(require("cprof")._VERSION, "\n")
    return 0
  end
  if not name then
    return complain("which command? (try 'cprof --help')", 2)
  end
  local command = COMMANDS[name]
  if not command then
    return complain(("no command '%s' (try 'cprof --help')"):format(name), 2)
  end
  local rest = {}
  for index = 2, #arguments do
    rest[index - 1] = arguments[index]
  end
  return command(rest, interpreter)
end

return cli
