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
local set, take, ids, entries, tags, made = read_set(stamps), arguments(7), {}, {}, {}, 0
local now = set and next_reading(set, time)
local stamp_of_call = now
redis.pcall('HSETNX', meta, 'queue:' .. ARGV[5], 1) -- pcall: of another kind it heals with the next fill
for i = 4, #KEYS, 3 do
  local lease, entry, index = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local result = {px = tonumber(take()), type_name = take()}
  result.moment = set and {run = set.run, epoch = set.epoch, as_of = now}
  result.tags, result.since = read_tags(take, entry, now or 0)
  result.envelope = take()
  local id = redis.call('XADD', queue, '*', 'entry', stored_key(entry), 'type', result.type_name, 'key', take(), 'value', take())
  ids[#ids + 1], entries[#entries + 1], tags[#tags + 1] = id, stored_key(entry), 'k:' .. stored_key(entry)
  redis.call('SET', lease, 'w' .. id)
  local outcome
  if set then
    result.rows = read_rows(stamps, result.tags, now)
    if judge(set, result.moment, result.since, result.rows) == STORED then
      outcome = put(stamps, meta, entry, index, result, now, set.forgotten)
    end
    made = made + #result.tags
    now = now + 1
  end
  if outcome ~= STORED then
    redis.call('UNLINK', entry)
  end
end
if set then
  stamp(stamps, tags, stamp_of_call) -- what was read before is not set any more
  set.clock = now
  redis.call('ZADD', stamps, now, '=clock')
  drop_rows(stamps, set, now, tonumber(ARGV[3]), 2 * (made + #tags) + 20)
end
publish(ARGV[4], 'k', set and set.epoch or 0, stamp_of_call or time, now or time, entries)
return {text(set and set.epoch or 0), text(now or time), text(stamp_of_call or time), unpack(ids)}
