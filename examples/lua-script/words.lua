-- SPDX-License-Identifier: MIT
--
-- Counts words, in Lua and in C (string.gmatch, table.sort), and says where its CPU time went:
--
--     words.lua [FILE]          the profile goes to FILE too, for `go tool pprof`; words.pb.gz where none is given

local cprof = require "cprof"

local text = ("the quick brown fox jumps over the lazy dog and the dog sleeps on "):rep(2000)

local function count_words()
    local counts = {}
    for word in text:gmatch("%a+") do
        counts[word] = (counts[word] or 0) + 1
    end
    return counts
end

local function sorted(counts)
    local words = {}
    for word, count in pairs(counts) do
        for copy = 1, count % 1000 do
            words[#words + 1] = word .. copy
        end
    end
    table.sort(words)
    return words
end

local recording = assert(cprof.start_cpu_profile { output = arg[1] or "words.pb.gz" })
local began = os.clock()
while os.clock() - began < 1 do
    sorted(count_words())
end
local data = recording:stop()

-- A sample's values are how often it was seen and its CPU time in nanoseconds.
local total, flat = 0, {}
for sample in data:samples() do
    local leaf = sample.frames[1].name
    flat[leaf] = (flat[leaf] or 0) + sample.values[2]
    total = total + sample.values[2]
end
local leaves = {}
for leaf in pairs(flat) do
    leaves[#leaves + 1] = leaf
end
table.sort(leaves, function(a, b) return flat[a] > flat[b] end)
for i = 1, math.min(5, #leaves) do
    print(("%5.1f%%  %s"):format(100 * flat[leaves[i]] / total, leaves[i]))
end
