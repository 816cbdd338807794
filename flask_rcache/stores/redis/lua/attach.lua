-- attach: run on every new connection, before anything is trusted from it (DESIGN, Outages 5 and 6).
--
-- KEYS  1: stamp set  2: meta
-- ARGV  1: version of the internal keys and messages (not of entries)  2: 'cold' to give up what another server run left behind, 'warm' to keep it if it is recent
--       3: a random name for a new stamp set  4: the number of shards of the cluster, 1 on one server
--       5, 6: where INFO is refused: the run of this server, or '' when that is not known, and another run that it is
--       known not to be, '*' for any  7...: the runs that this process has left: the hash of each, and the epoch that its
--       set had then
-- reply {'ok', epoch, clock, TIME, the reading from which on it knows of all invalidations, hash of the run,
--       maxmemory-policy or '', 'redis' or 'valkey', version, maxmemory}, or {'format', the other version}, or {'shards',
--       the other number}, or {'run', the error of INFO, the run that the set names}: to be called again with 5 and 6
-- atomicity: one step. A server run that this cache has not seen (a restart, a failover), and one that the process has
--            left and now returns to, begins with a new set, so that nothing is valid which an old snapshot, a lagging
--            replica, or a server that missed invalidations holds. Of several processes that return the first does that.
--            A lost set is made anew.

local stamps, meta, format, mode, epoch = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local RECENT = 20 * SECOND

-- pcall: an ACL may forbid INFO; then whoever connects finds out otherwise which run this is, see runs.py
local info, memory = redis.pcall('INFO', 'server'), redis.pcall('INFO', 'memory')
local function fact(section, pattern)
  return type(section) == 'string' and string.match(section, pattern) or ''
end

local known = redis.pcall('HGET', meta, 'format')
if type(known) == 'table' then -- of another kind
  redis.call('DEL', meta)
elseif known and known ~= format then
  return {'format', known}
end
local shards = redis.pcall('HGET', meta, 'shards') or '1'
if type(known) ~= 'table' and known and shards ~= ARGV[4] then
  return {'shards', shards}
end
local removed = redis.pcall('ZREM', stamps, '=none') -- the first write needs no memory
if type(removed) == 'table' and not string.find(removed.err, 'WRONGTYPE') then
  return removed
end
if known ~= format then
  redis.call('HSET', meta, 'format', format)
  if ARGV[4] ~= '1' then
    redis.call('HSET', meta, 'shards', ARGV[4])
  end
end

if redis.pcall('ZSCORE', stamps, '=fence') then -- nobody is on its successor any more, or the name leads back
  redis.call('DEL', stamps)
end
local set, time = read_set(stamps), server_time()
local run = run_name(info)
if not run then
  local named = set and set.run or ''
  local is_other = ARGV[6] == '*' or named == '' or named == ARGV[5] or named == ARGV[6]
  if ARGV[5] == '' or not is_other then -- of two that name the run at the same time, the second takes the first's name
    return {'run', type(info) == 'table' and info.err or 'INFO has no run_id', named}
  end
  run = ARGV[5]
end
local is_left = false
for i = 7, #ARGV, 2 do
  is_left = is_left or set and ARGV[i] == run and ARGV[i + 1] == text(set.epoch)
end
if not set then
  set = new_set(stamps, epoch, run, time)
else
  local same = set.run == run
  if is_left or not same and not (mode == 'warm' and time - set.clock <= RECENT) then
    set = new_set(stamps, epoch, run, next_reading(set, time))
  elseif not same then
    set.taken = next_reading(set, time)
    set.clock = set.taken
    redis.call('ZADD', stamps, '-' .. run, '=run', set.taken, '=taken', set.clock, '=clock')
  end
end

local valkey = fact(info, 'valkey_version:([%w.]+)')
return {
  'ok', text(set.epoch), text(set.clock), text(time), text(set.taken), run, fact(memory, 'maxmemory_policy:([%w-]+)'),
  valkey ~= '' and 'valkey' or 'redis', valkey ~= '' and valkey or fact(info, 'redis_version:([%w.]+)'),
  fact(memory, 'maxmemory:(%d+)'),
}
