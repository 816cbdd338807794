-- begin: take the leases of keys that somebody wants to load (rules R4.1 and R4.3).
--
-- KEYS  1: stamp set; then for each key: its lease, its entry
-- ARGV  1, 2: since and until when this is wanted  3: lease, ms  4: the loader's token  5, 6, 7: its moment: the server's
--       run, the epoch and the reading, which fit no set when it has none; then for each key: the identity of the entry
--       it found unusable, or '' · number of tags that are known · the tags
-- reply {'late', TIME}, or {epoch, clock, answer...} with one answer a key:
--       '+' granted · '=' filled meanwhile · '-...' busy, and the holder's token · 'p...', 'f...' the pass marker
--       '?' nobody loads it whose result could be stored, nor could the caller's be; or a write of it is not applied yet
-- atomicity: one step. A DEL comes before each SET, so that a full server still grants. The clock does not move.

local stamps, lease_ms, token = KEYS[1], ARGV[3], ARGV[4]
local time = server_time()
if is_late(time, ARGV[1], ARGV[2]) then
  return {'late', text(time)}
end
local set, take, answers = read_set(stamps), arguments(5), {}
local moment = read_moment(take)
local now = set and next_reading(set, time)

local function hold(lease, was_taken_over)
  redis.call('DEL', lease)
  local holder = {token, moment.run, text(moment.epoch), text(moment.as_of), was_taken_over and '1' or '0'}
  redis.call('SET', lease, table.concat(holder, ' '), 'PX', lease_ms)
  return '+'
end

for i = 2, #KEYS, 2 do
  local lease, entry, unusable, tags = KEYS[i], KEYS[i + 1], take(), {}
  for tag = 1, tonumber(take()) do
    tags[tag] = take()
  end
  tags[#tags + 1] = 'k:' .. stored_key(entry)
  local rows = set and read_rows(stamps, tags, now)
  local function can_be_stored(of)
    local since = {}
    for tag = 1, #tags do
      since[tag] = of.as_of
    end
    return judge(set, of, since, rows) == STORED
  end
  -- pcall: a key of another kind under our name is garbage, and found unusable as such
  local found, held = redis.pcall('GETRANGE', entry, 4, 27), read_lease(lease)
  local answer
  if not set then
    answer = '?'
  elseif type(found) == 'string' and found ~= '' and found ~= unusable then
    answer = '='
  elseif held and (held.is_write or held.is_through) then
    answer = '?'
  elseif held and held.is_marker then
    answer = held.token
    if redis.call('PTTL', lease) < tonumber(lease_ms) then -- the load that begins must find it at its fill
      redis.call('PEXPIRE', lease, lease_ms)
    end
  elseif held and held.token ~= token then
    local theirs, ours = can_be_stored(held.moment), can_be_stored(moment)
    if theirs or ours and held.was_taken_over then -- once only: else a stream of invalidations would end no load
      answer = '-' .. held.token
      local left = redis.call('PTTL', lease)
      if left < 0 or left > tonumber(lease_ms) then -- its holder may be gone long before
        redis.call('PEXPIRE', lease, lease_ms)
      end
    else
      answer = ours and hold(lease, true) or '?'
    end
  else
    answer = can_be_stored(moment) and hold(lease, held and held.was_taken_over) or '?'
  end
  answers[#answers + 1] = answer
end
return {text(set and set.epoch or 0), text(set and set.clock or 0), unpack(answers)}
