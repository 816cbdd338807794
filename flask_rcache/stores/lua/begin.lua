-- begin: take the leases of keys that somebody wants to load, and read the clock before the loads begin.
--
-- KEYS  1: stamp set; then for each key: its lease, its entry
-- ARGV  1: a random name for the stamp set, should it be lost   2: lease, ms   3: the loader's token
--       then for each key: the identity (epoch and as_of, 16 bytes) of the entry the caller judged unfit, or ''
-- reply {epoch, as_of, answer...}, one answer a key:
--       '+' granted · '=' filled meanwhile · '-…' busy, and the holder's token · 'p…', 'f…' the marker's token
-- atomicity: one step. The clock moves only when something was granted, so that waiting costs no write.

local stamps, lease_ms, token = KEYS[1], ARGV[2], ARGV[3]

local function now_us()
  local time = redis.call('TIME')
  local last = tonumber(redis.call('ZSCORE', stamps, '=clock') or 0)
  return math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), last + 1)
end

local answers, granted = {}, false
for i = 0, #ARGV - 4 do
  local lease, entry, judged = KEYS[2 * i + 2], KEYS[2 * i + 3], ARGV[i + 4]
  -- pcall: a key of another kind under our name is garbage, and judged as such
  local found = redis.pcall('GETRANGE', entry, 4, 19)
  local held = redis.call('GET', lease)
  if type(found) == 'string' and found ~= judged and found ~= '' then
    answers[#answers + 1] = '='
  elseif held and string.find(held, '^[pf]') then
    answers[#answers + 1] = held
    if redis.call('PTTL', lease) < tonumber(lease_ms) then -- the load that begins must find it at its fill
      redis.call('PEXPIRE', lease, lease_ms)
    end
    granted = true
  elseif held and held ~= token then
    answers[#answers + 1] = '-' .. held
  else
    redis.call('DEL', lease) -- the first write needs no memory, so a full Redis still grants
    redis.call('SET', lease, token, 'PX', lease_ms)
    answers[#answers + 1] = '+'
    granted = true
  end
end

local as_of, epoch = now_us(), redis.call('ZSCORE', stamps, '=epoch')
if granted then
  redis.call('ZREM', stamps, '=none')
  if not epoch then
    epoch = ARGV[1]
    redis.call('ZADD', stamps, epoch, '=epoch', as_of, '=floor')
  end
  redis.call('ZADD', stamps, as_of, '=clock')
end
return {string.format('%.0f', tonumber(epoch or 0)), string.format('%.0f', as_of), unpack(answers)}
