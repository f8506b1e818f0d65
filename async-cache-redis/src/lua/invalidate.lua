-- Removes a value as a change.
--
-- KEYS M V L W T U. Answers the sequence number.

-- See epoch.lua: makes the rest go through when memory is full. Invalidation must not fail for want
-- of memory.
redis.call('PERSIST', M)
local seq, refused = change('I:', ':' .. key)
if not seq then
  return refused
end
redis.call('UNLINK', KEYS[2])
break_lease()
wake(nil)
redis.call('UNLINK', KEYS[4])
return seq
