-- Invalidates tags. The work does not depend on the size of the partition.
--
-- KEYS M T U; ARGV[4] tags, packed, ARGV[5] most tags in one half of the table, ARGV[6] time (ms)
-- that a load may take. Answers the sequence number.

-- See epoch.lua: makes the rest go through when memory is full.
redis.call('PERSIST', M)
-- What the table is told of the past is about the changes before this one.
local last = s
local seq, refused = change('T:', ':' .. ARGV[4])
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
    -- U goes. All its numbers are from before T was begun, and the mark is the number of then.
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
  redis.call('HSET', T, tag, whole(seq))
end
return seq
