-- Removes a value as a change.
--
-- KEYS M V L W T U. Answers the sequence number.

-- First write of the script, and one that is allowed when memory is full: Redis then lets the
-- rest through. Invalidation must not fail for want of memory.
redis.call('UNLINK', KEYS[2])
local seq = raise()
break_lease()
wake(nil)
redis.call('UNLINK', KEYS[4])
announce('I:' .. whole(seq) .. ':' .. key)
return seq
