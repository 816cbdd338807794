"""What is cached under which name: the app's own cache type and its tags, in one place."""

from __future__ import annotations

from flask_rcache import CacheType

PLANES = CacheType("planes", ttl=600)

# On every answer with figures of the whole fleet in it, the dashboard first of all.
FLEET_TAG = "fleet"


def plane_tag(tailnum: str) -> str:
    """Return the tag of every answer that shows this plane.

    >>> plane_tag("N711MQ")
    'plane:N711MQ'
    """
    return f"plane:{tailnum}"
