-- Tells the nodes noted in W that the load they wait for has ended.
--
-- Each has a channel of its own, so that a wake-up costs the nodes concerned and not the fleet.
-- Bounded: a node beyond the limit polls, and so does every node if this user may not publish there.
--
-- KEYS[2] V, KEYS[4] W.

local key = string.sub(KEYS[2], #home + 3)

local function wake(value)
  local nodes = redis.pcall('SRANDMEMBER', KEYS[4], 4096)
  if nodes.err or #nodes == 0 then
    return
  end
  local message = 'W:' .. key
  if value then
    message = #value <= INLINE and 'V:' .. #key .. ':' .. key .. value or 'S:' .. key
  end
  for _, node in ipairs(nodes) do
    redis.pcall('PUBLISH', home .. 'node:' .. node, message)
  end
end
