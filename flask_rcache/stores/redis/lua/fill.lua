-- fill: store what loads produced, each only with its lease (R4.2) and only if nothing invalidated it meanwhile (R1.4).
--
-- KEYS  1: stamp set  2: meta; then for each fill: its lease, its entry, the index of its type
-- ARGV  1, 2: since and until when this is wanted  3: rows of the stamp set kept at most; then for each fill:
--       token · moment: the server's run, the epoch, the reading · PX, ms · type name · number of tags · (tag, its as_of or '')... · the envelope
-- reply {'late', TIME}, or {epoch, clock, outcome...} with one number a fill: 1 stored · 2 overtaken · 3 refused
-- atomicity: one step; either the entry, its rows and the lease's end are all there, or none is.

local stamps, meta = KEYS[1], KEYS[2]
local time = server_time()
if is_late(time, ARGV[1], ARGV[2]) then
  return {'late', text(time)}
end
local set, take, outcomes, leases, made = read_set(stamps), arguments(4), {}, {}, 0
local now, full, beside = set and next_reading(set, time), nil, nothing_beside()
for i = 3, #KEYS, 3 do
  local lease, entry, index = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local token, held = take(), read_lease(lease)
  local result = {moment = read_moment(take), px = tonumber(take()), type_name = take()}
  result.tags, result.since = read_tags(take, entry, result.moment.as_of)
  result.envelope = take()
  local outcome = REFUSED
  if held and held.token == token then
    leases[#leases + 1] = lease
    if set then
      result.rows = read_rows(stamps, result.tags, now)
      outcome = judge(set, result.moment, result.since, result.rows)
    end
  end
  if outcome == STORED then
    outcome = full or put(beside, stamps, entry, index, result, now)
    made = made + #result.tags
    now = now + 1
    if type(outcome) == 'table' then
      full = outcome
    end
  end
  outcomes[#outcomes + 1] = outcome
end
for _, lease in ipairs(leases) do -- a DEL is a write that a full server takes, and lets all that follow pass
  redis.call('DEL', lease)
end
if made > 0 then
  keep_beside(beside, stamps, meta, now, set.forgotten)
  set.clock = now
  redis.call('ZADD', stamps, now, '=clock')
  drop_rows(stamps, set, now, tonumber(ARGV[3]), 2 * made + 20)
end
if full then -- no room: the leases are given back, and the caller hears why
  return full
end
return {text(set and set.epoch or 0), text(set and set.clock or 0), unpack(outcomes)}
