-- Head of every script: begins a new epoch where the memory may have been replaced.
--
-- The sequence must never go back. The memory behind a connection can be replaced by an older one
-- (restart from a snapshot, promotion of a lagging replica) or by none (FLUSHALL, eviction of M). M
-- then lacks the run id of the server that this connection leads to. A new epoch begins: everything
-- stored or leased before is void, the sequence jumps beyond any number ever handed out, and the
-- floor with it.
--
-- Without it:
--   1. node A is granted a lease at sequence 7
--   2. the server restarts from a snapshot taken at sequence 5
--   3. node B invalidates: sequence 6, then 7
--   4. node A fills with what it read before 3: its lease's 7 passes, and stale data stays
--
-- The run id is not the identity of the memory: a master that was demoted, followed its former replica and was promoted
-- again is the same process with an older memory, and finds its own run id there. But if a caller knows a higher number
-- than this memory has reached, a younger memory has given it that number.
--
-- Numbers come from outside, too: stamps, messages that any client can publish, M itself. A number that
-- no server can have reached yet is foreign, and counts as absent: the sequence would stay there.
--
-- Where the server's run id is not known, RUN_TOKEN takes its place: see connection/tokens.rs. Only the server process
-- into which this text was loaded executes it. If M has another token, the caller checks whether this process knows
-- that one's scripts, too. If not, the caller names that token in ARGV[1], and it is replaced.
--
-- KEYS[1] M; ARGV[1] run id of this physical connection, or the token to be replaced, ARGV[2] record of the namespace, ARGV[3]
-- highest sequence number the caller knows.
-- Gives the rest of the script: M, home, s, f, and the helpers.

local LEAP = 131072
-- How far ahead of the clock a sequence may be, in µs: a year, for clocks that were set back.
local AHEAD = 31536000000000
local M, run, record, known = KEYS[1], RUN_TOKEN or ARGV[1], ARGV[2], tonumber(ARGV[3])
local home = string.sub(M, 1, -2)

-- `..` and tostring print large numbers as %.14g, which loses the last digits of a sequence.
local function whole(n)
  return string.format('%.0f', n)
end

-- Foreign bytes in M count as absent: then a new epoch begins.
local function number(reply)
  local n = tonumber(reply)
  if n and n >= 0 and n <= 9007199254740992 and n == math.floor(n) then
    return n
  end
end

-- A wrong type under a key is an absent value.
local function text(reply)
  if type(reply) == 'string' then
    return reply
  end
end

-- Whether a write was refused for want of memory or disk: by a server that is up, and a master.
local function full(reply)
  -- Redis 6 puts the place in the script before the error.
  local err = type(reply) == 'table' and reply.err and string.gsub(reply.err, '^@user_script: ?%d+: ', '')
  return err and (string.find(err, '^%-?OOM ') or string.find(err, '^%-?MISCONF ')) ~= nil
end

local function micros()
  local now = redis.call('TIME')
  return now[1] * 1000000 + now[2]
end

local function millis()
  return math.floor(micros() / 1000)
end

local meta = redis.pcall('HMGET', M, 's', 'f', 'r', 'v', 'tf')
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
if meta[3] and meta[3] ~= run then
  if RUN_TOKEN and meta[3] ~= ARGV[1] then
    return redis.error_reply('OTHERRUN M has another run token')
  elseif not RUN_TOKEN and string.sub(meta[3], 1, 2) == 't:' then
    return redis.error_reply('BADFENCE M has a run token')
  end
end

local s, f = number(meta[1]), number(meta[2])
-- The clock is asked only if the caller and the memory are far apart.
if known > (s or 0) and known > micros() + AHEAD then
  known = 0
elseif s and s > known + LEAP and s > micros() + AHEAD then
  s = nil
end
-- No floor is above the sequence.
local foreign = not s or not f or f > s or (meta[5] and (number(meta[5]) or s + 1) > s)
if foreign or meta[3] ~= run or s < known then
  -- The clock is beyond every number handed out so far: changes take more than 1 µs each. The leap is
  -- for a promoted replica whose clock is behind: no more changes than that are lost on the way to
  -- it. It must stay small. While the sequence is ahead of the clock, memory that is lost would let it
  -- go back:
  --   1. a server is replaced, and within LEAP µs again: each time the sequence leaps ahead
  --   2. M is lost: the sequence is the clock's, below numbers that stamps and nodes know
  s = math.max(math.max(s or 0, known) + LEAP, micros())
  f = s
  -- PERSIST is a write that is allowed when memory is full, and after the first write of a
  -- script Redis lets the others through: a full server can still begin an epoch.
  redis.call('PERSIST', M)
  redis.call('HSET', M, 's', whole(s), 'f', whole(f), 'r', run, 'v', record)
  -- Whatever a tag voids is below the floor, and its numbers may be foreign.
  redis.call('HDEL', M, 'tf', 'tl', 'ts', 'us', 'tt')
  if meta[3] == run then
    -- No node can tell by the run id. A node that misses this message learns of it by its next heartbeat.
    redis.pcall('PUBLISH', home .. 'bus', 'C:' .. whole(s))
  end
end
