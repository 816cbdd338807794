-- delete: remove entries and void their leases, so that a load in flight cannot bring them back.
--
-- KEYS  1: stamp set; then for each entry: its lease, the entry, the index of its type
-- ARGV  1: the bus
-- reply {entries that were there, stamp}
-- atomicity: one step. Publishes {'k', stamp, entry...} on the bus.

local time = redis.call('TIME')
local last = redis.pcall('ZSCORE', KEYS[1], '=clock')
if type(last) == 'table' or tonumber(last or 0) >= 2^53 then -- not of our making: a new epoch, and all starts cold
  redis.call('DEL', KEYS[1])
  last = 0
end
last = tonumber(last or 0)
local now = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), last + 1)
local removed, entries = 0, {}
for i = 0, (#KEYS - 1) / 3 - 1 do
  local lease, entry, index = KEYS[3 * i + 2], KEYS[3 * i + 3], KEYS[3 * i + 4]
  redis.call('DEL', lease)
  local head = redis.pcall('GETRANGE', entry, 0, 28)
  if type(head) == 'string' and #head == 29 and string.find(head, '^RCE') and math.floor(head:byte(29) / 4) % 2 == 1 then
    redis.call('ZADD', KEYS[1], now, 'k:' .. entry) -- it leads to variants, and each bears this tag
  end
  removed = removed + redis.call('UNLINK', entry)
  redis.pcall('ZREM', index, entry) -- pcall: of another kind, it heals with the next fill
  entries[#entries + 1] = entry
end
redis.call('ZADD', KEYS[1], now, '=clock')
redis.call('PUBLISH', ARGV[1], cmsgpack.pack({'k', string.format('%.0f', now), entries}))
return {removed, string.format('%.0f', now)}
