-- Gives a lease back, so that one of the waiting nodes loads.
--
-- By token, without the sequence: a caller whose acquire timed out never learnt the sequence,
-- and the token is unique to the acquisition.
--
-- KEYS M V L W T U; ARGV[4] token. Answers 1 released | 0 not held.

local lease = text(redis.pcall('GET', KEYS[3]))
if not lease or string.sub(lease, 1, #ARGV[4] + 1) ~= ARGV[4] .. ':' then
  return 0
end
wake(nil)
redis.call('UNLINK', KEYS[3], KEYS[4])
return 1
