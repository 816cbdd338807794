"""Variants of one URL (``Vary``): where a response is kept, and what leads to it. Pure functions.

Owns what lies under a URL's own key when its answers vary: a marker, with the request fields that select and the ids of
the variants there are. Each variant has a key of its own, with a tag by which the removal of the URL's key reaches it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..http import variant_id
from ..model.entry import Draft, Entry, VariantMarker
from ..model.keys import Names, key_tag

__all__ = ["Known", "Placed", "place", "selected_key"]


class Known(NamedTuple):
    """The marker that lies under a URL's own key, and the seconds it is fresh for still."""

    marker: VariantMarker
    left: float

    @classmethod
    def of(cls, entry: Entry | None, now: int) -> Known | None:
        """What a fresh entry says; ``None`` when it is no marker."""
        if entry is None or not isinstance(entry.content, VariantMarker):
            return None
        return cls(entry.content, entry.ttl - entry.age(now))


class Placed(NamedTuple):
    """Where a response goes.

    Args:
        key: of the response.
        draft: of the response.
        fields: what selects the variant.
        marker: what goes under the URL's own key; ``None`` when nothing has to.
    """

    key: str
    draft: Draft
    fields: tuple[str, ...]
    marker: Draft | None


def selected_key(names: Names, url_key: str, fields: tuple[str, ...], environ: Mapping[str, Any]) -> str:
    """The key of the variant that a request selects; the URL's own key when its answers do not vary."""
    return names.variant(url_key, variant_id(fields, environ)) if fields else url_key


def place(
    draft: Draft,
    fields: Iterable[str],
    known: Known | None,
    *,
    names: Names,
    url_key: str,
    type_tag: str,
    environ: Mapping[str, Any],
    most: int,
) -> Placed | None:
    """Where a response goes, and what has to lead there; ``None`` when the URL has as many variants as are kept.

    The fields only grow while variants live: a request then always finds what was stored for it.

    Args:
        draft: of the response.
        fields: the request fields that it says select it.
        known: the marker that is there.
        names: spell the keys.
        url_key: the key of the URL.
        type_tag: of its cache type.
        environ: of the request.
        most: variants of one URL at most.
    """
    before = known.marker.fields if known is not None else ()
    selecting = tuple(sorted({*fields, *before}))
    if not selecting:
        return Placed(url_key, draft, (), None)
    tag = key_tag(url_key)
    draft = draft._replace(tags=tuple(dict.fromkeys((*draft.tags, tag))))
    variant = variant_id(selecting, environ)
    key = names.variant(url_key, variant)
    ids = known.marker.ids if known is not None and before == selecting else ()
    left = known.left if known is not None else 0.0
    if variant in ids and left >= draft.keep:
        return Placed(key, draft, selecting, None)
    if variant not in ids:
        if len(ids) >= most:
            return None
        ids = (*ids, variant)
    # It outlives the variants it leads to; twice as long, so that not every fill has to write it.
    marker = Draft(VariantMarker(selecting, ids), max(2 * draft.keep, left), tags=(type_tag, tag))
    return Placed(key, draft, selecting, marker)
