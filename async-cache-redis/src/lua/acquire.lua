-- Answers with the value, with the lease, or with the time that another node's lease may last.
--
-- KEYS M V L W T U; ARGV[4] token, ARGV[5] node, ARGV[6] lease ttl (ms), ARGV[7] which stored value
-- answers: 'A' any, 'K' any (the caller holds the one with the token, which is confirmed unless a change has
-- expired it), 'O' any but the one with the token, 'N' none; ARGV[8] that token (raw).
-- Answers {1, value} | {2, sequence, its ends} unchanged | {3, seq} granted | {4, ms} busy | {5, seq} no room.

if ARGV[7] ~= 'N' then
  local value, is_expired = valid()
  if value then
    local same = ARGV[7] ~= 'A' and string.sub(value, TOKEN_AT, TOKEN_AT + 15) == ARGV[8]
    if not same or ARGV[7] == 'K' and is_expired then
      return {1, value}
    elseif ARGV[7] == 'K' then
      return {2, s, string.sub(value, ENDS_AT, ENDS_AT + 15)}
    end
  end
end

local ttl = tonumber(ARGV[6])
local lease = text(redis.pcall('GET', KEYS[3]))
if lease and held(lease) and string.sub(lease, 1, #ARGV[4] + 1) == ARGV[4] .. ':' then
  -- The same acquire came twice: a pipeline is sent again from the first call whose script the server had
  -- forgotten. The first answer was thrown away, and no other acquire has this token.
  return {3, tonumber(string.match(lease, ':(%d+)$'))}
end
if lease and (lease == COOLING or held(lease)) then
  local left = redis.call('PTTL', KEYS[3])
  -- Without an expiry it is not ours: it would block the key for ever.
  if left >= 0 then
    local noted = redis.pcall('SADD', KEYS[4], ARGV[5])
    if full(noted) then
      -- The holder's value will not be stored, either.
      return {5, s}
    elseif type(noted) ~= 'number' then
      redis.call('DEL', KEYS[4])
      redis.call('SADD', KEYS[4], ARGV[5])
    end
    -- W lasts at least as long as the next lease. While the key cools, L ends sooner than that.
    redis.call('PEXPIRE', KEYS[4], math.max(left, ttl))
    return {4, left}
  end
end

local granted = redis.pcall('SET', KEYS[3], ARGV[4] .. ':' .. whole(s), 'PX', ttl)
if full(granted) then
  return {5, s}
elseif granted.err then
  return granted
end
-- This node loads now, so it must not be woken.
redis.pcall('SREM', KEYS[4], ARGV[5])
return {3, s}
