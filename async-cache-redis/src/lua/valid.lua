-- The stored value under V, if it is intact and no clear and no tag has made it void.

local function valid()
  local value = text(redis.pcall('GET', KEYS[2]))
  local seq = value and sealed(value)
  if not seq or seq < f then
    return nil
  end
  local tags = tags_in(value, EXTENSIONS_AT)
  if tags and voided(tags, seq) then
    return nil
  end
  return value
end
