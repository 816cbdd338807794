"""A stored result of a view, on its way through the decorators above, which make a response of what a view returns."""

from __future__ import annotations

from typing import Any, Final

from flask import Response

from ..http import age_value
from .bound import BoundView, conditions
from .layers import Layers
from .reply import CONDITIONS, conditional, mark, own_response, privately, say, varying

__all__ = ["HandedResult"]


class HandedResult:
    """A stored result that layers convert anew.

    Args:
        view: whose it is.
        ctx: the request's context.
        url_key: the key of the URL.
        verdict: ``HIT``, ``STALE`` or ``MISS`` (another's load).
        shown_key: the key that the response shows; ``None`` for none.
        is_private: whether it is for its caller alone.
        status: what ``Cache-Status`` says.
        age: seconds since the fill.
    """

    is_hit = True
    __slots__ = ("_age", "_ctx", "_is_private", "_shown_key", "_status", "_url_key", "_verdict", "_view")

    def __init__(
        self,
        view: BoundView,
        ctx: Any,
        url_key: str,
        verdict: str,
        *,
        shown_key: str | None,
        is_private: bool,
        status: dict[str, Any],
        age: float,
    ) -> None:
        self._view: Final = view
        self._ctx: Final = ctx
        self._url_key: Final = url_key
        self._verdict: Final = verdict
        self._shown_key: Final = shown_key
        self._is_private: Final = is_private
        self._status: Final = status
        self._age: Final = age

    def settle(self, returned: Any, layers: Layers) -> Response:
        """The response that they have made of it, with what this cache says of it."""
        view, app = self._view, self._ctx.app
        selecting = view.views.selection_of(self._url_key, view).selecting
        response = varying(own_response(app, returned), selecting)
        if self._is_private:
            privately(response)
        if self._status["hit"]:
            response.headers["Age"] = age_value(self._age + int(response.headers.get("Age", 0, type=int)))
        mark(response, self._verdict, self._shown_key)
        say(response, key=self._shown_key, **self._status)
        asked = conditions(self._ctx, view)
        if response.is_streamed or response.direct_passthrough or asked.keys().isdisjoint(CONDITIONS):
            return response
        return conditional(app.response_class, response, asked)

    def abandon(self) -> None:
        """Nothing to do."""
