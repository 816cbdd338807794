"""A warming task, and what is known of it in all processes.

Owns what makes a task due. The state of a task is one entry in the store, under :data:`STATE`. So whatever empties the
cache (a flush, a failover, ``clear_all``) makes every task due, and the store's clock is the only one that counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from ..model.cache_type import CacheType
from ..model.entry import MICROSECONDS
from ..model.objects import code_fingerprint, unwrapped

__all__ = ["STATE", "Task", "TaskState"]

#: The type of the entries that hold what is known of each task.
STATE: Final = CacheType("rcache_warming", ttl=30 * 86_400, l1_ttl=0)
#: Seconds that a claim holds without being renewed, at most and at least; and as a part of ``every``. Who waits for it
#: looks again up to a fifth later and half a second: so another worker takes over within ``every``.
_LONGEST_CLAIM: Final = 15.0
_SHORTEST_CLAIM: Final = 1.2
_CLAIM_OF_EVERY: Final = 0.6
_VERSIONS_KEPT: Final = 4


@dataclass(frozen=True, slots=True)
class Task:
    """Something that fills the cache.

    Args:
        name: of the task.
        run: fills the cache; called without arguments, in an app context.
        critical: whether a failure is a warning in the log; else it is logged for debugging only.
        every: seconds after which it is due again.
    """

    name: str
    run: Callable[[], object]
    critical: bool = False
    every: float = 300.0

    @property
    def claim(self) -> float:
        """Seconds that the claim of a run holds without being renewed."""
        return max(_SHORTEST_CLAIM, min(_LONGEST_CLAIM, _CLAIM_OF_EVERY * self.every))

    @property
    def version(self) -> str:
        """What the code of the task is: another version has warmed nothing yet."""
        function = unwrapped(self.run)
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        text = repr(("" if code is None else code_fingerprint(code), self.every))
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(slots=True)
class TaskState:
    """What is known of a task in all processes. Times are microseconds of the store's clock, durations seconds.

    Attributes:
        versions: when each version of the code ran last; of the last few, which run side by side during a deploy.
        token: of the run that has claimed the task; empty when none does.
        until: how long the claim holds.
        started: when it ran last.
        succeeded: when it succeeded last.
        duration: seconds that the last run took.
        execution_count: runs that have ended.
        success_count: those that succeeded.
        failure_count: those that failed.
        error: of the last run; empty when it succeeded.
    """

    versions: dict[str, int] = field(default_factory=dict)
    token: str = ""
    until: int = 0
    started: int = 0
    succeeded: int = 0
    duration: float = 0.0
    execution_count: int = 0
    success_count: int = 0
    failure_count: int = 0
    error: str = ""

    @classmethod
    def of(cls, content: object) -> TaskState:
        """What an entry says; a new state when that is nothing."""
        try:
            known = json.loads(content) if isinstance(content, bytes) else {}
            return cls(**known)
        except (TypeError, ValueError):  # of another release
            return cls()

    @property
    def content(self) -> bytes:
        """As an entry holds it."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()

    def is_claimed(self, now: int) -> bool:
        """Whether a run that lives has it."""
        return bool(self.token) and self.until > now

    def due_at(self, task: Task, release: str) -> int:
        """From when on it is to run, µs; a claim aside."""
        started = self.versions.get(f"{task.version}:{release}")
        if started is None:
            return 0
        if self.token:  # its process died, unless it is renewed
            return self.until
        return started + int(task.every * MICROSECONDS)

    def claim(self, task: Task, release: str, now: int, token: str) -> None:
        """A run begins, or goes on after the cache was emptied."""
        version = f"{task.version}:{release}"
        self.versions = {**{name: at for name, at in self.versions.items() if name != version}, version: now}
        while len(self.versions) > _VERSIONS_KEPT:
            del self.versions[next(iter(self.versions))]
        self.token, self.started = token, now
        self.renew(task, now)

    def renew(self, task: Task, now: int) -> None:
        """The run goes on."""
        self.until = now + int(task.claim * MICROSECONDS)

    def figures(self, now: int) -> dict[str, Any]:
        """As operators see it: seconds since 1970, of the store's clock."""
        return {
            "execution_count": self.execution_count,
            "success_count": self.success_count,
            "failure_count": self.failure_count,
            "last_run": self.started / MICROSECONDS or None,
            "last_success": self.succeeded / MICROSECONDS or None,
            "duration": round(self.duration, 6),
            "running": self.is_claimed(now),
            "error": self.error or None,
        }
