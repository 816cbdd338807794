-- leave: tell a server that its successor was found, so that whoever still asks it looks for that one too (Outages 5).
--
-- KEYS  1: stamp set
-- ARGV  1: hash of the run that is left: another run is left alone
-- reply 1, or 0 when there is nothing to leave
-- atomicity: one step. Every invalidation that the server has acknowledged comes before it, and none comes after it; what
--            is stored there is of no use to anybody any more. Who is sent there again makes a new set.

local stamps = KEYS[1]
if redis.pcall('ZSCORE', stamps, '=run') ~= '-' .. ARGV[1] then
  return 0
end
redis.call('DEL', stamps)
redis.call('ZADD', stamps, text(server_time()), '=fence')
return 1
