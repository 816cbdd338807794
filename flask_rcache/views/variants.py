"""Variants of one URL (``Vary``): the keys they have, and the marker that says which there are.

Owns what lies under a URL's own key when its answers vary: a marker, with the request fields that select and the ids of
the variants. Each variant has a key of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..engine.admission import fresh
from ..engine.single_flight import Load
from ..errors import ConfigError
from ..http import Reason, variant_id
from ..model.entry import Draft, StoredResponse
from ..model.keys import key_tag
from ..stores.protocol import Fill
from .binding import Options

if TYPE_CHECKING:
    from ..engine.manager import CacheManager
    from .visit import Visit

__all__ = ["names_of_marker", "store_variant", "variant_key"]


def variant_key(manager: CacheManager, options: Options, stored: str, environ: Mapping[str, Any]) -> str:
    """The key of the variant that a request selects; the URL's own key when the answer does not vary."""
    names = manager.vary_names.get(stored, options.vary)
    return manager.names.variant(stored, variant_id(names, environ)) if names else stored


def names_of_marker(marker: StoredResponse) -> tuple[str, ...]:
    """The request fields that a marker says select a variant."""
    if len(marker.headers) != 1:
        raise ConfigError("a marker of variants has one line")
    return tuple(marker.headers[0][1].split(","))


def store_variant(visit: Visit, load: Load, draft: Draft, names: tuple[str, ...]) -> Fill | Reason | None:
    """Fill the key that the response itself selects, which may be another than the one looked up."""
    manager = visit.manager
    if names != manager.vary_names.get(visit.stored, visit.binding.options.vary):
        manager.remember_vary(visit.stored, names)
    key = manager.names.variant(visit.stored, variant_id(names, visit.environ))
    refused = _enter(visit, load, names, draft) if names else None
    if refused is not None:
        crowded = refused is Reason.TOO_MANY_VARIANTS
        manager.loading.abandon(load, pass_for=visit.binding.store_policy.hit_for_miss if crowded else 0.0)
        return refused
    if names or key != load.key:  # the URL's own key does not lead to it, or the lease lay elsewhere
        draft = _tagged(draft, key_tag(visit.stored))
    if key == load.key:
        return manager.loading.commit([(load, draft)])[0]
    # The first response of this URL that varies, or that varies otherwise: a key of its own, and a lease for it. The
    # as_of stays that of the load. Who waits for this load may want another variant, and looks for itself.
    moved = manager.loading.moved(load, key)
    outcome = None if moved is None else manager.loading.commit([(moved, draft)])[0]
    manager.loading.abandon(load)
    return outcome


def _enter(visit: Visit, load: Load, names: tuple[str, ...], draft: Draft) -> Reason | None:
    """Enter this variant in the URL's marker; why it may not be kept, if so.

    Where the load has the lease of the URL's own key, the marker takes its place there: a `delete` meanwhile has voided
    that lease, and then neither the marker nor the variant is stored.
    """
    manager, policy = visit.manager, visit.binding.policy
    variant = bytes.fromhex(variant_id(names, visit.environ))
    reading = manager.loading.look(policy, visit.stored, visit.binding.ask, shared=True)
    entry = fresh(reading)
    content = StoredResponse("", (("vary", ",".join(names)),), b"")
    ids, left = b"", 0.0
    if reading is not None and entry is not None:
        marker = entry.content
        if isinstance(marker, StoredResponse) and not marker.status and marker.headers == content.headers:
            ids, left = marker.body, entry.ttl - entry.age(reading.now)
    known = [ids[start : start + 16] for start in range(0, len(ids), 16)]
    if variant not in known:
        if len(known) >= manager.settings.max_variants:
            return Reason.TOO_MANY_VARIANTS
        known.append(variant)
    elif left >= draft.keep and load.key != visit.stored:
        return None
    content.body = b"".join(known)
    # It outlives the variants it leads to; twice as long, so that not every fill has to write it.
    ttl = max(2 * draft.keep, left)
    marker_draft = Draft(content, ttl, tags=(policy.member, key_tag(visit.stored)))
    if load.key == visit.stored:
        return None if manager.loading.mark(load, marker_draft) is Fill.STORED else Reason.OVERTAKEN
    manager.loading.write(policy, {visit.stored: marker_draft})
    return None


def _tagged(draft: Draft, member: str) -> Draft:
    return Draft(
        draft.content,
        draft.ttl,
        draft.stale_while_revalidate,
        draft.stale_if_error,
        tags=tuple(dict.fromkeys((*draft.tags, member))),
        handed=draft.handed,
        cost=draft.cost,
    )
