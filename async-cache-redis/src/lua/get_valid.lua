-- Reads a value for a node that cannot tell which values are void.
--
-- KEYS M V L W T U. Answers the value, or nil.

return (valid()) or false
