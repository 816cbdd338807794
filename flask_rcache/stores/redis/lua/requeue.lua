-- requeue: put dead letters back into their queue.
--
-- KEYS  1: the queue  2: the dead letters
-- ARGV  their ids
-- reply {the number that were there}
-- atomicity: one step: each is in the one or in the other. It keeps the id of the write, by which a source tells that it
--       is older than what it has.

local queue, dead, moved = KEYS[1], KEYS[2], 0
for _, id in ipairs(ARGV) do
  local message = redis.call('XRANGE', dead, id, id)[1]
  if message then
    moved = moved + 1
    local fields = {}
    for i = 1, #message[2], 2 do
      local name = message[2][i]
      if name ~= 'error' and name ~= 'attempts' then
        fields[#fields + 1], fields[#fields + 2] = name, message[2][i + 1]
      end
    end
    redis.call('XADD', queue, '*', unpack(fields))
    redis.call('XDEL', dead, id)
  end
end
return {moved}
