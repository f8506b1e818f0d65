-- Stores a loaded value, unless a change came between.
--
-- KEYS M V L W T U; ARGV[4] lease text, ARGV[5] lease sequence, ARGV[6] life (ms), ARGV[7] '1' if the
-- fill replaces a value other nodes may hold, ARGV[8] frame.
-- Answers the sequence number of the value, or 0 if it was refused.

if text(redis.pcall('GET', KEYS[3])) ~= ARGV[4] then
  return 0
end

local seq, value = tonumber(ARGV[5]), nil
-- Only now are the tags known: the loader may have chosen them. An invalidation or an expiry of one since the
-- grant has not broken the lease, and refuses the fill.
local tags = tags_in(ARGV[8], FRAME_EXTENSIONS_AT)
if seq >= f and not (tags and done_by(tags, seq) ~= 0) then
  local announced = ARGV[7] == '1'
  -- Unless it is a change, the seal carries the sequence of the *grant*: the value reflects
  -- changes up to it, not those made during the load. An announced fill is sealed with its own
  -- number: no change of this key came between, the lease would be broken.
  if announced then
    local changed, refused = change('I:', ':' .. key)
    if not changed then
      return refused
    end
    seq = changed
  end
  if tags then
    note_life(ARGV[6])
  end
  value = seal(seq) .. ARGV[8]
  redis.call('SET', KEYS[2], value, 'PX', ARGV[6])
end
wake(value)
redis.call('UNLINK', KEYS[3], KEYS[4])
return value and seq or 0
