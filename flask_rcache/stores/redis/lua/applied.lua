-- applied: writes of a queue have been applied to the source, or are given up.
--
-- KEYS  1: stamp set  2: the queue  3: who has it  4: the dead letters, a stream; then for each write: its lease, its
--       entry, the index of its type
-- ARGV  1: rows of the stamp set kept at most  2: the bus  3: the group  4: the consumer's token; then for each write:
--       its id · '' when it was applied, else why it is given up · how often it was tried
-- reply {'busy', token} when another consumer has the queue: then nothing was done; or {epoch, clock, stamp, the writes
--       that were still there}
-- atomicity: one step, right at any time: what is not in the queue any more is left alone. An entry that could be older
--       than the write goes: that of a write that was given up, and where nothing says which write the key waited for.
--       Publishes {'k', epoch, stamp, clock, {entry...}} of those.

local stamps, queue, owner, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, token, take, gone, tags, done = ARGV[3], ARGV[4], arguments(5), {}, {}, 0
local other = redis.pcall('GET', owner)
if type(other) == 'string' and other ~= token then
  return {'busy', other}
end
for i = 5, #KEYS, 3 do
  local lease, entry, index, id, why, tried = KEYS[i], KEYS[i + 1], KEYS[i + 2], take(), take(), take()
  local message = redis.call('XRANGE', queue, id, id)[1]
  if message then
    done = done + 1
    if why ~= '' then
      local fields = message[2]
      redis.call('XADD', dead, '*', 'id', id, 'error', why, 'attempts', tried, unpack(fields))
    end
    local held = read_lease(lease)
    local is_last = held and held.token == 'w' .. id
    if is_last then
      redis.call('DEL', lease)
    end
    if is_last and why ~= '' or not (held and held.is_write) then
      redis.call('UNLINK', entry)
      redis.pcall('ZREM', index, entry)
      gone[#gone + 1], tags[#tags + 1] = stored_key(entry), 'k:' .. stored_key(entry)
    end
    redis.call('XACK', queue, group, id)
    redis.call('XDEL', queue, id)
  end
end
local set, now = read_set(stamps), server_time()
if set and #gone > 0 then
  now = next_reading(set, now)
  read_rows(stamps, tags, now)
  stamp(stamps, tags, now)
  redis.call('ZADD', stamps, now, '=clock')
  drop_rows(stamps, set, now, tonumber(ARGV[1]), 2 * #tags + 20)
end
if #gone > 0 then
  publish(ARGV[2], 'k', set and set.epoch or 0, now, now, gone)
end
return {text(set and set.epoch or 0), text(now), text(now), done}
