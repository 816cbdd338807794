"""What the cache does, as metrics and spans: :mod:`.prometheus` and :mod:`.opentelemetry`, each an extra of its own.

Each is imported when it is switched on.
"""

from __future__ import annotations

__all__: list[str] = []
