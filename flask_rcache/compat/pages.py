"""Keys of decorated views: the path of a request, with its query and the view's source where they count.

Owns the default keys of ``cached``, spelled as Flask-Caching spells them, since apps delete by them; and which requests
they stand for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast
from urllib.parse import parse_qsl

from flask import request, url_for
from werkzeug.datastructures import MultiDict

from ..context import EXTENSION
from ..model.named_tuple import NamedTuple
from ..observed import raw_environ
from ..views.bound import has_flashes

__all__ = ["OF_THE_PATH", "Asked", "QueryArgs", "ViewKey", "asked_by", "source_hash"]

#: A query: as a string, a mapping, or pairs.
QueryArgs = str | Mapping[str, Any] | Iterable[tuple[str, Any]]
#: What the path of a page says as well.
OF_THE_PATH: Final = frozenset({"view_args", "method"})


class Asked(NamedTuple):
    """What a request asks of a view whose answers are kept by the path.

    Args:
        page: the context of the request; ``None`` outside of one, or where the app has no cache.
        is_bypassed: whether the path does not say what is asked for: by a POST, or while messages wait to be shown.
        is_stored: whether the answer may be stored: what a HEAD leaves out, a GET must have.
    """

    page: Any = None
    is_bypassed: bool = False
    is_stored: bool = True


def asked_by(context: Any) -> Asked:
    """What the request of a context asks for; ``None`` for no context."""
    if context is None or EXTENSION not in context.app.extensions:
        return Asked()
    method = raw_environ(context.request)["REQUEST_METHOD"]
    is_bypassed = method not in ("GET", "HEAD") or has_flashes(context)
    return Asked(context, is_bypassed, method != "HEAD")


class ViewKey:
    """The default key of a view.

    Args:
        f: the view.
        prefix: ``key_prefix``.
        query_string: whether the query counts.
        hash_method: of it, and of the source; ``None`` for that of the cache.
        cache: gives the cache, for its settings.
        source_check: whether the source counts; ``None`` for what the cache says.

    Attributes:
        is_by_path: whether it is made of the path of a request.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        prefix: str | Callable[[], str],
        query_string: bool,
        hash_method: Callable[..., Any] | None,
        cache: Callable[[], Any],
        source_check: bool | None,
    ) -> None:
        self._cache: Final = cache
        self._f: Final = f
        self._prefix: Final = prefix
        self._query_string: Final = query_string
        self._hash_method: Final = hash_method
        self._source_check: Final = source_check
        self.is_by_path: Final = isinstance(prefix, str) and "%s" in prefix
        names = inspect.signature(f).parameters.values()
        self._names: Final = [each.name for each in names if each.kind is each.POSITIONAL_OR_KEYWORD]

    def key(self, *args: Any, **kwargs: Any) -> str:
        """The key of a call; ``path`` and ``query_args`` stand for those of a request."""
        kwargs.update(zip(self._names, args, strict=False))
        path: str | None = None
        query: QueryArgs | None = None
        in_request = kwargs.pop("use_request", False)
        if not in_request:
            path, query = kwargs.pop("path", None), kwargs.pop("query_args", None)
        if self._query_string:
            return self._start(path or (request.path if self.is_by_path else "")) + self._query(query)
        if self.is_by_path and path is None:
            path = request.path if in_request else url_for(self._f.__name__, _external=False, **kwargs)
        key = self._start(path or "")
        return key + source_hash(self._f, self._hash()) if self._checks() else key

    def of_request(self) -> str:
        """The key of the current request, where it is made of its path."""
        if self._query_string:
            return self._start(request.path) + self._query(None)
        key = self._start(request.path)
        return key + source_hash(self._f, self._hash()) if self._checks() else key

    def _start(self, path: str) -> str:
        if callable(self._prefix):
            return self._prefix()
        return self._prefix % path if self.is_by_path else self._prefix

    def _query(self, given: QueryArgs | None) -> str:
        pairs = list(request.args.items(multi=True)) if given is None else _pairs(given)
        hashed = self._hash()(str(tuple(sorted(pairs))).encode())
        if self._checks():
            hashed.update(inspect.getsource(self._f).encode())
        return str(hashed.hexdigest())

    def _checks(self) -> bool:
        return bool(self._cache().source_check if self._source_check is None else self._source_check)

    def _hash(self) -> Callable[..., Any]:
        return self._hash_method or cast("Callable[..., Any]", self._cache().hash_method)


def source_hash(f: Callable[..., Any], hash_method: Callable[..., Any]) -> str:
    """A hash of a function's source."""
    return str(hash_method(inspect.getsource(f).encode()).hexdigest())


def _pairs(given: QueryArgs) -> list[tuple[str, str]]:
    if isinstance(given, str):
        return parse_qsl(given.lstrip("?"), keep_blank_values=True)
    items: Any = given
    if isinstance(given, MultiDict):
        items = given.items(multi=True)
    elif isinstance(given, Mapping):
        items = given.items()
    return [(name, str(value)) for name, value in items]
