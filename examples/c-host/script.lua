-- SPDX-License-Identifier: MIT
--
-- The script of the host: opens 600 blobs, half of them in a coroutine, and closes 200. open_blob is the host's C
-- function.

local open_blob = open_blob

blobs = {} -- a global, so that they stay open when the script has ended

local function download(number)
    blobs[#blobs + 1] = open_blob("download-" .. number)
end

local function stream(first, last)
    for number = first, last do
        blobs[#blobs + 1] = open_blob("stream-" .. number)
        coroutine.yield()
    end
end

for number = 1, 300 do
    download(number)
end

local step = coroutine.wrap(stream)
for _ = 1, 300 do
    step(1, 300)
end

for _ = 1, 200 do
    table.remove(blobs):close()
end
