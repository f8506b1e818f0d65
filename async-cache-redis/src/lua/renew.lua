-- Extends a lease that still holds.
--
-- KEYS M V L W T U; ARGV[4] lease text, ARGV[5] lease sequence, ARGV[6] ttl (ms).
-- Answers 1 held | 0 lost.

if text(redis.pcall('GET', KEYS[3])) ~= ARGV[4] or tonumber(ARGV[5]) < f then
  return 0
end
redis.call('PEXPIRE', KEYS[3], ARGV[6])
-- The waiting nodes must stay noted for as long as the load may take.
redis.call('PEXPIRE', KEYS[4], ARGV[6])
return 1
