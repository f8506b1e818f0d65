-- The tag table: for each tag the sequence of its last invalidation, which voids every value that
-- has the tag and was granted before it. No member sets: a value carries its tags in its frame.
--
-- A tag that has been expired has two numbers, `<last invalidation>:<last expiry>`. The first is 0 if this half
-- knows of none.
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

-- The two numbers of a field. A damaged number counts as the latest invalidation.
local function numbers(field)
  local void, expiry = string.match(field, '^(%d+):(%d+)$')
  return number(void or field) or math.huge, number(expiry) or 0
end

-- What a change of a tag has done to a value.
local VOID, EXPIRED = 2, 1

-- What one half of the table says that changes of these tags have done to a value granted at `seq`. The mark of the
-- half is the field without a name: a table that was evicted or overwritten does not have the mark M knows, and then
-- anything may have been invalidated.
local function done_in(half, mark, tags, seq)
  if not mark then
    return 0
  end
  local found = redis.pcall('HMGET', half, '', unpack(tags))
  if found.err or found[1] ~= mark then
    return VOID
  end
  local done = 0
  for i = 2, #found do
    if found[i] then
      local void, expiry = numbers(found[i])
      if void > seq then
        return VOID
      elseif expiry > seq then
        done = EXPIRED
      end
    end
  end
  return done
end

-- What changes of these tags have done to a value granted at `seq`: VOID, EXPIRED, or 0.
local function done_by(tags, seq)
  local meta = redis.call('HMGET', M, 'tl', 'tf', 'ts', 'us')
  local last = number(meta[1])
  if not last or seq >= last then
    return 0
  elseif seq < (number(meta[2]) or 0) then
    return VOID
  end
  return math.max(done_in(T, meta[3], tags, seq), done_in(U, meta[4], tags, seq))
end

-- How long a tagged value may live decides how long the table must remember.
local function note_life(ms)
  if tonumber(ms) > (number(redis.call('HGET', M, 'ml')) or 0) then
    redis.call('HSET', M, 'ml', ms)
  end
end
