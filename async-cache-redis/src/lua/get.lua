-- Reads a value without judging it, for a node that judges it itself: a GET of which is known who answered it.
--
-- KEYS M V L W T U. Answers the value, or nil.

return text(redis.pcall('GET', KEYS[2])) or false
