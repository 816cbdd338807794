-- count: add what one process has counted and recorded to the counters of all processes.
--
-- KEYS  1: seconds spent by key  2: the log of invalidations  3: the keys of statements, by when they were used
--       then the counters of each statement; then of each type
-- ARGV  1, 2: since and until when this is wanted  3: number of keys with seconds; then key, seconds for each
--       then: number of invalidations, the newest first; then for each how many ms ago it was, and what it was
--       then: number of statements; then for each what it is, its last result and
--       by what it was invalidated (empty: nothing new), the number of fields, and field, amount for each
--       then for each type: the number of fields; then field, amount for each
-- reply {'late', TIME}, or {the number of fields counted}
-- atomicity: one step, so that what did not arrive can be sent again without being counted twice. A full server refuses
--            the first write, and then there is none.

local time = server_time()
if is_late(time, ARGV[1], ARGV[2]) then
  return {'late', text(time)}
end
local take, now_ms = arguments(3), math.floor(time / 1000)

-- Somebody else's key under one of these names goes: statistics are no reason for an error.
local function own(key, reply)
  if type(reply) == 'table' and reply.err and string.find(reply.err, 'WRONGTYPE') then
    redis.call('DEL', key)
  end
end

local costs, log = KEYS[1], KEYS[2]
own(costs, redis.pcall('ZCARD', costs))
own(log, redis.pcall('LTRIM', log, 0, 49))
local keys = tonumber(take())
for _ = 1, keys do
  local key, seconds = take(), take()
  redis.call('ZINCRBY', costs, seconds, key)
end
if keys > 0 then
  redis.call('ZREMRANGEBYRANK', costs, 0, -1001)
  if redis.call('TTL', costs) < 0 then -- an hour at a time: what was costly yesterday does not hide what is now
    redis.call('EXPIRE', costs, 3600)
  end
end

local records = {}
for _ = 1, tonumber(take()) do
  local ago, what = tonumber(take()), take()
  table.insert(records, 1, text(now_ms - ago) .. ' ' .. what)
end
for _, record in ipairs(records) do
  redis.call('LPUSH', log, record)
end
if #records > 0 then
  redis.call('LTRIM', log, 0, 49)
end

local counted = 0
local function add(key)
  own(key, redis.pcall('HEXISTS', key, ''))
  for _ = 1, tonumber(take()) do
    local field, amount = take(), take()
    local done = redis.pcall('HINCRBYFLOAT', key, field, amount)
    if type(done) == 'table' and done.err and (string.find(done.err, 'float') or string.find(done.err, 'Infinity')) then
      redis.call('HSET', key, field, amount) -- somebody wrote no number there
    elseif type(done) == 'table' and done.err then
      return done
    end
    counted = counted + 1
  end
end

local used = KEYS[3]
own(used, redis.pcall('ZCARD', used))
local statements = tonumber(take())
for i = 4, 3 + statements do
  local what, result, by = take(), take(), take()
  local failed = add(KEYS[i])
  if failed then
    return failed
  end
  redis.call('HSET', KEYS[i], 'what', what)
  if result ~= '' then
    redis.call('HSET', KEYS[i], 'result', result)
  end
  if by ~= '' then
    redis.call('HSET', KEYS[i], 'by', by)
  end
  redis.call('EXPIRE', KEYS[i], 604800)
  redis.call('ZADD', used, now_ms, KEYS[i])
end
if statements > 0 then
  redis.call('EXPIRE', used, 604800)
  for _, key in ipairs(redis.call('ZRANGE', used, 0, -501)) do
    redis.call('DEL', key) -- on the same shard as the set
    redis.call('ZREM', used, key)
  end
end

for i = 4 + statements, #KEYS do
  local failed = add(KEYS[i])
  if failed then
    return failed
  end
end
return {counted}
