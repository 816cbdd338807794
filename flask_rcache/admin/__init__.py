"""The admin API: statistics, listings and invalidation over HTTP, behind a guard, with an audit trail."""

from __future__ import annotations

from .blueprint import register

__all__ = ["register"]
