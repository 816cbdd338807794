"""What a call that may load wants, beside its key, and the two values that mean something to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from ..codec import Errors, Raised
from ..model import chance
from ..model.cache_type import check_ttl
from ..model.entry import Draft
from .loading import Load
from .policies import Policy

__all__ = ["MISSING", "NEVER", "Block", "Call"]


class _Marker:
    """A value that is false and nothing but itself."""

    def __init__(self, name: str) -> None:
        self._name: Final = name

    def __repr__(self) -> str:
        return self._name

    def __bool__(self) -> Literal[False]:
        return False


#: "Not there", where ``None`` would be a value: ``get(type, key, MISSING)``.
MISSING: Final = _Marker("MISSING")
#: What ``keep`` returns for a result that can't be stored at the next call either: that is remembered.
NEVER: Final = _Marker("NEVER")


class Call:
    """What one call of ``fetch`` wants beside the key.

    Args:
        policy: of the call.
        tags: stamp tags of every value loaded, without the type's.
        ttl: a function of the result, where it is one.
        keep: a function of the result; false: it is not stored.
        name: the function that loads, for warnings.
        observes: whether the value depends on what was observed to be read (``AUTO``).
        is_independent: whether it depends on nothing that was read before its load began.
        is_judged: whether its caller looks at what the loader reads of the request, or the key names who is asking.
        errors: the exceptions that are answers; ``None``: none is.
    """

    __slots__ = ("errors", "is_independent", "is_judged", "keep", "name", "observes", "policy", "tags", "ttl")

    def __init__(
        self,
        policy: Policy,
        tags: Sequence[str] = (),
        *,
        ttl: Callable[[Any], object] | None = None,
        keep: Callable[[Any], object] | None = None,
        name: str | None = None,
        observes: bool = False,
        is_independent: bool = False,
        is_judged: bool = False,
        errors: Errors | None = None,
    ) -> None:
        self.is_judged: Final = is_judged or policy.type.per_user
        self.errors: Final = errors
        self.observes: Final = observes
        self.is_independent: Final = is_independent
        self.policy: Final = policy
        self.tags: Final = tuple(tags)
        self.ttl: Final = ttl
        self.keep: Final = keep
        self.name: Final = name

    @property
    def observing(self) -> dict[str, Any]:
        """On which terms its loads observe."""
        return {"observes": self.observes, "is_independent": self.is_independent}

    @property
    def all_tags(self) -> tuple[str, ...]:
        """Every tag that is known before the load."""
        return (self.policy.tag, *self.tags)

    def kept(self, value: Any) -> object:
        """Whether a result is stored."""
        if type(value) is Raised:
            return self.errors is not None and (self.errors.keep is None or self.errors.keep())
        return self.keep is None or self.keep(value)

    def draft(self, content: bytes, value: Any, *, origin: str = "") -> Draft:
        """What is stored of a value that nobody has loaded.

        Args:
            content: the encoded value.
            value: the value.
            origin: see :class:`~flask_rcache.model.entry.Draft`.
        """
        cache_type = self.policy.type
        return Draft(
            content,
            self.lifetime(value, 0.0),
            cache_type.stale_while_revalidate,
            cache_type.stale_if_error,
            tags=self.all_tags,
            origin=origin,
        )

    def drafted(self, load: Load, content: bytes, value: Any) -> Draft:
        """What is stored of a result; an exception is not served any more when its time is over."""
        if type(value) is Raised:
            assert self.errors is not None
            seconds = self.errors.seconds(value.error)
            return load.draft(content, ttl=seconds, stale_while_revalidate=0.0, stale_if_error=0.0)
        return load.draft(content, ttl=self.lifetime(value, load.cost))

    def lifetime(self, value: Any, cost: float) -> float:
        """Seconds that a result is fresh."""
        if self.ttl is not None:
            return check_ttl(self.ttl(value), what="the ttl that a function of the result returned")
        return self.policy.lifetime(cost, chance.draw())


class Block:
    """A block of code that is the loader of a key: see :meth:`CacheManager.block <flask_rcache.CacheManager.block>`.

    Attributes:
        value: what is cached; :data:`MISSING` when nothing is. The block sets it then, and it is stored.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    @property
    def is_missing(self) -> bool:
        """Whether the block is to set :attr:`value`."""
        return self.value is MISSING
