-- Voids every value and lease of the partition by raising the floor: the same work whatever the
-- partition holds. What is below the floor expires by itself.
--
-- KEYS M. Answers the sequence number.

-- See fence.lua: makes the rest go through when memory is full.
redis.call('PERSIST', M)
f = raise()
redis.call('HSET', M, 'f', whole(f))
announce('C:' .. whole(f))
return f
