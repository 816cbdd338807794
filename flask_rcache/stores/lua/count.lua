-- count: add what one process has counted to the fleet's counters.
--
-- KEYS  the counters of each type
-- ARGV  for each type: the number of fields; then field, amount for each
-- reply the number of fields counted
-- atomicity: one step, so that what did not arrive can be sent again without being counted twice. A full server refuses
--            the first write, and then there is none.

local at, counted = 1, 0
for _, stats in ipairs(KEYS) do
  local fields = tonumber(ARGV[at])
  for i = 0, fields - 1 do
    redis.call('HINCRBYFLOAT', stats, ARGV[at + 1 + 2 * i], ARGV[at + 2 + 2 * i])
    counted = counted + 1
  end
  at = at + 1 + 2 * fields
end
return counted
