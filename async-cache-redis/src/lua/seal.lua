-- The seal in front of every stored value: the sequence it was granted at, and a check of it,
-- so that foreign bytes under V are not mistaken for a value with some sequence.

local function seal(seq)
  -- math.fmod, not %: exact for every sequence below 2^53.
  return struct.pack('>I8', seq) .. struct.pack('>I4', math.fmod(seq, 4294967291))
end

-- The sequence a stored value was granted at, if its seal is intact.
local function sealed(value)
  if #value < 12 then
    return nil
  end
  local seq = struct.unpack('>I8', value)
  if seq <= 9007199254740992 and seal(seq) == string.sub(value, 1, 12) then
    return seq
  end
end
