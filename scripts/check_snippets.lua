-- SPDX-License-Identifier: MIT
--
-- What a page shows is what runs: lua5.4 check_snippets.lua PAGE.md. A fenced block that follows a comment of the form
--
--     <!-- from examples/lua-script/blobstore.lua -->
--
-- stands, line by line, in that file (blanks at the start of lines aside; a line "..." in the block passes over any
-- number of lines of the file). Prints PAGE:LINE: TEXT for each line that is missing, and fails if there was one.

local page = assert(arg[1], "which page?")

local function trimmed_lines(file)
    local lines = {}
    for line in io.lines(file) do
        lines[#lines + 1] = line:match("^%s*(.-)%s*$")
    end
    return lines
end

-- Whether BLOCK[i..] stands in FILE[j..]; also the first line of the block that no way of reading it could place.
local function matches(block, file, i, j, reached)
    reached.line = math.max(reached.line, math.min(i, #block))
    if i > #block then
        return true
    elseif block[i] == "..." then
        for next_j = j, #file + 1 do
            if matches(block, file, i + 1, next_j, reached) then
                return true
            end
        end
        return false
    end
    return block[i] == file[j] and matches(block, file, i + 1, j + 1, reached)
end

local function find(block, file)
    local reached = { line = 1 }
    for j = 1, #file do
        if matches(block, file, 1, j, reached) then
            return true
        end
    end
    return false, reached.line
end

local wrong, snippets = 0, 0
local source, block, start
for number, line in ipairs(trimmed_lines(page)) do
    if block and line:find("^```") then
        local handle = io.open(source)
        local found, at = false, 1
        if handle then
            handle:close()
            found, at = find(block, trimmed_lines(source))
        end
        if not found then
            wrong = wrong + 1
            print(("%s:%d: not in %s: %s"):format(page, start + at, source, block[at] or ""))
        end
        snippets = snippets + 1
        source, block = nil, nil
    elseif block then
        block[#block + 1] = line
    elseif source and line:find("^```") then
        block, start = {}, number
    else
        source = line:match("^<!%-%- from ([^ ]+) %-%->$") or (line == "" and source) or nil
    end
end
if snippets == 0 then
    wrong = wrong + 1
    print(page .. ":1: shows no code of the examples")
end
os.exit(wrong == 0)
