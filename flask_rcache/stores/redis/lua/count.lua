-- count: add what one process has counted and recorded to the counters of all processes.
--
-- KEYS  1: seconds spent by key  2: the log of invalidations; then the counters of each type
-- ARGV  1, 2: since and until when this is wanted  3: number of keys with seconds; then key, seconds for each
--       then: number of invalidations, the newest first; then for each how many ms ago it was, and what it was
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
for i = 3, #KEYS do
  own(KEYS[i], redis.pcall('HEXISTS', KEYS[i], ''))
  for _ = 1, tonumber(take()) do
    local field, amount = take(), take()
    local done = redis.pcall('HINCRBYFLOAT', KEYS[i], field, amount)
    if type(done) == 'table' and done.err and (string.find(done.err, 'float') or string.find(done.err, 'Infinity')) then
      redis.call('HSET', KEYS[i], field, amount) -- somebody wrote no number there
    elseif type(done) == 'table' and done.err then
      return done
    end
    counted = counted + 1
  end
end
return {counted}
