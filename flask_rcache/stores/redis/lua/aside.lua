-- aside: after an invalidation of a type, move its index away, so that its space is freed later and bit by bit.
--
-- KEYS  1: stamp set  2: the index  3: the name to move it to
-- ARGV  1: the member that the invalidation has stamped: the type's tag, or '=floor'
-- reply {1 or 0: whether it was moved, live entries in it}
-- atomicity: one step, and only if the clock has not moved since the stamp: then nothing was stored meanwhile, and all
--            that is in the index is invalid.

local stamps, index, aside = KEYS[1], KEYS[2], KEYS[3]
local rows = redis.pcall('ZCARD', index)
if type(rows) == 'table' then -- of another kind; what it should have held is stamped now
  redis.call('DEL', index)
  return {0, 0}
end
if rows == 0 then
  return {0, 0}
end
local live = redis.call('ZCOUNT', index, '(' .. text(math.floor(server_time() / 1000)), '+inf')
local scores = redis.pcall('ZMSCORE', stamps, '=clock', ARGV[1])
if scores.err or not scores[1] or scores[1] ~= scores[2] then
  return {0, live}
end
local latest = redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')
redis.call('RENAME', index, aside)
redis.call('PEXPIREAT', aside, text(math.min(tonumber(latest[2]), NAMES)))
return {1, live}
