-- begin: take the leases of keys that somebody wants to load, and read the clock before the loads begin.
--
-- KEYS  1: stamp set; then for each key: its lease, its entry
-- ARGV  1: a random name for the stamp set, should it be lost   2: lease, ms   3: the loader's token
--       then for each key: the identity (epoch and as_of, 16 bytes) of the entry the caller judged unfit, or ''
-- reply {epoch, as_of, answer...}, one answer a key:
--       '+' granted · '=' filled meanwhile · '-…' busy, and the holder's token · 'p…', 'f…' the marker's token
--       A set of stamps that is not of our making is given up: a new epoch, so nothing in the store is valid any more.
-- atomicity: one step. The clock moves only when something was granted, so that waiting costs no write.

local stamps, lease_ms, token = KEYS[1], ARGV[2], ARGV[3]

local kept = redis.pcall('ZMSCORE', stamps, '=epoch', '=clock', '=floor', '=barrier')
local ours = not kept.err
for i = 1, 4 do
  ours = ours and (not kept[i] or tonumber(kept[i]) >= 0 and tonumber(kept[i]) <= 2^53)
end
if not ours then
  redis.call('DEL', stamps)
  kept = {}
end

local answers, granted = {}, false
for i = 0, #ARGV - 4 do
  local lease, entry, judged = KEYS[2 * i + 2], KEYS[2 * i + 3], ARGV[i + 4]
  -- pcall: a key of another kind under our name is garbage, and judged as such
  local found = redis.pcall('GETRANGE', entry, 4, 19)
  local held = redis.pcall('GET', lease)
  if type(held) == 'table' then -- another kind of key
    redis.call('DEL', lease)
    held = false
  end
  if type(found) == 'string' and found ~= judged and found ~= '' then
    answers[#answers + 1] = '='
  elseif held and string.find(held, '^[pf]%w*$') then
    answers[#answers + 1] = held
    if redis.call('PTTL', lease) < tonumber(lease_ms) then -- the load that begins must find it at its fill
      redis.call('PEXPIRE', lease, lease_ms)
    end
    granted = true
  elseif held and held ~= token then
    answers[#answers + 1] = '-' .. held
    local left = redis.call('PTTL', lease)
    if left < 0 or left > tonumber(lease_ms) then -- the clock stepped back: its holder may be gone long before
      redis.call('PEXPIRE', lease, lease_ms)
    end
  else
    redis.call('DEL', lease) -- the first write needs no memory, so a full Redis still grants
    redis.call('SET', lease, token, 'PX', lease_ms)
    answers[#answers + 1] = '+'
    granted = true
  end
end

local time, epoch = redis.call('TIME'), kept[1]
local as_of = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(kept[2] or 0) + 1)
if granted then
  redis.call('ZREM', stamps, '=none')
  if not epoch then
    epoch = ARGV[1]
    redis.call('ZADD', stamps, epoch, '=epoch', as_of, '=floor')
  end
  redis.call('ZADD', stamps, as_of, '=clock')
end
return {string.format('%.0f', tonumber(epoch or 0)), string.format('%.0f', as_of), unpack(answers)}
