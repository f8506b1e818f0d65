-- Numbering and announcing a change: one step, and the first of a change's effects.
--
-- In the same script as the change itself: a message leaves the server when the script has ended, so
-- it cannot arrive before the change can be read, and messages arrive in the order of their numbers.
--
-- PUBLISH may be refused to this user. A number that no node was told would do harm everywhere:
--   1. node A, which may not publish, removes a value as change 8, and PUBLISH is refused
--   2. every other node learns of a change 8 that it has not heard of, and verifies all it holds
--   3. A tries again, with change 9
-- So the announcement comes before what it announces, and a refused one gives its number back.
--
-- Answers the number; or nil, and the refusal.
local function change(message, rest)
  redis.call('HSET', M, 's', whole(s + 1))
  local told = redis.pcall('PUBLISH', home .. 'bus', message .. whole(s + 1) .. rest)
  if type(told) ~= 'number' then
    redis.call('HSET', M, 's', whole(s))
    return nil, told
  end
  s = s + 1
  return s
end
