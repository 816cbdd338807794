-- attach: run on every new connection, before anything is trusted from it.
--
-- KEYS  1: stamp set  2: meta  3: which stamps are soft
-- ARGV  1: format version  2: 'cold' to give up what another server run left behind, 'warm' to keep it
--       3: the latest generation this process has met, or 0
-- reply {'ok' or 'cold', maxmemory-policy or '', 'redis' or 'valkey', version, maxmemory, generation}, or
--       {'format', the other version}, or {'info', the error}
-- atomicity: one step. A server run that this cache has not seen (a restart, a failover) loses its stamp set: the next
--            begin makes a new epoch, so nothing that an old snapshot or a lagging replica holds is valid again. Each
--            such turn is a generation; a run that is behind the caller's has been away while another stood in for it.

local stamps, meta, format = KEYS[1], KEYS[2], ARGV[1]
local known = redis.call('HMGET', meta, 'run_id', 'format', 'generation')
if known[2] and known[2] ~= format then
  return {'format', known[2]}
end
-- pcall: an ACL may forbid INFO; then a restart from an old snapshot could not be told from the run before it
local info, memory = redis.pcall('INFO', 'server'), redis.pcall('INFO', 'memory')
local run_id = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
if type(info) ~= 'string' and ARGV[2] == 'cold' then
  return {'info', info.err}
end
local policy = type(memory) == 'string' and string.match(memory, 'maxmemory_policy:([%w-]+)') or ''
local removed = redis.pcall('ZREM', stamps, '=none') -- the first write needs no memory
if type(removed) == 'table' and string.find(removed.err, 'WRONGTYPE') then -- not of our making: a new epoch
  redis.call('DEL', stamps)
elseif type(removed) == 'table' then
  return removed
end
local state = 'ok'
local generation, met = tonumber(known[3] or 0) or 0, tonumber(ARGV[3])
if generation ~= generation or generation < 0 or generation > 2^52 then
  generation = 0 -- not of our making
end
if known[1] ~= run_id or generation < met then
  generation = math.max(generation, met) + 1
  if ARGV[2] == 'cold' then
    redis.call('DEL', stamps, KEYS[3])
    state = 'cold'
  end
  redis.call('HSET', meta, 'run_id', run_id, 'format', format, 'generation', generation)
end
local function fact(text, pattern)
  return type(text) == 'string' and string.match(text, pattern) or ''
end
local valkey = fact(info, 'valkey_version:([%w.]+)')
return {
  state, policy, valkey ~= '' and 'valkey' or 'redis', valkey ~= '' and valkey or fact(info, 'redis_version:([%w.]+)'),
  fact(memory, 'maxmemory:(%d+)'), generation,
}
