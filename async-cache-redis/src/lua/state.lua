-- The partition's state.
--
-- KEYS M. Answers {sequence, floor, time in ms}.

return {s, f, millis()}
