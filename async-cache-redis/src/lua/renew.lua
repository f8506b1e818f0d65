-- Extends a lease that still holds.
--
-- KEYS M V L W T U; ARGV[3] lease text, ARGV[4] lease sequence, ARGV[5] ttl (ms).
-- Answers 1 held | 0 lost.

if text(redis.pcall('GET', KEYS[3])) ~= ARGV[3] or tonumber(ARGV[4]) < f then
  return 0
end
redis.call('PEXPIRE', KEYS[3], ARGV[5])
-- Those who wait must stay noted for as long as the load may take.
redis.call('PEXPIRE', KEYS[4], ARGV[5])
return 1
