-- SPDX-License-Identifier: MIT
--
-- The script of the host: opens 600 blobs, half of them in a coroutine, and closes 200. open_blob is the host's C
-- function.

local open_blob = open_blob

blobs = {} -- a global, so that they stay open when the script has ended

local function download(number)
    blobs[#blobs + 1] = open_blob("download-" .. number)
end

local function stream(number)
    blobs[#blobs + 1] = open_blob("stream-" .. number)
end

for number = 1, 300 do
    download(number)
end

local next_stream = coroutine.wrap(function()
    for number = 1, 300 do
        stream(number)
        coroutine.yield()
    end
end)
for _ = 1, 300 do
    next_stream()
end

for _ = 1, 200 do
    table.remove(blobs):close()
end
