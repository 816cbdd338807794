-- beat: the heartbeat. A write, so that a master which became a replica is found out. Gives a reading of the clock,
--       makes a lost set anew (R1.7), renews the leases of live loads (R4.1), drops rows that are due (R1.4).
--
-- KEYS  1: stamp set  2: loads that have run for a while; then the leases held by this process
-- ARGV  1: a random name for a new stamp set  2: lease, ms  3: rows of the stamp set kept at most
--       4: rows dropped at most now  5: a reading  6: the server's run, where INFO is refused; then one token a lease,
--       and the key it is for
-- reply {epoch, clock, TIME, the number of leases renewed, the run that the set names, then member and score of up to 500
--       that are later than the reading}: what was invalidated since
-- atomicity: one step. An idle process calls it once a second: with nothing to do it is six commands.

local stamps, loads, lease_ms = KEYS[1], KEYS[2], tonumber(ARGV[2])
local own_run = ARGV[6] ~= '' and ARGV[6] or text(NAMES) -- which none has: then each connection is compared again
local removed = redis.pcall('ZREM', stamps, '=none') -- a write that needs no memory and changes nothing
if type(removed) == 'table' and not string.find(removed.err, 'WRONGTYPE') then
  return removed
end
local set, time, later = read_set(stamps), server_time(), {}
if set then
  later = redis.call('ZRANGEBYSCORE', stamps, '(' .. ARGV[5], '+inf', 'WITHSCORES', 'LIMIT', 0, 500)
  set.clock = next_reading(set, time)
  redis.call('ZADD', stamps, set.clock, '=clock')
  if set.run == '' then -- none of ours; each connection to this server has compared it before
    set.run = run_name(redis.pcall('INFO', 'server')) or own_run
    redis.call('ZADD', stamps, '-' .. set.run, '=run')
  end
  if tonumber(ARGV[4]) > 0 then
    drop_rows(stamps, set, set.clock, tonumber(ARGV[3]), tonumber(ARGV[4]))
  end
else
  set = new_set(stamps, ARGV[1], run_name(redis.pcall('INFO', 'server')) or own_run, time)
end

local renewed, now_ms = 0, math.floor(time / 1000)
if #KEYS > 2 and type(redis.pcall('ZREMRANGEBYSCORE', loads, '-inf', now_ms)) == 'table' then
  redis.call('DEL', loads) -- of another kind
end
for i = 3, #KEYS do
  local lease, token, key = KEYS[i], ARGV[2 * i + 1], ARGV[2 * i + 2]
  local held = read_lease(lease)
  if held and held.token == token then
    renewed = renewed + 1
    if redis.call('PTTL', lease) < lease_ms then -- a pass marker may have longer
      redis.call('PEXPIRE', lease, lease_ms)
    end
    if not held.is_marker then
      redis.pcall('ZADD', loads, now_ms + lease_ms, key) -- pcall: a full server refuses; operators see less then
    end
  end
end
return {text(set.epoch), text(set.clock), text(time), renewed, set.run, unpack(later)}
