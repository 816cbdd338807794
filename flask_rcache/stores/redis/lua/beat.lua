-- beat: the heartbeat. A write, so that a master which became a replica is found out; renews the leases of live loads.
--
-- KEYS  1: stamp set  2: loads that have run for a while; then the leases held by this process
-- ARGV  1: lease, ms; then one token a lease, and the key it is for
-- reply the number of leases renewed
-- atomicity: one step.

local stamps, loads, lease_ms = KEYS[1], KEYS[2], tonumber(ARGV[1])
local removed = redis.pcall('ZREM', stamps, '=none') -- a write that needs no memory and changes nothing
if type(removed) == 'table' and string.find(removed.err, 'WRONGTYPE') then -- not of our making: a new epoch
  redis.call('DEL', stamps)
elseif type(removed) == 'table' then
  return removed
end
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ended = redis.pcall('ZREMRANGEBYSCORE', loads, '-inf', now_ms)
if type(ended) == 'table' then -- another kind of key
  redis.call('DEL', loads)
end
local renewed = 0
for i = 3, #KEYS do
  local token, key = ARGV[2 * i - 4], ARGV[2 * i - 3]
  if redis.pcall('GET', KEYS[i]) == token then
    renewed = renewed + 1
    if redis.call('PTTL', KEYS[i]) < lease_ms then -- a pass marker may have longer
      redis.call('PEXPIRE', KEYS[i], lease_ms)
    end
    if string.sub(token, 1, 1) == 'l' then
      redis.pcall('ZADD', loads, now_ms + lease_ms, key) -- pcall: a full server refuses; operators see less then
    end
  end
end
return renewed
