-- The value, or the lease, or who is ahead.
--
-- KEYS M V L W; ARGV[3] token, ARGV[4] node, ARGV[5] lease ttl (ms), ARGV[6] token of the value
-- the caller holds (raw, or empty), ARGV[7] '1' if the caller could not read the stored value.
-- Answers {1, value} | {2} unchanged | {3, seq} granted | {4, ms} busy.

if ARGV[7] ~= '1' then
  local value = text(redis.pcall('GET', KEYS[2]))
  local seq = value and sealed(value)
  -- The tag floor and the tags of the value will be checked here.
  if seq and seq >= f then
    if ARGV[6] ~= '' and string.sub(value, TOKEN_AT, TOKEN_AT + 15) == ARGV[6] then
      return {2}
    end
    return {1, value}
  end
end

local ttl = tonumber(ARGV[5])
local lease = text(redis.pcall('GET', KEYS[3]))
if lease and (lease == COOLING or held(lease)) then
  local left = redis.call('PTTL', KEYS[3])
  -- Without an expiry it is not ours: it would block the key for ever.
  if left >= 0 then
    if type(redis.pcall('SADD', KEYS[4], ARGV[4])) ~= 'number' then
      redis.call('DEL', KEYS[4])
      redis.call('SADD', KEYS[4], ARGV[4])
    end
    -- At least as long as the next lease: while the key cools, L's own time is too short.
    redis.call('PEXPIRE', KEYS[4], math.max(left, ttl))
    return {4, left}
  end
end

redis.call('SET', KEYS[3], ARGV[3] .. ':' .. whole(s), 'PX', ttl)
-- A node that waited and now loads itself has nothing to be woken for.
redis.pcall('SREM', KEYS[4], ARGV[4])
return {3, s}
