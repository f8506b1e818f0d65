-- The lock under L: `<token>:<sequence at the grant>` while a load is under way, COOLING for
-- PACE ms after a load was broken.
--
-- KEYS[3] L.

local COOLING = '~'

-- A lease from below the floor holds nothing: what it loads may be older than a clear.
local function held(lease)
  local seq = tonumber(string.match(lease, ':(%d+)$'))
  return seq ~= nil and seq >= f
end

-- Takes the lease from its holder. A key that is cooling already stays as it is: a key that is
-- invalidated all the time must still be loaded once every PACE.
local function break_lease()
  local lease = text(redis.pcall('GET', KEYS[3]))
  if lease and lease ~= COOLING and held(lease) then
    redis.call('SET', KEYS[3], COOLING, 'PX', PACE)
  end
end
