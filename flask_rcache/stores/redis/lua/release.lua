-- release: give leases back, or leave a pass marker in their place; each only by its token (R4.1).
--
-- KEYS  the leases
-- ARGV  1, 2: since and until when this is wanted  3: pass marker, ms, or 0
--       4: its kind: 'p' the result cannot be stored, 'f' the loader failed; then one token a lease
-- reply {'late', TIME}, or {the number that were still held}
-- atomicity: one step.

local pass_ms, kind, released = tonumber(ARGV[3]), ARGV[4], 0
local time = server_time()
if is_late(time, ARGV[1], ARGV[2]) then
  return {'late', text(time)}
end
for i, lease in ipairs(KEYS) do
  local token, held = ARGV[i + 4], read_lease(lease)
  if held and held.token == token then
    released = released + 1
    if pass_ms > 0 then
      redis.call('DEL', lease)
      redis.call('SET', lease, kind .. string.sub(token, 2), 'PX', pass_ms)
    elseif not held.is_marker then
      redis.call('DEL', lease)
    end
  end
end
return {released}
