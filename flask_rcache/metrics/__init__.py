"""What the cache does, as metrics and spans: :mod:`.prometheus` and :mod:`.opentelemetry`, each an extra of its own.

Nothing is imported here: an app without these packages pays for neither.
"""

from __future__ import annotations

__all__: list[str] = []
