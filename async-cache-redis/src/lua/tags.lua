-- The tag table: for each tag the sequence of its last invalidation, which voids every value that
-- has the tag and was granted before it. No member sets: a value carries its tags in its frame.
--
-- Two hashes, so that no search for old tags is needed: new tags go to T; when T is full or old, it
-- becomes U, and the former U is dropped. The tag floor `tf` covers the dropped tags: tagged values
-- granted below it are void. That is sound for any dropped tag, and costs only values which outlived
-- two halves of the table.
--
-- Of M: `tf` tag floor, `tl` last tag change, `ts` and `us` marks of T and U, `tt` time T was begun,
-- `ml` longest life given to a tagged value.

local T, U = home .. 'T', home .. 'U'

-- Splits packed tags: for each its length in one byte, then its bytes.
local function unpacked(text, at, stop)
  local tags = {}
  while at <= stop and #tags < MAX_TAGS do
    local length = string.byte(text, at)
    tags[#tags + 1] = string.sub(text, at + 1, math.min(at + length, stop))
    at = at + 1 + length
  end
  return tags
end

-- The tags of a value or frame whose length of extensions stands at `at`; nil if it has none.
local function tags_in(value, at)
  if #value < at + 3 then
    return nil
  end
  local length = struct.unpack('>I4', value, at)
  at = at + 4
  local stop = math.min(at + length - 1, #value)
  while at + 2 <= stop do
    local kind, size = struct.unpack('>BI2', value, at)
    at = at + 3
    if kind == TAGS_KIND then
      return unpacked(value, at, math.min(at + size - 1, stop))
    end
    at = at + size
  end
end

-- Whether one half of the table has a tag with a later number. Its mark is the field without a
-- name: a table that was evicted or overwritten does not have the mark M knows, and then anything
-- may have been invalidated.
local function later(half, mark, tags, seq)
  if not mark then
    return false
  end
  local found = redis.pcall('HMGET', half, '', unpack(tags))
  if found.err or found[1] ~= mark then
    return true
  end
  for i = 2, #found do
    if found[i] and (number(found[i]) or math.huge) > seq then
      return true
    end
  end
  return false
end

-- Whether the invalidation of a tag has made a value granted at `seq` void.
local function voided(tags, seq)
  local meta = redis.call('HMGET', M, 'tl', 'tf', 'ts', 'us')
  local last = number(meta[1])
  if not last or seq >= last then
    return false
  end
  return seq < (number(meta[2]) or 0)
    or later(T, meta[3], tags, seq)
    or later(U, meta[4], tags, seq)
end

-- How long a tagged value may live decides how long the table must remember.
local function note_life(ms)
  if tonumber(ms) > (number(redis.call('HGET', M, 'ml')) or 0) then
    redis.call('HSET', M, 'ml', ms)
  end
end
