-- Numbering and announcing a change.

-- In the same script as the change itself: the message cannot arrive before the change can be
-- read, and messages arrive in the order of their numbers.
local function raise()
  s = s + 1
  redis.call('HSET', M, 's', whole(s))
  return s
end

local function announce(message)
  redis.call('PUBLISH', home .. 'bus', message)
end
