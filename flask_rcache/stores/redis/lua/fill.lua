-- fill: store what loads produced, each only with its lease (R4) and only if nothing invalidated it meanwhile (R3).
--
-- KEYS  1: stamp set  2: meta; then for each fill: its lease, its entry, the index of its type
-- ARGV  1: epoch of the grants  2: as_of of the grants; then for each fill:
--       token · PX, ms · type name · number of tags · (tag, as_of)... · the envelope
-- reply one number a fill: 1 stored · 2 overtaken · 3 refused
-- atomicity: one step; either the entry, its index row and the lease's end are all there, or none is.

local stamps, meta, epoch, as_of = KEYS[1], KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[2])
local function stamp(member)
  local score = redis.pcall('ZSCORE', stamps, member)
  return type(score) == 'string' and tonumber(score) or 0 -- of another kind: then the epoch is not there either
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local floor, barrier, present = stamp('=floor'), stamp('=barrier'), stamp('=epoch')

local function store(entry, index, px, type_name, envelope)
  local rows = redis.pcall('ZCARD', index)
  if type(rows) == 'table' and string.find(rows.err, 'WRONGTYPE') then
    -- Of another kind. Patterns rest on it, so what it should have held is made invalid: the whole type.
    redis.call('DEL', index)
    redis.call('ZADD', stamps, math.max(now, stamp('=clock') + 1), 'c:' .. type_name)
    return 2
  end
  -- The first write of the script: with maxmemory and noeviction it is the one that a full server refuses.
  local done = redis.pcall('SET', entry, envelope, 'PX', px)
  if type(done) == 'table' and done.err then
    return done
  end
  redis.call('SETRANGE', entry, 20, struct.pack('>I8', now))
  local now_ms = math.floor(now / 1000)
  if redis.call('ZADD', index, now_ms + px, entry) == 1 then
    if redis.call('ZCARD', index) == 1 then
      redis.call('HSET', meta, 'type:' .. type_name, 1)
    end
    -- every row that comes lets up to four expired ones go: the index stays as large as what lives
    local gone = redis.call('ZRANGEBYSCORE', index, '-inf', now_ms, 'LIMIT', 0, 4)
    if #gone > 0 then
      redis.call('ZREM', index, unpack(gone))
    end
  end
  return 1
end

local reply, at, held, full = {}, 3, {}, nil
for i = 0, (#KEYS - 2) / 3 - 1 do
  local lease, entry, index = KEYS[3 * i + 3], KEYS[3 * i + 4], KEYS[3 * i + 5]
  local token, px, type_name, tags = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], tonumber(ARGV[at + 3])
  local outcome = 1
  if redis.pcall('GET', lease) ~= token then
    outcome = 3
  else
    held[#held + 1] = lease
    if present ~= epoch or as_of <= barrier then
      outcome = 3
    elseif as_of < floor then
      outcome = 2
    else
      for tag = 0, tags - 1 do
        local since = tonumber(ARGV[at + 5 + 2 * tag])
        if since < floor or since < stamp(ARGV[at + 4 + 2 * tag]) then
          outcome = 2
        end
      end
    end
  end
  at = at + 4 + 2 * tags
  if outcome == 1 then
    outcome = full or store(entry, index, px, type_name, ARGV[at])
    if type(outcome) == 'table' then
      full = outcome
    end
  end
  at = at + 1
  reply[#reply + 1] = outcome
end
for _, lease in ipairs(held) do -- last: a DEL is a write that a full server takes, and lets all that follow pass
  redis.call('DEL', lease)
end
return full or reply -- no room: the leases are given back, and the caller hears why
