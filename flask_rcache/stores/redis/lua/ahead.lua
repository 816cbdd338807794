-- ahead: stamps that lie ahead of the clock while a commit is under way, each under the token of its commit (R1.3).
--
-- KEYS  1: stamp set
-- ARGV  1: the bus  2: 'a' set ahead · 's' settle: committed, or nobody knows · 'w' withdraw: not committed
--       3: rows of the stamp set kept at most  4: the token, alphanumeric  5: how far ahead, ms
--       6: to renew, the epoch of the set in which the token was set ahead, where nothing is done when it has ended; or
--       0  7...: the tags
-- reply {epoch, clock, row...} with the row of each tag; the epoch is 0 when the set is lost: then nothing is valid
-- atomicity: one step on one key, right at any time; its first write is one that a full server takes. While a row is
--            ahead, it is the greatest of its base (what it would be otherwise) and of what lies ahead under each token.
--            Publishes {'t', epoch, stamp, clock, tags} when it sets ahead; else {'s', epoch, row, clock, tags}, the
--            tags of one row each time: those rows are what they are then, and may be lower than before.

local stamps, bus, kind, token, tags = KEYS[1], ARGV[1], ARGV[2], ARGV[4], {}
for i = 7, #ARGV do
  tags[#tags + 1] = ARGV[i]
end
local set, now = read_set(stamps), server_time()
local write = redis.pcall('ZREM', stamps, '=none') -- a replica must not acknowledge it
if type(write) == 'table' and not string.find(write.err, 'WRONGTYPE') then
  return write
end
if not set then
  publish(bus, 't', 0, now, now, tags)
  return {'0', text(now)}
end

now = next_reading(set, now)
redis.call('ZADD', stamps, now, '=clock')
local rows = read_rows(stamps, tags, now)
local own, bases = {}, {}
for i, tag in ipairs(tags) do
  own[i], bases[i] = '+' .. token .. ' ' .. tag, '^' .. tag
end

if kind == 'a' then
  local ahead = now + tonumber(ARGV[5]) * 1000
  local due, base_of, rest, raised, companions, renewed = text(-ahead - KEPT), {}, {}, {}, {}, {}
  local held = ARGV[6] == text(set.epoch) and read_rows(stamps, own, now)
  for i, tag in ipairs(tags) do
    local row = rows[i] or set.forgotten -- a missing row proves as much
    if not held or held[i] then
      -- When it is ahead already, by another commit or by this one, its base is known, or gone with clear_all.
      local into = (row > now or held and held[i] == row) and rest or base_of
      into[#into + 1] = text(math.min(row, now))
      into[#into + 1] = bases[i]
      for _, member in ipairs({tag, own[i]}) do
        raised[#raised + 1] = text(ahead)
        raised[#raised + 1] = member
      end
      for _, member in ipairs({tag, own[i], bases[i]}) do
        companions[#companions + 1] = due
        companions[#companions + 1] = '~' .. member
      end
      renewed[#renewed + 1] = tag
      row = math.max(row, ahead)
    end
    rows[i] = row
  end
  add_members(stamps, 'CH', base_of)
  add_members(stamps, 'NX', rest)
  add_members(stamps, 'GT', raised)
  add_members(stamps, 'LT', companions)
  if #renewed > 0 then
    publish(bus, 't', set.epoch, ahead, now, renewed)
  end
else
  local others, live = {}, {}
  local found = redis.call('ZRANGEBYSCORE', stamps, '(' .. text(now), text(now + AHEAD), 'WITHSCORES')
  for i = 1, #found, 2 do
    local owner, tag = string.match(found[i], '^%+(%w+) (.*)$')
    if owner and owner ~= token then
      others[tag] = math.max(others[tag] or 0, tonumber(found[i + 1]))
    end
  end
  local known = kind == 'w' and read_rows(stamps, bases, now) or {}
  local is_own = kind == 'w' and read_rows(stamps, own, now) or {}
  local groups, order, changed, moved, gone, companions = {}, {}, {}, {}, {}, {}
  for i, tag in ipairs(tags) do
    local base, other, row = now, others[tag], rows[i] or set.forgotten
    if kind == 'w' then -- a row that no commit has set ahead was stamped, and stays
      local is_ahead = other or is_own[i] and (row > now or row == is_own[i])
      base = is_ahead and (known[i] or now) or not is_ahead and row
    end
    rows[i] = math.max(base, other or 0)
    changed[#changed + 1] = text(rows[i])
    changed[#changed + 1] = tag
    companions[#companions + 1] = text(-math.max(rows[i], now) - KEPT)
    companions[#companions + 1] = '~' .. tag
    for _, member in ipairs(other and {own[i]} or {own[i], bases[i]}) do
      gone[#gone + 1] = member
      gone[#gone + 1] = '~' .. member
    end
    if other then
      moved[#moved + 1] = text(base)
      moved[#moved + 1] = bases[i]
    end
    local group = groups[rows[i]]
    if not group then
      group = {}
      groups[rows[i]] = group
      order[#order + 1] = rows[i]
    end
    group[#group + 1] = tag
  end
  add_members(stamps, 'CH', changed)
  add_members(stamps, 'GT', moved)
  add_members(stamps, 'LT', companions)
  for first = 1, #gone, CHUNK do
    redis.call('ZREM', stamps, unpack(gone, first, math.min(first + CHUNK - 1, #gone)))
  end
  for _, row in ipairs(order) do
    publish(bus, 's', set.epoch, row, now, groups[row])
  end
end
drop_rows(stamps, set, now, tonumber(ARGV[3]), 2 * #tags + 20)
local reply = {text(set.epoch), text(now)}
for i = 1, #tags do
  reply[i + 2] = text(rows[i])
end
return reply
