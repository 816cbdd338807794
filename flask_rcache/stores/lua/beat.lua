-- beat: the heartbeat. A write, so that a master which became a replica is found out; renews the leases of live loads.
--
-- KEYS  1: stamp set; then the leases held by this process
-- ARGV  1: lease, ms; then one token a lease
-- reply the number of leases renewed
-- atomicity: one step.

redis.call('ZREM', KEYS[1], '=none') -- a write that needs no memory and changes nothing
local renewed = 0
for i = 2, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[i] then
    renewed = renewed + 1
    if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[1]) then -- a pass marker may have longer
      redis.call('PEXPIRE', KEYS[i], ARGV[1])
    end
  end
end
return renewed
