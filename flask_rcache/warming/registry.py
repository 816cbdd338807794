"""The warming tasks of an extension, and the apps whose workers run them.

Owns what may be registered. When a task runs is ``warmer``'s.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from weakref import WeakSet

from flask import Flask, request_started

from ..context import manager_of
from ..errors import ConfigError
from ..model.cache_type import check_ttl
from .pages import Pages
from .state import Task
from .warmer import Warmer

__all__ = ["Warming", "warmer_of"]

_EXTENSION: Final = "rcache.warming"


class Warming:
    """The tasks of an extension: ``rcache.warming``."""

    def __init__(self) -> None:
        self._tasks: Final[dict[str, Task]] = {}
        self._warmers: Final[WeakSet[Warmer]] = WeakSet()

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The registered tasks, by name."""
        return self._tasks

    def register_task(
        self,
        name: str,
        task: Callable[[], object],
        *,
        critical: bool = False,
        every: float | timedelta = 300.0,
    ) -> None:
        """Have a function run at start, after a deploy, after the cache was emptied, and then regularly.

        One worker of all runs it at a time, in the background, in an app context. A task that hangs or fails affects no
        request.

        Args:
            name: of the task.
            task: fills the cache, for example by calling ``@cached`` functions or their ``.refresh``.
            critical: whether its failures are warnings in the log.
            every: seconds, or a ``timedelta``, after which it is due again.

        Raises:
            ConfigError: an argument is not usable, or there is a task of this name.
        """
        if not isinstance(name, str) or not name:
            raise ConfigError(f"a warming task's name is a non-empty string, not {name!r:.80}")
        if not callable(task):
            raise ConfigError(f"warming task {name!r} must be a function, not {task!r:.80}")
        if inspect.iscoroutinefunction(task):
            raise ConfigError(f"warming task {name!r} is async: pass a function that calls asyncio.run")
        if name in self._tasks:
            raise ConfigError(f"there is a warming task {name!r} already: give this one another name")
        seconds = check_ttl(every, what=f"every of warming task {name!r}")
        self._tasks[name] = Task(name, task, bool(critical), seconds)
        for warmer in list(self._warmers):
            warmer.begin()

    def register_view(
        self,
        target: str | Callable[[], Iterable[str]],
        *,
        arguments: Iterable[Mapping[str, Any]] | Callable[[], Iterable[Mapping[str, Any]]] | None = None,
        headers: Sequence[Mapping[str, str]] = ({},),
        name: str | None = None,
        critical: bool = False,
        every: float | timedelta = 300.0,
    ) -> None:
        """Have pages requested, so that their answers are cached before anybody asks.

        A page whose answer would expire before the next run is loaded anew.

        Args:
            target: an endpoint, a URL (``/path?query``, or with scheme and host), or a function that returns URLs.
            arguments: for an endpoint: the view's arguments, a mapping for each page, or a function that returns them.
            headers: the request headers of each variant, such as ``{"Accept-Language": "de"}``.
            name: of the task; the target when left out.
            critical: see :meth:`register_task`.
            every: see :meth:`register_task`.

        Raises:
            ConfigError: an argument is not usable, or there is a task of this name.
        """
        if not (target if isinstance(target, str) else callable(target)):
            raise ConfigError(f"register_view takes an endpoint, a URL or a function of URLs, not {target!r:.80}")
        if name is None:
            name = target if isinstance(target, str) else str(getattr(target, "__qualname__", target))
        is_url = not isinstance(target, str) or target.startswith("/") or "://" in target
        if is_url and arguments is not None:
            raise ConfigError(f"arguments of warming task {name!r} belong to an endpoint, not to a URL")
        seconds = check_ttl(every, what=f"every of warming task {name!r}")
        self.register_task(name, Pages(target, arguments, tuple(headers), seconds), critical=critical, every=seconds)

    def attach(self, app: Flask) -> Warmer:
        """Have an app's workers run the tasks."""
        warmer = Warmer(app, self._tasks)
        self._warmers.add(warmer)
        app.extensions[_EXTENSION] = warmer
        manager_of(app).engine.sections["warming"] = warmer.report
        request_started.connect(_on_request, sender=app)
        if self._tasks:
            warmer.begin()
        return warmer


def _on_request(app: Flask, **_: Any) -> None:
    """The first request of a process: from here on it is a worker."""
    request_started.disconnect(_on_request, sender=app)
    app.extensions[_EXTENSION].serve()


def warmer_of(app: Flask) -> Warmer | None:
    """What runs an app's tasks; ``None`` where there are none."""
    warmer: Warmer | None = app.extensions.get(_EXTENSION)
    return warmer
