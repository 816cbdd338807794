-- release: give leases back, or leave a pass marker in their place; each only by its token.
--
-- KEYS  the leases
-- ARGV  1: pass marker, ms, or 0   2: its kind: 'p' the result cannot be kept, 'f' the loader failed
--       then one token a lease
-- reply the number that were still held
-- atomicity: one step.

local pass_ms, held = tonumber(ARGV[1]), 0
for i, lease in ipairs(KEYS) do
  local token = ARGV[i + 2]
  if redis.pcall('GET', lease) == token then
    held = held + 1
    if pass_ms > 0 then
      redis.call('DEL', lease)
      redis.call('SET', lease, ARGV[2] .. string.sub(token, 2), 'PX', pass_ms)
    elseif not string.find(token, '^[pf]') then
      redis.call('DEL', lease)
    end
  end
end
return held
