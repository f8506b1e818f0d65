-- Reads a value for a node that does not know what is void.
--
-- KEYS M V L W T U. Answers the value, or nil.

return valid() or false
