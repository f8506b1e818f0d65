-- Everything that Redis has under one key, as of one moment. Changes nothing.
--
-- KEYS M V L W T U.
-- Answers {
--   {time in ms, sequence, floor},
--   {value or nothing, its state, ms that are left to it},
--   {lease or nothing, 1 if it is held, ms that are left to it},
--   waiting nodes,
-- }. The state is 'valid'; 'expired' if a change has made it a fallback only; or why no node may use the value: 'type' it is no string, 'foreign' it has no seal, 'floor'
-- it is below the floor, 'tag' one of its tags was invalidated; or '' if there is none.

local stored, value, rule = redis.pcall('GET', KEYS[2]), nil, ''
if type(stored) == 'table' then
  if not string.find(stored.err, 'WRONGTYPE', 1, true) then
    return stored
  end
  value, rule = '', 'type'
elseif stored then
  value = stored
  local seq = sealed(value)
  if not seq then
    rule = 'foreign'
  elseif valid() then
    local _, is_expired = valid()
    rule = is_expired and 'expired' or 'valid'
  elseif seq < f then
    rule = 'floor'
  else
    rule = 'tag'
  end
end

local lease = text(redis.pcall('GET', KEYS[3]))
local waiters = redis.pcall('SRANDMEMBER', KEYS[4], 4096)
if waiters.err then
  waiters = {}
end
return {
  {millis(), s, f},
  {value or false, rule, redis.call('PTTL', KEYS[2])},
  {lease or false, lease and held(lease) and 1 or 0, redis.call('PTTL', KEYS[3])},
  waiters,
}
