-- reclaim: free a chunk of entries that an invalidation has made unusable.
--
-- KEYS  1: the index: one that was moved aside, or the live one of a type
-- ARGV  1: a reading: only entries whose load began before it are freed  2: how our envelopes begin
--       3...: the entries; without any, up to 500 rows of the index, which was moved aside
-- reply {rows looked at, entries freed}
-- atomicity: one chunk. The entries live on the index's shard; they are not declared, as no caller knows them all.

local index, before, magic, entries = KEYS[1], tonumber(ARGV[1]), ARGV[2], {}
local is_index, is_aside = type(redis.pcall('ZCARD', index)) == 'number', #ARGV == 2
for i = 3, #ARGV do
  entries[#entries + 1] = ARGV[i]
end
if is_aside and is_index then
  entries = redis.call('ZRANGE', index, 0, 499)
end
local freed, gone = 0, {}
for _, entry in ipairs(entries) do
  local head, stays = redis.pcall('GETRANGE', entry, 0, 19), false
  if type(head) == 'string' and #head == 20 and string.sub(head, 1, #magic) == magic then
    stays = struct.unpack('>I8', string.sub(head, 13, 20)) >= before
    if not stays then
      freed = freed + redis.call('UNLINK', entry)
    end
  end
  if is_aside or not stays then
    gone[#gone + 1] = entry
  end
end
if is_index and #gone > 0 then
  redis.call('ZREM', index, unpack(gone))
end
return {#entries, freed}
