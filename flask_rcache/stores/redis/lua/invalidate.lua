-- invalidate: one stamp a tag, whatever the number of entries (R1.3); or the floor, or the barrier of a pattern.
--
-- KEYS  1: stamp set
-- ARGV  1: the bus  2: 't' tags, '*' everything, 'b' a pattern follows  3: rows of the stamp set kept at most
--       4...: the tags
-- reply {epoch, clock, stamp}; the epoch is 0 when the set is lost or none of ours: then nothing is valid anyway
-- atomicity: one step on one key, right at any time; its first write is one that a full server takes.
--            Publishes {'t' or '*', epoch, stamp, clock, tags}, but not for a barrier.

local stamps, kind = KEYS[1], ARGV[2]
local set, now, tags = read_set(stamps), server_time(), {}
for i = 4, #ARGV do
  tags[#tags + 1] = ARGV[i]
end
if not set then
  local write = redis.pcall('ZREM', stamps, '=none') -- a replica must not acknowledge it
  if type(write) == 'table' and not string.find(write.err, 'WRONGTYPE') then
    return write
  end
  if kind ~= 'b' then
    publish(ARGV[1], kind, 0, now, now, tags)
  end
  return {'0', text(now), text(now)}
end

now = next_reading(set, now)
redis.call('ZREM', stamps, '=none')
local clock = now
if kind == '*' then
  local ahead = {}
  for i, part in ipairs(redis.call('ZRANGEBYSCORE', stamps, '(' .. text(now), text(now + AHEAD), 'WITHSCORES')) do
    ahead[#ahead + 1] = part -- member and score by turns; those of time are not among them
  end
  redis.call('UNLINK', stamps)
  redis.call(
    'ZADD', stamps, text(-set.epoch), '=epoch', '-' .. set.run, '=run', now, '=clock', now, '=floor',
    math.max(now, set.forgotten), '=forgotten', set.barrier, '=barrier', set.taken, '=taken'
  )
  for i = 1, #ahead, 2 do
    if string.sub(ahead[i], 1, 1) ~= '=' then
      redis.call('ZADD', stamps, ahead[i + 1], ahead[i], text(-tonumber(ahead[i + 1]) - KEPT), '~' .. ahead[i])
    end
  end
elseif kind == 'b' then
  clock = now + 1 -- what begins from here on is after the barrier
  redis.call('ZADD', stamps, now, '=barrier', clock, '=clock')
else
  local bases = {}
  for i, row in pairs(read_rows(stamps, tags, now)) do
    if row and row >= now then -- a commit has set it ahead: should that be withdrawn, this stamp stays
      bases[#bases + 1] = text(now)
      bases[#bases + 1] = '^' .. tags[i]
    end
  end
  add_members(stamps, 'XX', bases)
  stamp(stamps, tags, now)
  redis.call('ZADD', stamps, now, '=clock')
  drop_rows(stamps, set, now, tonumber(ARGV[3]), 2 * #tags + 20)
end
if kind ~= 'b' then
  publish(ARGV[1], kind, set.epoch, now, clock, tags)
end
return {text(set.epoch), text(clock), text(now)}
