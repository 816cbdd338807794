-- behind: write values behind: into a queue, and into the cache, where they wait for nothing (rule R4.2).
--
-- KEYS  1: stamp set  2: meta  3: the queue, a stream; then for each write: its lease, its entry, the index of its type
-- ARGV  1, 2: since and until when this is wanted  3: rows of the stamp set kept at most  4: the bus
--       5: the name of the queue  6: how long it may become; then for each write:
--       PX, ms · type name · number of tags · (tag, its as_of or '')... · the envelope · the key as it was given · the value
-- reply {'late', TIME}, or {'full', length}, or {epoch, clock, stamp, id...}
-- atomicity: one step: all of them are in the queue, or none is. The lease of each key is voided: until its last write is
--       applied, the id of that stands in its place, and nothing is filled. Publishes {'k', epoch, stamp, clock, {entry...}}.

local stamps, meta, queue = KEYS[1], KEYS[2], KEYS[3]
local time = server_time()
if is_late(time, ARGV[1], ARGV[2]) then
  return {'late', text(time)}
end
local length, count = redis.call('XLEN', queue), (#KEYS - 3) / 3
if length + count > tonumber(ARGV[6]) then
  return {'full', length}
end
local set, take, beside = read_set(stamps), arguments(7), nothing_beside()
local now = set and next_reading(set, time)
local stamp_of_call, results, tags, places = now, {}, {}, {}
for i = 4, #KEYS, 3 do
  local result = {px = tonumber(take()), type_name = take()}
  result.moment = set and {run = set.run, epoch = set.epoch, as_of = now}
  result.tags, result.since = read_tags(take, KEYS[i + 1], now or 0)
  result.envelope, result.key, result.value = take(), take(), take()
  for _, tag in ipairs(result.tags) do
    if not places[tag] then
      tags[#tags + 1] = tag
      places[tag] = #tags
    end
  end
  results[#results + 1] = result
end
local known = set and read_rows(stamps, tags, now)
redis.pcall('HSETNX', meta, 'queue:' .. ARGV[5], 1) -- pcall: of another kind it heals with the next fill
local ids, entries, keys = {}, {}, {}
for n, result in ipairs(results) do
  local lease, entry, index = KEYS[3 * n + 1], KEYS[3 * n + 2], KEYS[3 * n + 3]
  local stored = stored_key(entry)
  local id = redis.call('XADD', queue, '*', 'entry', stored, 'type', result.type_name, 'key', result.key, 'value', result.value)
  ids[n], entries[n], keys[n] = id, stored, result.tags[#result.tags]
  redis.call('SET', lease, 'w' .. id)
  local outcome
  if set then
    result.rows = {}
    for i, tag in ipairs(result.tags) do
      result.rows[i] = known[places[tag]]
    end
    if judge(set, result.moment, result.since, result.rows) == STORED then
      outcome = put(beside, stamps, entry, index, result, now)
    end
    now = now + 1
  end
  if outcome ~= STORED then
    redis.call('UNLINK', entry)
  end
end
if set then
  keep_beside(beside, stamps, meta, now, set.forgotten)
  stamp(stamps, keys, stamp_of_call) -- what was read before is not set any more
  set.clock = now
  redis.call('ZADD', stamps, now, '=clock')
  drop_rows(stamps, set, now, tonumber(ARGV[3]), 2 * (#tags + #keys) + 20)
end
publish(ARGV[4], 'k', set and set.epoch or 0, stamp_of_call or time, now or time, entries)
return {text(set and set.epoch or 0), text(now or time), text(stamp_of_call or time), unpack(ids)}
