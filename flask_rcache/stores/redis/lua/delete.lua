-- delete: remove entries, void their leases, and stamp the keys, so that no load under way brings them back (R4.2).
--
-- KEYS  1: stamp set; then for each entry: its lease, the entry, the index of its type
-- ARGV  1: the bus  2: rows of the stamp set kept at most  3: '1' to stamp the keys, '0' when they are only removed, as
--       by a write that has not arrived  4: a token, or '' for none: then who has it writes the key through, and nobody
--       else fills it meanwhile  5: its lease, ms
-- reply {epoch, clock, stamp, entries that were there}; the epoch is 0 when the set is lost: then nothing is valid; with a
--       token also what the first entry was
-- atomicity: one step, right at any time. Publishes {'k', epoch, stamp, clock, {entry...}}.

local stamps, removed, entries, tags = KEYS[1], 0, {}, {}
local before = ARGV[4] ~= '' and redis.pcall('GET', KEYS[3])
for i = 2, #KEYS, 3 do
  local lease, entry, index = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  void_lease(lease)
  removed = removed + redis.call('UNLINK', entry)
  redis.pcall('ZREM', index, entry) -- pcall: of another kind, it heals with the next fill
  entries[#entries + 1] = stored_key(entry)
  tags[#tags + 1] = 'k:' .. stored_key(entry)
end
if ARGV[4] ~= '' and redis.call('EXISTS', KEYS[2]) == 0 then -- else a write behind is not applied yet
  redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
end
local set, now = read_set(stamps), server_time()
if set then
  now = next_reading(set, now)
  if ARGV[3] == '1' then
    read_rows(stamps, tags, now)
    stamp(stamps, tags, now)
  end
  redis.call('ZADD', stamps, now, '=clock')
  drop_rows(stamps, set, now, tonumber(ARGV[2]), 2 * #tags + 20)
end
publish(ARGV[1], 'k', set and set.epoch or 0, now, now, entries)
return {text(set and set.epoch or 0), text(now), text(now), removed, type(before) == 'string' and before or nil}
