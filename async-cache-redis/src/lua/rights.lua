-- Which commands of the scripts this user may not run. Each is tried on a name of its own, in a way that
-- stores nothing: for what is permitted it fails for another reason, or finds nothing there.
--
-- ARGV[1] the name. Answers the commands that failed: name, error, name, error…

local name, failed = ARGV[1], {}

for _, try in ipairs({
  {'TIME'},
  {'GET', name},
  {'SET', name, '', 'XX', 'PX', '1000'},
  {'UNLINK', name},
  {'PERSIST', name},
  {'PTTL', name},
  {'RENAME', name, name},
  {'HGET', name, 'f'},
  {'HMGET', name, 'f'},
  {'HGETALL', name},
  {'HLEN', name},
  {'HSET', name, 'f', '', 'g'},
  {'HDEL', name, 'f'},
  {'SRANDMEMBER', name, '1'},
  {'SADD', name, 'm'},
  {'PEXPIRE', name, '1000'},
  {'SREM', name, 'm'},
  {'DEL', name},
  {'PUBLISH', name, ''},
}) do
  local answer = redis.pcall(unpack(try))
  if type(answer) == 'table' and answer.err then
    failed[#failed + 1] = try[1]
    failed[#failed + 1] = answer.err
  end
end
return failed
