-- Expires a value as a change: it stays, as a fallback, and its seal says that it is not fresh. A value without time as a
-- fallback is removed.
--
-- KEYS M V L W T U. Answers the sequence number.

-- See epoch.lua: makes the rest go through when memory is full.
redis.call('PERSIST', M)
-- Read before the sequence is raised: what is void now is not brought back.
local value = valid()
local seq, refused = change('E:', ':' .. key)
if not seq then
  return refused
end
local left = value and expired(value, (sealed(value)))
if left then
  redis.call('SET', KEYS[2], left, 'KEEPTTL')
else
  redis.call('UNLINK', KEYS[2])
end
break_lease()
wake(nil)
redis.call('UNLINK', KEYS[4])
return seq
