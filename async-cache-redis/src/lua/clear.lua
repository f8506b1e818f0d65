-- Voids every value and lease of the partition by raising the floor. The work does not depend on the size of
-- the partition. Values below the floor expire by themselves.
--
-- KEYS M T U. Answers the sequence number.

-- See epoch.lua: makes the rest go through when memory is full.
redis.call('PERSIST', M)
local seq, refused = change('C:', '')
if not seq then
  return refused
end
f = seq
redis.call('HSET', M, 'f', whole(f))
-- Every value that a tag voids is below the floor.
redis.call('UNLINK', KEYS[2], KEYS[3])
redis.call('HDEL', M, 'tf', 'tl', 'ts', 'us', 'tt')
return f
