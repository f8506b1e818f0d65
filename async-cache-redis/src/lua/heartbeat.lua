-- Sends the sequence to one node over the bus: behind every change executed before, so that the
-- node knows by the echo that it has seen them all.
--
-- KEYS M; ARGV[4] node, ARGV[5] beat. Answers the time in ms.

-- A write without effect, which only a master takes: a server that was demoted must not let its
-- readers believe that they hear of every change.
local proof = redis.pcall('PERSIST', M)
if type(proof) == 'table' and not full(proof) then
  return proof
end
redis.call('PUBLISH', home .. 'node:' .. ARGV[4], 'H:' .. whole(s) .. ':' .. ARGV[5])
return millis()
