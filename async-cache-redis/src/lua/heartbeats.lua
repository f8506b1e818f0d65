-- Heartbeats of many partitions, which may be of many namespaces, at one master of a cluster. Each is what heartbeat.lua
-- is for one, as the function `beat(KEYS, ARGV)`. The partitions have different slots, so their names cannot be keys of
-- the script.
--
-- ARGV[1] run id; then for each: M, record, highest number known, node, beat.
-- Answers for each the time in ms, or the text of an error: one may fail alone.

local answers = {}
for at = 2, #ARGV, 5 do
  local done, answer = pcall(beat, {ARGV[at]}, {ARGV[1], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]})
  if type(answer) == 'table' then
    answer = answer.err
  end
  answers[#answers + 1] = answer or 'ERR no answer'
end
return answers
