-- SPDX-License-Identifier: MIT
--
-- A client of a blob server, whose users want to know how many blobs they hold open, and who opened them: each open
-- blob is an entry of the profile "blobstore.Open".

local cprof = require "cprof"

local open_blobs = cprof.new_profile("blobstore.Open")

local Blob = {}
Blob.__index = Blob

local blobstore = {}

-- Opens a blob. Whoever opens one closes it when it is no longer in use.
function blobstore.Open(name)
    local blob = setmetatable({ name = name }, Blob)
    open_blobs:add(blob, 2) -- the stack from here, less `add` and Open: it begins with the caller of Open
    return blob
end

-- Closes the blob.
function Blob:Close()
    open_blobs:remove(self)
end

return blobstore
