-- The stored value under V, if it is intact and no clear and no tag has made it void; and whether it has been
-- expired. One that a tag has expired gets the seal that says so: the caller may not know of the tag.

local function valid()
  local value = text(redis.pcall('GET', KEYS[2]))
  if not value then
    return nil
  end
  local seq, is_expired = sealed(value)
  if not seq or seq < f then
    return nil
  end
  local tags = tags_in(value, EXTENSIONS_AT)
  local done = tags and done_by(tags, seq) or 0
  if done == VOID then
    return nil
  elseif done == EXPIRED and not is_expired then
    value = expired(value, seq)
    return value, true
  end
  return value, is_expired
end
