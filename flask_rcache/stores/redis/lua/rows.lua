-- rows: the next rows of an index, in the order of expiry and then of key.
--
-- KEYS  1: the index
-- ARGV  1: the score and  2: the key of the row to go on after; '-inf' and '' at the beginning  3: rows at most
-- reply key, score, ...
-- atomicity: one step; writes nothing. Found by rank, so that its cost does not grow with what went before; where the row
--            is gone, by score, and then only rows of that very millisecond are walked.

local index, score, key, count = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local now_ms = math.floor(server_time() / 1000)
if type(redis.pcall('ZCARD', index)) == 'table' then -- it is of another kind
  return {}
end
local start
if score == '-inf' or tonumber(score) <= now_ms then -- what has expired meanwhile is not shown
  start = redis.call('ZCOUNT', index, '-inf', now_ms)
elseif redis.call('ZSCORE', index, key) == score then
  start = redis.call('ZRANK', index, key) + 1
else
  start = redis.call('ZCOUNT', index, '-inf', '(' .. score)
  local after = false
  while not after do
    local same = redis.call('ZRANGE', index, start, start + 499, 'WITHSCORES')
    after = #same == 0
    for i = 1, #same, 2 do
      after = after or same[i + 1] ~= score or same[i] > key
      if not after then
        start = start + 1
      end
    end
  end
end
return redis.call('ZRANGE', index, start, start + count - 1, 'WITHSCORES')
