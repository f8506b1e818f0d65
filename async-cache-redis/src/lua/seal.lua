-- The seal in front of every stored value: the sequence it was granted at, and a check of it,
-- so that foreign bytes under V are not mistaken for a value with some sequence.

local function seal(seq)
  -- math.fmod, not %: exact for every sequence below 2^53.
  return struct.pack('>I8', seq) .. struct.pack('>I4', math.fmod(seq, 4294967291))
end

-- The seal of a value that a change has expired: the complement of the check says so.
local function expired_seal(seq)
  return struct.pack('>I8', seq) .. struct.pack('>I4', 4294967295 - math.fmod(seq, 4294967291))
end

-- The sequence a stored value was granted at, if its seal is intact; and whether it has been expired.
local function sealed(value)
  if #value < 12 then
    return nil
  end
  local seq, head = struct.unpack('>I8', value), string.sub(value, 1, 12)
  if seq > 9007199254740992 then
    return nil
  elseif seal(seq) == head then
    return seq, false
  elseif expired_seal(seq) == head then
    return seq, true
  end
end

-- The value of sequence `seq` after a change has expired it. nil if the value cannot be a fallback.
local function expired(value, seq)
  if #value < ENDS_AT + 15 then
    return nil
  end
  local expires, ends = struct.unpack('>I8', value, ENDS_AT), struct.unpack('>I8', value, ENDS_AT + 8)
  return ends > expires and expired_seal(seq) .. string.sub(value, 13) or nil
end
