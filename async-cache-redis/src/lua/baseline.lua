-- The partition's state and its tag table, as of one moment.
--
-- KEYS M T U; ARGV[4] the tags that are asked for, packed; without it all, the mark of each half among them.
-- Answers {sequence, floor, time in ms, tag floor, T, U}, T and U as tag, last invalidation, last expiry, tag…

local asked = ARGV[4] and unpacked(ARGV[4], 1, #ARGV[4])

-- The fields of a half and their values, in turn.
local function fields_of(half)
  if not asked then
    return redis.call('HGETALL', half)
  end
  local fields = {}
  local found = #asked > 0 and redis.call('HMGET', half, unpack(asked)) or {}
  for i, tag in ipairs(asked) do
    if found[i] then
      fields[#fields + 1] = tag
      fields[#fields + 1] = found[i]
    end
  end
  return fields
end

local meta = redis.call('HMGET', M, 'tf', 'tl', 'ts', 'us')
local floor = number(meta[1]) or 0
local halves = {}
for i, half in ipairs({T, U}) do
  halves[i] = {}
  local mark = meta[2 + i]
  if mark then
    if redis.pcall('HGET', half, '') == mark then
      local fields = fields_of(half)
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
