-- _prelude: what the scripts share. The loader puts it before each of them; it does nothing by itself.
--
-- The stamp set (rule R1) is one sorted set. What its members are, their names and scores say:
--   a tag            its row: the stamp of its last invalidation, or =forgotten when a fill made the row; µs
--   ~ and a tag      beside each row: minus the time from which the row may be dropped, µs
--   + token, tag     how far the commit with this token has set the tag's row ahead, µs; a ~ member beside it as well
--   ^ and a tag      while its row is ahead of the clock: what it would be otherwise, µs; a ~ member beside it as well
--   =clock           the last reading of the clock that was given out (rule R2); every later one is greater
--   =floor           what was loaded before it is invalid (clear_all)
--   =barrier         what was loaded before it, or at it, is not stored any more (patterns, rule R4.2)
--   =forgotten       the latest stamp of a row that was dropped
--   =epoch  =run     minus the random name of the set; minus 2^52 and 52 bits of the hash of the server's run id
--   =taken           the clock when the set was made, or when this server took it over from another
--   =fence           instead of all the rest: a process has found the server's successor, see leave.lua
-- So scores above 0 are readings of the clock, those down to -2^52 are times of dropping, and below are names.

local SECOND = 1000000
-- A row outlives its last entry by this: a request that began before may still fill. On a cluster (a hash tag in the
-- name) entries on other shards may have the tag, of which this one does not know.
local KEPT = (KEYS[1] and string.find(KEYS[1], '{', 1, true) and 3600 or 300) * SECOND
local AHEAD = 60 * SECOND -- a stamp may be set a few seconds ahead; what is later than this is none of ours
local NAMES = 2 ^ 52 -- above every time, and exact as a double up to twice that
local CHUNK = 1000 -- of arguments that Lua unpacks at once
local STORED, OVERTAKEN, REFUSED, CONFLICT = 1, 2, 3, 4

local function text(number)
  return string.format('%.0f', number)
end

local function server_time()
  local time = redis.call('TIME')
  return tonumber(time[1]) * SECOND + tonumber(time[2])
end

-- The stored key that lies at a place: on a cluster the place has the number of the shard, `{n}:`, behind the prefix.
local function stored_key(place)
  return (string.gsub(place, '^([^:]+:){%d+}:', '%1', 1))
end

-- The name of the server's run, as moments have it: of its id; nil where INFO does not say it.
local function run_name(info)
  local id = type(info) == 'string' and string.match(info, 'run_id:(%w+)')
  return id and text(NAMES + tonumber(string.sub(redis.sha1hex(id), 1, 13), 16))
end

-- Rule R4.4. A write is wanted from the TIME that its sender has heard last until its deadline. Before: TIME was set back.
local function is_late(time, since, deadline)
  return time > tonumber(deadline) or time < tonumber(since)
end

-- What the set says of time and of itself; nil when it is lost or none of ours: then nothing in the store is valid, for
-- those who read it either. A server with a fence is as good as read-only: who meets it looks for its successor.
local function read_set(stamps)
  local scores = redis.pcall(
    'ZMSCORE', stamps, '=epoch', '=clock', '=floor', '=forgotten', '=barrier', '=run', '=taken', '=fence'
  )
  if scores.err then
    return nil
  end
  if scores[8] then
    error('READONLY flask_rcache: another server has taken over', 0)
  end
  local epoch = -tonumber(scores[1] or 0)
  local clock, floor, forgotten = tonumber(scores[2] or -1), tonumber(scores[3] or -1), tonumber(scores[4] or -1)
  if
    epoch < NAMES or epoch >= 2 * NAMES or math.min(clock, floor, forgotten) < 0
    or math.max(clock, floor, forgotten) >= NAMES
  then
    return nil
  end
  local barrier = tonumber(scores[5] or 0)
  if barrier < 0 or barrier > clock then -- readers do not look at it: the set is in use
    redis.call('ZADD', stamps, clock, '=barrier')
    barrier = clock
  end
  local run = -tonumber(scores[6] or 0)
  run = run >= NAMES and run < 2 * NAMES and text(run) or '' -- '' fits no moment
  return {
    epoch = epoch, run = run, clock = clock, floor = floor, forgotten = forgotten, barrier = barrier,
    taken = tonumber(scores[7] or clock),
  }
end

-- The next reading of the clock (rule R2).
local function next_reading(set, time)
  return math.max(time, set.clock + 1)
end

-- A set in which nothing older is valid (rule R1.7).
local function new_set(stamps, epoch, run, now)
  redis.call('DEL', stamps)
  redis.call(
    'ZADD', stamps, '-' .. epoch, '=epoch', '-' .. run, '=run', now, '=clock', now, '=floor', now, '=forgotten', now,
    '=taken'
  )
  return {
    epoch = tonumber(epoch), run = run, clock = now, floor = now, forgotten = now, barrier = 0, taken = now,
  }
end

-- The rows of some tags, false where there is none. A row later than any stamp can be becomes one of now.
local function read_rows(stamps, tags, now)
  local rows = {}
  for first = 1, #tags, CHUNK do
    local scores = redis.call('ZMSCORE', stamps, unpack(tags, first, math.min(first + CHUNK - 1, #tags)))
    for i, score in ipairs(scores) do
      local row = score and tonumber(score)
      if row and (row > now + AHEAD or row < 0) then
        redis.call('ZADD', stamps, now, tags[first + i - 1])
        row = now
      end
      rows[first + i - 1] = row
    end
  end
  return rows
end

-- Rules R1.4, R4.2 and R4.4: what becomes of a result of a moment (the server's run, the epoch and the reading), whose
-- tags reflect the source since these readings. STORED, when it can be.
local function judge(set, moment, since, rows)
  if moment.epoch ~= set.epoch or moment.run ~= set.run or moment.as_of <= set.barrier then
    return REFUSED
  end
  for i, reading in ipairs(since) do
    if reading < set.floor or reading < (rows[i] or set.forgotten) then
      return OVERTAKEN
    end
  end
  return STORED
end

-- Members with their scores, as one ZADD or a few.
local function add_members(stamps, condition, pairs_of)
  for first = 1, #pairs_of, CHUNK do
    redis.call('ZADD', stamps, condition, unpack(pairs_of, first, math.min(first + CHUNK - 1, #pairs_of)))
  end
end

-- Rule R1.4: let rows go that are due, and above the limit those of no live entry, the oldest first, then the oldest.
-- What went is remembered in =forgotten.
local function drop_rows(stamps, set, now, limit, most)
  local gone, latest = {}, set.forgotten
  local function drop(companions)
    for _, companion in ipairs(companions) do
      local tag = string.sub(companion, 2)
      if not string.find(tag, '^[+^]') then -- those are no rows: the row says as much
        latest = math.max(latest, math.min(tonumber(redis.call('ZSCORE', stamps, tag) or 0), now + AHEAD))
      end
      gone[#gone + 1] = companion
      gone[#gone + 1] = tag
    end
  end
  local function finish()
    for first = 1, #gone, CHUNK do
      redis.call('ZREM', stamps, unpack(gone, first, math.min(first + CHUNK - 1, #gone)))
    end
    gone = {}
  end
  local function excess()
    return math.min(math.ceil((redis.call('ZCARD', stamps) - 7) / 2) - limit, most)
  end
  drop(redis.call('ZREVRANGEBYSCORE', stamps, '(0', text(-now), 'LIMIT', 0, most))
  finish()
  if excess() > 0 then
    drop(redis.call('ZREVRANGEBYSCORE', stamps, '(0', text(-now - KEPT), 'LIMIT', 0, excess()))
    finish()
  end
  local left = excess()
  if left > 0 then
    for _, tag in ipairs(redis.call('ZRANGEBYSCORE', stamps, '(0', '+inf', 'LIMIT', 0, left + 4)) do
      if left > 0 and not string.find(tag, '^[=+^]') then
        drop({'~' .. tag})
        left = left - 1
      end
    end
    finish()
  end
  if latest > set.forgotten then
    redis.call('ZADD', stamps, latest, '=forgotten')
    set.forgotten = latest
  end
end

-- Stamp tags: no stamp is lowered (rule R1.3).
local function stamp(stamps, tags, now)
  local rows, companions = {}, {}
  for i, tag in ipairs(tags) do
    rows[2 * i - 1], rows[2 * i] = now, tag
    companions[2 * i - 1], companions[2 * i] = text(-now - KEPT), '~' .. tag
  end
  add_members(stamps, 'GT', rows)
  add_members(stamps, 'LT', companions)
end

-- Who has a key: the token and moment of its loader and whether another had it before, or a pass marker, or 'w' and the
-- id of a write that is not applied yet, or 't…' of a write through the cache, which are tokens alone. nil when nobody does; what is none of ours goes.
local function read_lease(lease)
  local held = redis.pcall('GET', lease)
  if not held then
    return nil
  end
  if type(held) == 'string' and #held <= 150 then
    if string.find(held, '^[pf]%w*$') then
      return {token = held, is_marker = true}
    end
    if string.find(held, '^w%d+%-%d+$') then
      return {token = held, is_write = true}
    end
    if string.find(held, '^t%x+$') then
      return {token = held, is_through = true}
    end
    local token, run, epoch, as_of, taken = string.match(held, '^(l%w*) (%d+) (%d+) (%d+) ([01])$')
    if token then
      local moment = {run = run, epoch = tonumber(epoch), as_of = tonumber(as_of)}
      return {token = token, moment = moment, was_taken_over = taken == '1'}
    end
  end
  redis.call('DEL', lease)
  return nil
end

-- Reads ARGV from a position on.
local function arguments(at)
  return function()
    at = at + 1
    return ARGV[at - 1]
  end
end

-- A moment as ARGV has it: the hash of the server's run, the epoch and the reading.
local function read_moment(take)
  return {run = take(), epoch = tonumber(take()), as_of = tonumber(take())}
end

-- The tags of a result as ARGV has them (their number, then each with its reading, '' for the result's own as_of), and
-- last the key itself, which deletions stamp.
local function read_tags(take, entry, as_of)
  local tags, since = {}, {}
  for i = 1, tonumber(take()) do
    tags[i], since[i] = take(), take()
    since[i] = since[i] == '' and as_of or tonumber(since[i])
  end
  tags[#tags + 1], since[#since + 1] = 'k:' .. stored_key(entry), as_of
  return tags, since
end

-- What is to be kept beside the entries that a call stores: see keep_beside.
local function nothing_beside()
  return {missing = {}, due = {}, indexes = {}}
end

-- Store an entry that was judged, and note what is to be kept beside it: its rows, and its row in the index of its type.
-- The first write is the SET, which a full server refuses. Returns the outcome, or the server's error.
local function put(beside, stamps, entry, index, result, now)
  local rows = beside.indexes[index]
  if not rows then
    rows = {type_name = result.type_name}
    beside.indexes[index] = rows
    local size = redis.pcall('ZCARD', index)
    if type(size) == 'table' and string.find(size.err, 'WRONGTYPE') then
      -- Patterns rest on the index. What it should have held is made invalid: the whole type.
      redis.call('DEL', index)
      stamp(stamps, {'c:' .. result.type_name}, now)
      rows.is_lost = true
    end
  end
  if rows.is_lost then
    return OVERTAKEN
  end
  local done = redis.pcall('SET', entry, result.envelope, 'PX', result.px)
  if type(done) == 'table' and done.err then
    return done
  end
  redis.call('SETRANGE', entry, 4, struct.pack('>I8I8I8', result.moment.epoch, result.moment.as_of, now))
  local due = -now - result.px * 1000 - KEPT
  for i = 1, #result.tags - 1 do -- the last is the key itself: only a deletion makes its row
    local tag = result.tags[i]
    if not result.rows[i] then
      beside.missing[tag] = true
    end
    beside.due[tag] = math.min(due, beside.due[tag] or due)
  end
  rows[#rows + 1] = math.floor(now / 1000) + result.px
  rows[#rows + 1] = entry
  return STORED
end

-- Let go of rows of an index: those that expired, and of some at random those whose entry was evicted. So the index is
-- bounded by what lives, under every eviction policy.
local function tidy_index(index, added, now_ms)
  local gone = redis.call('ZRANGEBYSCORE', index, '-inf', now_ms, 'LIMIT', 0, 4 * added)
  for _, other in ipairs(redis.call('ZRANDMEMBER', index, 2 * added)) do
    if redis.pcall('EXISTS', other) == 0 then -- pcall: while a slot migrates it may lie elsewhere already
      gone[#gone + 1] = other
    end
  end
  for first = 1, #gone, CHUNK do
    redis.call('ZREM', index, unpack(gone, first, math.min(first + CHUNK - 1, #gone)))
  end
end

-- Keep what belongs beside the entries that were stored.
local function keep_beside(beside, stamps, meta, now, forgotten)
  local missing, companions = {}, {}
  for tag in pairs(beside.missing) do
    missing[#missing + 1] = text(forgotten) -- that nothing later was dropped is what is known (rule R1.3)
    missing[#missing + 1] = tag
  end
  for tag, due in pairs(beside.due) do
    companions[#companions + 1] = text(due)
    companions[#companions + 1] = '~' .. tag
  end
  add_members(stamps, 'NX', missing)
  add_members(stamps, 'LT', companions)
  for index, rows in pairs(beside.indexes) do
    local added = 0
    for first = 1, #rows, CHUNK do
      added = added + redis.call('ZADD', index, unpack(rows, first, math.min(first + CHUNK - 1, #rows)))
    end
    if added > 0 then -- for every row that comes up to six go
      local known = redis.pcall('HSETNX', meta, 'type:' .. rows.type_name, 1)
      if type(known) == 'table' and string.find(known.err, 'WRONGTYPE') then
        redis.call('DEL', meta)
        redis.call('HSET', meta, 'type:' .. rows.type_name, 1)
      end
      tidy_index(index, added, math.floor(now / 1000))
    end
  end
end

-- Send the memory tiers an invalidation: kind 't' tags, '*' everything, 'k' keys. The epoch is 0 when the set is lost.
local function publish(bus, kind, epoch, at, clock, names)
  redis.call('PUBLISH', bus, cmsgpack.pack({kind, text(epoch), text(at), text(clock), names}))
end

-- Void a key's lease, unless a write of it is not applied yet: nothing is filled before that.
local function void_lease(lease)
  local held = read_lease(lease)
  if held and not held.is_write then
    redis.call('DEL', lease)
  end
end
