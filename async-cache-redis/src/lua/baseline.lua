-- The partition's state and its tag table, as of one moment.
--
-- KEYS M T U. Answers {sequence, floor, time in ms, tag floor, T, U}, T and U as tag, last invalidation, last expiry,
-- tag…, the mark among them.

local meta = redis.call('HMGET', M, 'tf', 'tl', 'ts', 'us')
local floor = number(meta[1]) or 0
local halves = {}
for i, half in ipairs({T, U}) do
  halves[i] = {}
  local mark = meta[2 + i]
  if mark then
    if redis.pcall('HGET', half, '') == mark then
      local fields = redis.call('HGETALL', half)
      for at = 1, #fields, 2 do
        -- A damaged number counts as the latest, as in tags.lua.
        local void, expiry = numbers(fields[at + 1])
        local told = #halves[i]
        halves[i][told + 1] = fields[at]
        halves[i][told + 2] = whole(math.min(void, s))
        halves[i][told + 3] = whole(math.min(expiry, s))
      end
    else
      -- This half was lost: see tags.lua.
      floor = math.max(floor, number(meta[2]) or s)
    end
  end
end
return {s, f, millis(), floor, halves[1], halves[2]}
