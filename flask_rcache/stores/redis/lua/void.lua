-- void: void the lease of one key, so that no load under way fills it (R4.2); one of a write behind stays.
--
-- KEYS  1: the lease
-- reply {1}
-- atomicity: one step on one key, right at any time.

void_lease(KEYS[1])
return {1}
