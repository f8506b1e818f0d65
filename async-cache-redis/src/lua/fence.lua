-- Head of every script: the fence.
--
-- The sequence is only worth something while it never goes back. The memory behind a
-- connection can be replaced by an older one (restart from a snapshot, promotion of a lagging
-- replica) or by none (FLUSHALL, eviction of M). Either way M no longer carries the run id of
-- the server this connection leads to, and everything stored or leased before is void: the
-- sequence jumps beyond any number ever handed out, and the floor with it.
--
-- Without it:
--   1. node A is granted a lease at sequence 7
--   2. the server restarts from a snapshot taken at sequence 5
--   3. node B invalidates: sequence 6, then 7
--   4. node A fills with what it read before 3: its lease's 7 passes, and stale data stays
--
-- KEYS[1] M; ARGV[1] run id of this physical connection, ARGV[2] record of the namespace.
-- Gives the rest of the script: M, home, s, f, and the helpers.

local LEAP = 131072
local M, run, record = KEYS[1], ARGV[1], ARGV[2]
local home = string.sub(M, 1, -2)

-- `..` and tostring print large numbers as %.14g, which loses the last digits of a sequence.
local function whole(n)
  return string.format('%.0f', n)
end

-- Foreign bytes in M count as absent: the fence then starts anew.
local function number(reply)
  local n = tonumber(reply)
  if n and n >= 0 and n <= 9007199254740992 then
    return n
  end
end

-- A wrong type under a key is an absent value.
local function text(reply)
  if type(reply) == 'string' then
    return reply
  end
end

local function micros()
  local now = redis.call('TIME')
  return now[1] * 1000000 + now[2]
end

local function millis()
  return math.floor(micros() / 1000)
end

local meta = redis.pcall('HMGET', M, 's', 'f', 'r', 'v')
if meta.err then
  if string.find(meta.err, 'WRONGTYPE', 1, true) then
    return redis.error_reply('BADSTATE ' .. M)
  end
  return meta
end
-- Before anything is written: a node of another format must not even move the sequence.
if meta[4] and meta[4] ~= record then
  return redis.error_reply('BADRECORD ' .. meta[4])
end

local s, f = number(meta[1]), number(meta[2])
if meta[3] ~= run or not s or not f then
  -- The clock is beyond every number handed out so far: changes take more than 1 µs each. The leap is
  -- for a promoted replica whose clock is behind: no more changes than that are lost on the way to
  -- it. It must stay small. While the sequence is ahead of the clock, memory that is lost would let it
  -- go back:
  --   1. a server is replaced, and within LEAP µs again: each time the sequence leaps ahead
  --   2. M is lost: the sequence is the clock's, below numbers that stamps and nodes know
  s = math.max((s or 0) + LEAP, micros())
  f = s
  -- PERSIST is a write that is allowed when memory is full, and after the first write of a
  -- script Redis lets the others through: a full server can still be fenced.
  redis.call('PERSIST', M)
  -- The tag table may stay: all its numbers are below the floor now.
  redis.call('HSET', M, 's', whole(s), 'f', whole(f), 'r', run, 'v', record)
end
