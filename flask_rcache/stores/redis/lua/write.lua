-- write: store values as of now, whatever was there, and void the leases so that no load in flight overwrites them.
--
-- KEYS  1: stamp set  2: meta; then for each write: its lease, its entry, the index of its type
-- ARGV  1: a random name for the stamp set, should it be lost  2: the bus; then for each write:
--       PX, ms · type name · the envelope, whose times are filled in here
-- reply as_of
-- atomicity: one step. Publishes {'k', as_of, entry...} on the bus.

local stamps, meta = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local kept = redis.pcall('ZMSCORE', stamps, '=epoch', '=clock', '=floor')
local ours = not kept.err
for i = 1, 3 do
  ours = ours and (not kept[i] or tonumber(kept[i]) >= 0 and tonumber(kept[i]) <= 2^53)
end
if not ours then -- not of our making: a new epoch, and all starts cold
  redis.call('DEL', stamps)
  kept = {}
end
local now = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(kept[2] or 0) + 1)
local epoch = kept[1] and tonumber(kept[1])
if not epoch then
  epoch = tonumber(ARGV[1])
  redis.call('ZADD', stamps, epoch, '=epoch', now, '=floor')
end
redis.call('ZADD', stamps, now, '=clock')
local times, now_ms, entries = struct.pack('>I8I8I8', epoch, now, now), math.floor(now / 1000), {}
for i = 0, (#KEYS - 2) / 3 - 1 do
  local lease, entry, index = KEYS[3 * i + 3], KEYS[3 * i + 4], KEYS[3 * i + 5]
  local px, type_name, envelope = tonumber(ARGV[3 * i + 3]), ARGV[3 * i + 4], ARGV[3 * i + 5]
  redis.call('DEL', lease)
  local rows = redis.pcall('ZCARD', index)
  if type(rows) == 'table' and string.find(rows.err, 'WRONGTYPE') then -- patterns rest on it: what it should have held is made invalid
    redis.call('DEL', index)
    redis.call('ZADD', stamps, now, 'c:' .. type_name)
  end
  redis.call('SET', entry, envelope, 'PX', px)
  redis.call('SETRANGE', entry, 4, times)
  if redis.call('ZADD', index, now_ms + px, entry) == 1 then
    if redis.call('ZCARD', index) == 1 then
      redis.call('HSET', meta, 'type:' .. type_name, 1)
    end
    local gone = redis.call('ZRANGEBYSCORE', index, '-inf', now_ms, 'LIMIT', 0, 4)
    if #gone > 0 then
      redis.call('ZREM', index, unpack(gone))
    end
  end
  entries[#entries + 1] = entry
end
redis.call('PUBLISH', ARGV[2], cmsgpack.pack({'k', string.format('%.0f', now), entries}))
return string.format('%.0f', now)
