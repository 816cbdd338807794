-- write: store values without a lease, and void the leases so that no load in flight overwrites them (R4.2).
--
-- KEYS  1: stamp set  2: meta; then for each write: its lease, its entry, the index of its type
-- ARGV  1, 2: since and until when this is wanted  3: rows of the stamp set kept at most  4: the bus
--       5, 6, 7: the writer's moment: the server's run, the epoch and the reading; or '', 0 and 0 for that of this call;
--       then for each write:
--       '*', or '=' and the identity of the entry that must lie there, or '@' and the token that the lease must have · PX, ms · type name
--       · number of tags · (tag, its as_of or '')... · the envelope
-- reply {'late', TIME}, or {epoch, clock, stamp, outcome...} with one number a write:
--       1 stored · 2 overtaken · 3 refused · 4 another entry than the one expected
-- atomicity: one step. Publishes {'k', epoch, stamp, clock, {entry...}} of what was stored.

local stamps, meta = KEYS[1], KEYS[2]
local time = server_time()
if is_late(time, ARGV[1], ARGV[2]) then
  return {'late', text(time)}
end
local set, take, outcomes, stored, leases, made = read_set(stamps), arguments(8), {}, {}, {}, 0
local now, full, beside = set and next_reading(set, time), nil, nothing_beside()
local stamp_of_call = now
for i = 3, #KEYS, 3 do
  local lease, entry, index = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local expected = take()
  local result = {moment = read_moment(arguments(5)), px = tonumber(take()), type_name = take()}
  if result.moment.epoch == 0 and set then
    result.moment = {run = set.run, epoch = set.epoch, as_of = now}
  end
  result.tags, result.since = read_tags(take, entry, result.moment.as_of)
  result.envelope = take()
  local outcome = REFUSED
  local kind = string.sub(expected, 1, 1)
  if kind == '=' then
    local found = redis.pcall('GETRANGE', entry, 4, 27)
    outcome = '=' .. (type(found) == 'string' and found or '') == expected and outcome or CONFLICT
  end
  local held = outcome ~= CONFLICT and read_lease(lease)
  if kind == '@' and not (held and held.token == string.sub(expected, 2)) then
    outcome = CONFLICT
  end
  if outcome ~= CONFLICT and not (held and held.is_write) then
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
    elseif outcome == STORED then
      stored[#stored + 1] = stored_key(entry)
    end
  end
  outcomes[#outcomes + 1] = outcome
end
for _, lease in ipairs(leases) do
  redis.call('DEL', lease)
end
if made > 0 then
  keep_beside(beside, stamps, meta, now, set.forgotten)
  set.clock = now
  redis.call('ZADD', stamps, now, '=clock')
  if #stored > 0 then
    publish(ARGV[4], 'k', set.epoch, stamp_of_call, now, stored)
  end
  drop_rows(stamps, set, now, tonumber(ARGV[3]), 2 * made + 20)
end
if full then
  return full
end
return {text(set and set.epoch or 0), text(set and set.clock or 0), text(stamp_of_call or 0), unpack(outcomes)}
