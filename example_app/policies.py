"""What is cached under which name: the app's own cache types, and what an event invalidates, in one place."""

from __future__ import annotations

from typing import Any

from flask_rcache import CacheType, RCache

PLANES = CacheType("planes", ttl=600)
# Of somebody else's service: soon asked again, and served for an hour while it fails.
RATINGS = CacheType("ratings", ttl=10, stale_if_error=3600)
VISITS = CacheType("visits", ttl=86_400)

rcache = RCache(types=[PLANES, RATINGS, VISITS])

# What changes without a write to the database is said by an event; here, by a button of the home page.
TYPE_OUTDATED = "type.outdated"
EVENTS: dict[str, Any] = {TYPE_OUTDATED: {"types": ["{type}"]}}
