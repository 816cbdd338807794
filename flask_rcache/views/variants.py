"""Variants of one URL: where a response is kept, and what leads to it. Pure functions.

Owns what lies under a URL's own key when its answers vary: a marker, with the request fields that they depend on and
the ids of the variants there are. Each variant has a key of its own, with a tag by which the removal of the URL's key
reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import Any

from ..http import Selection
from ..model.entry import MICROSECONDS, Draft, Entry, VariantMarker
from ..model.keys import Names, key_tag
from ..model.named_tuple import NamedTuple

__all__ = ["Known", "Placed", "place", "selected_key"]


class Known(NamedTuple):
    """The marker that lies under a URL's own key.

    Args:
        marker: the marker.
        left: the seconds it is fresh for still.
        now: the store's clock, µs.
    """

    marker: VariantMarker
    left: float
    now: int

    @classmethod
    def of(cls, entry: Entry | None, now: int) -> Known | None:
        """What a fresh entry says; ``None`` when it is no marker."""
        if entry is None or not isinstance(entry.content, VariantMarker):
            return None
        return cls(entry.content, entry.ttl - entry.age(now), now)


class Placed(NamedTuple):
    """Where a response goes.

    Args:
        key: of the response.
        draft: of the response.
        marker: what goes under the URL's own key; ``None`` when nothing has to.
        dropped: the keys of the variants that go.
        kept: and of those that stay, this one aside, where some go.
    """

    key: str
    draft: Draft
    marker: Draft | None
    dropped: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def selected_key(names: Names, url_key: str, selection: Selection, environ: Mapping[str, Any], request: Any) -> str:
    """The key of the variant that a request selects; the URL's own key when its answers do not vary."""
    return names.variant(url_key, selection.variant(environ, request)) if selection.selecting else url_key


def place(
    draft: Draft,
    selection: Selection,
    known: Known | None,
    *,
    names: Names,
    url_key: str,
    type_tag: str,
    variant: str,
    now: int,
    most: int,
    uses: Callable[[str], int] = lambda _: 0,
) -> Placed | None:
    """Where a response goes, and what has to lead there; ``None`` when no variants are kept.

    Args:
        draft: of the response.
        selection: by the fields of all answers of the URL, of this one and of those that live: they only grow, so that
            a request always finds what was stored for it.
        known: the marker that is there.
        names: spell the keys.
        url_key: the key of the URL.
        type_tag: of its cache type.
        variant: the id that the request selects.
        now: the store's clock, µs.
        most: variants of one URL at most; for one more the least used goes, of several the one stored first.
        uses: how often a key was asked for.
    """
    if draft.fields != selection.fields:
        draft = draft._replace(fields=selection.fields)
    if not variant:
        return Placed(url_key, draft, None)
    if most < 1:
        return None
    tag = key_tag(url_key)
    draft = draft._replace(tags=tuple(dict.fromkeys((*draft.tags, tag))))
    key = names.variant(url_key, variant)
    seconds, left = now // MICROSECONDS, 0.0
    live: dict[str, int] = {}
    before: tuple[str, ...] = ()
    if known is not None:
        before, left = known.marker.fields, known.left
        live = {each: until for each, until in zip(*known.marker[1:], strict=False) if until > seconds}
    is_listed = live.pop(variant, 0) >= seconds + draft.keep and left >= draft.keep
    dropped = _least_used(live, most - 1, lambda each: uses(names.variant(url_key, each)))
    for each in dropped:
        del live[each]
    if is_listed and before == selection.fields and not dropped:
        return Placed(key, draft, None)
    kept = tuple(names.variant(url_key, each) for each in live) if dropped else ()
    # It outlives the variants it leads to; twice as long, so that not every fill has to write it.
    lasts = max(2 * draft.keep, left)
    live[variant] = seconds + ceil(lasts)
    marker = Draft(
        VariantMarker(selection.fields, tuple(live), tuple(live.values())),
        max(lasts, *(until - seconds for until in live.values())),
        tags=(type_tag, tag),
    )
    return Placed(key, draft, marker, tuple(names.variant(url_key, each) for each in dropped), kept)


def _least_used(ids: Iterable[str], most: int, uses: Callable[[str], int]) -> list[str]:
    """Those that have to go, where so many may stay; they are in the order in which they were stored."""
    listed = list(ids)
    return sorted(listed, key=uses)[: max(0, len(listed) - most)]
