-- Sends the sequence to one node over the bus: behind every change executed before, so that the
-- node knows by the echo that it has seen them all.
--
-- KEYS M; ARGV[3] node, ARGV[4] beat. Answers the time in ms.

redis.call('PUBLISH', home .. 'node:' .. ARGV[3], 'H:' .. whole(s) .. ':' .. ARGV[4])
return millis()
