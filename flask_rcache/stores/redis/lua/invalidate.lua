-- invalidate: one stamp a tag, whatever the number of entries.
--
-- KEYS  1: stamp set  2: which stamps are soft; then for each type: its index, the name to move it aside to
-- ARGV  1: the bus  2: '*' to raise the floor (everything), 'b' to raise the barrier (a pattern follows), 's' for soft
--       stamps (what they meet is expired, not gone: no index moves), or ''
--       3: stamps to keep at most  4: seconds to keep a stamp  5...: the tags to stamp
-- reply {live entries of the indexes, stamp}; for a barrier also maxmemory-policy, or '' when INFO does not say
-- atomicity: one step. Publishes {'t' or '*', stamp, tags} on the bus, but not for a barrier.

local stamps, soft, kind, keep, keep_seconds = KEYS[1], KEYS[2], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time, last = redis.call('TIME'), redis.pcall('ZSCORE', stamps, '=clock')
if type(last) == 'table' or tonumber(last or 0) >= 2^53 then -- not of our making: a new epoch, and all starts cold
  redis.call('DEL', stamps)
  last = 0
end
redis.call('ZREM', stamps, '=none') -- the first write needs no memory, so a full Redis still takes an invalidation
local softened = redis.pcall('HEXISTS', soft, '')
if type(softened) == 'table' and string.find(softened.err, 'WRONGTYPE') then -- without it every stamp is hard
  redis.call('DEL', soft)
end
local now = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(last or 0) + 1)
redis.call('ZADD', stamps, now, '=clock')

local tags, live = {}, 0
for i = 5, #ARGV do
  local tag = ARGV[i]
  if kind ~= 's' then
    redis.call('HDEL', soft, tag)
  elseif redis.call('HEXISTS', soft, tag) == 0 then -- the last stamp that was not soft still holds
    redis.call('HSET', soft, tag, redis.call('ZSCORE', stamps, tag) or 0)
  end
  redis.call('ZADD', stamps, now, tag)
  tags[#tags + 1] = tag
end
for i = 3, #KEYS, 2 do
  local index, aside = KEYS[i], KEYS[i + 1]
  local rows = redis.pcall('ZCARD', index)
  if type(rows) == 'number' and rows > 0 then
    live = live + redis.call('ZCOUNT', index, '(' .. math.floor(now / 1000), '+inf')
    if kind ~= 's' then
      local latest = redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')
      redis.call('RENAME', index, aside)
      redis.call('PEXPIREAT', aside, latest[2])
    end
  elseif type(rows) == 'table' and kind ~= 's' then -- of another kind: what it should have held is stamped now
    redis.call('DEL', index)
  end
end
if kind == '*' then
  redis.call('ZADD', stamps, now, '=floor')
  redis.call('DEL', soft)
elseif kind == 'b' then
  redis.call('ZADD', stamps, now, '=barrier')
end

-- Old stamps go, a few with each new one; the floor rises to the newest that went, so nothing it had made
-- invalid comes back.
local excess = redis.call('ZCARD', stamps) - keep
local old
if excess > 0 then
  old = redis.call('ZRANGE', stamps, 0, math.min(excess + #tags, 1000) + 3, 'WITHSCORES')
else
  old = redis.call('ZRANGEBYSCORE', stamps, '-inf', now - keep_seconds * 1000000, 'WITHSCORES', 'LIMIT', 0, 50)
end
local floor = tonumber(redis.call('ZSCORE', stamps, '=floor') or 0)
local raised = floor
for i = 1, #old, 2 do
  if string.sub(old[i], 1, 1) ~= '=' then
    redis.call('ZREM', stamps, old[i])
    redis.call('HDEL', soft, old[i])
    raised = math.max(raised, tonumber(old[i + 1]))
  end
end
if raised > floor then
  redis.call('ZADD', stamps, raised, '=floor')
end

if kind == 'b' then
  local memory = redis.pcall('INFO', 'memory') -- pcall: an ACL may forbid it
  local policy = type(memory) == 'string' and string.match(memory, 'maxmemory_policy:([%w-]+)') or ''
  return {live, string.format('%.0f', now), policy}
else
  redis.call('PUBLISH', ARGV[1], cmsgpack.pack({kind == '*' and '*' or 't', string.format('%.0f', now), tags}))
end
return {live, string.format('%.0f', now)}
