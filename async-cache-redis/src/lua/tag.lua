-- Invalidates or expires tags. The work does not depend on the size of the partition.
--
-- KEYS M T U; ARGV[4] tags, packed, ARGV[5] most tags in one half of the table, ARGV[6] time (ms)
-- that a load may take, ARGV[7] 'T' to invalidate, 'X' to expire. Answers the sequence number.

-- See epoch.lua: makes the rest go through when memory is full.
redis.call('PERSIST', M)
-- Marks and floors are about the changes before this one.
local last = s
local seq, refused = change(ARGV[7] .. ':', ':' .. ARGV[4])
if not seq then
  return refused
end
local tags = unpacked(ARGV[4], 1, #ARGV[4])
local now = millis()
local meta = redis.call('HMGET', M, 'ts', 'us', 'tt', 'ml', 'tl', 'tf')
local mark, floor = meta[1], number(meta[6]) or 0

if mark and redis.pcall('HGET', T, '') ~= mark then
  -- Evicted or overwritten: its tags are not known any more.
  floor = math.max(floor, number(meta[5]) or last)
  redis.call('UNLINK', T, U)
  redis.call('HDEL', M, 'us')
  mark = nil
elseif mark then
  local old = now - (number(meta[3]) or 0) > (number(meta[4]) or 0) + tonumber(ARGV[6])
  if old or redis.call('HLEN', T) + #tags > tonumber(ARGV[5]) then
    -- U is dropped. Its numbers are not above the mark of T, which is the sequence at which T was begun.
    floor = math.max(floor, number(mark) or last)
    redis.call('RENAME', T, U)
    redis.call('HSET', M, 'us', mark)
    mark = nil
  end
end
if not mark then
  mark = whole(last)
  redis.call('UNLINK', T)
  redis.call('HSET', T, '', mark)
  redis.call('HSET', M, 'ts', mark, 'tt', whole(now), 'tf', whole(floor))
end

redis.call('HSET', M, 'tl', whole(seq))
for _, tag in ipairs(tags) do
  local noted = whole(seq)
  if ARGV[7] == 'X' then
    -- An invalidation that U knows of is found there.
    local before = text(redis.call('HGET', T, tag))
    local void = before and numbers(before) or 0
    noted = whole(math.min(void, seq)) .. ':' .. noted
  end
  redis.call('HSET', T, tag, noted)
end
return seq
