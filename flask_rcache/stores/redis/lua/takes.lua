-- takes: writes of a queue for the consumer that has the queue, in their order.
--
-- KEYS  1: the queue  2: who has it
-- ARGV  1: the consumer's token  2: ms for which it has the queue  3: the group  4: writes at most
--       5: from which id on those are taken that were delivered before and not applied; '' for new ones
-- reply {'busy', token} when another consumer has the queue, or {'ok', the id to go on with or '', write...}, each
--       {id, times it was delivered, field, value...}
-- atomicity: one step. The group has one member, whoever has the queue: so nothing has to be claimed from the dead.

local queue, owner, token, group, count = KEYS[1], KEYS[2], ARGV[1], ARGV[3], tonumber(ARGV[4])
local other = redis.pcall('GET', owner)
if type(other) == 'string' and other ~= token then
  return {'busy', other}
end
redis.call('DEL', owner)
redis.call('SET', owner, token, 'PX', ARGV[2])

local writes, last = {}, ''
if ARGV[5] == '' then
  local function read()
    return redis.pcall('XREADGROUP', 'GROUP', group, 'writer', 'COUNT', count, 'STREAMS', queue, '>')
  end
  local found = read()
  if type(found) == 'table' and found.err then
    redis.call('XGROUP', 'CREATE', queue, group, '0', 'MKSTREAM')
    found = read()
  end
  if found and found.err then
    return found
  end
  for _, message in ipairs(found and found[1][2] or {}) do
    last = message[1]
    writes[#writes + 1] = {message[1], 1, unpack(message[2])}
  end
else -- reading them so does not count as a try
  local pending = redis.pcall('XPENDING', queue, group, '(' .. ARGV[5], '+', count)
  for _, each in ipairs(pending.err and {} or pending) do
    last = each[1]
    local message = redis.call('XRANGE', queue, last, last)[1]
    if message then
      writes[#writes + 1] = {last, each[4], unpack(message[2])}
    else -- gone from the stream, as nothing of ours goes
      redis.call('XACK', queue, group, last)
    end
  end
end
return {'ok', last, unpack(writes)}
