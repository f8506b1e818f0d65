-- Stores a value as a change.
--
-- KEYS M V L W T U; ARGV[4] latest time of execution (ms), ARGV[5] life (ms), ARGV[6] frame.
-- Answers the sequence number.

-- A write its caller has given up may sit in a socket buffer:
--   1. node A puts "old"; its command is stuck, A times out and reports an error
--   2. node B puts "new"
--   3. A's command arrives and would bury "new"
if millis() > tonumber(ARGV[4]) then
  return redis.error_reply('LATE the write was given up before it was executed')
end

-- Its first write is one that a server without memory refuses, before anything has changed.
local seq, refused = change('I:', ':' .. key)
if not seq then
  return refused
end
local value = seal(seq) .. ARGV[6]
if tags_in(ARGV[6], FRAME_EXTENSIONS_AT) then
  note_life(ARGV[5])
end
redis.call('SET', KEYS[2], value, 'PX', ARGV[5])
break_lease()
wake(value)
redis.call('UNLINK', KEYS[4])
return seq
