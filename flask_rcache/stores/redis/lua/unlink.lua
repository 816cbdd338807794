-- unlink: free a chunk of entries that an invalidation has made unusable.
--
-- KEYS  1: the index the rows are taken from (a moved one, or a live one for a pattern)
-- ARGV  1: a stamp: only entries whose load began before it are freed; 0 frees all  2: our envelope's magic
--       3...: the entries; without any, up to 500 rows of the index
-- reply {rows taken from the index, entries freed}
-- atomicity: one chunk. The entries live on the index's shard; they are not declared, as no caller knows them all.

local index, stamp, magic, rows = KEYS[1], tonumber(ARGV[1]), ARGV[2], {}
for i = 3, #ARGV do
  rows[#rows + 1] = ARGV[i]
end
if #rows == 0 then
  rows = type(redis.pcall('ZCARD', index)) == 'number' and redis.call('ZRANGE', index, 0, 499) or {}
end
local freed, is_index = 0, type(redis.pcall('ZCARD', index)) == 'number'
for _, entry in ipairs(rows) do
  local head = redis.pcall('GETRANGE', entry, 0, 19)
  if type(head) == 'string' and string.sub(head, 1, 3) == string.sub(magic, 1, 3) then
    if stamp == 0 or #head < 20 or struct.unpack('>I8', string.sub(head, 13, 20)) < stamp then
      freed = freed + redis.call('UNLINK', entry)
    end
  end
  if is_index then
    redis.call('ZREM', index, entry)
  end
end
return {#rows, freed}
