"""The parts of one cache, put together: what the package's own layers work with.

Owns :class:`Engine`, which holds them. What each part does is its own module's; what users call is ``manager``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from ..codec import ValueCodec
from ..config.settings import Settings
from ..model.cache_type import CacheType
from ..model.keys import Names
from ..model.scope import Scope, scope_of
from ..stores.protocol import Catalogue, Store
from .driving import Driver
from .fetching import Fetching
from .guard import GuardedStore
from .invalidations import Invalidations
from .observer import Observer
from .policies import Policies
from .refresher import Refresher
from .statistics import Statistics
from .values import Values
from .writes import Writes

__all__ = ["Engine"]


class Engine:
    """The parts of one cache.

    Args:
        settings: the app's settings.
        store: where entries are kept.
        types: the types this app registers beside the built-in ones.
        values: the classes whose objects may be values.

    Raises:
        ConfigError: two different registrations of one type name, or a class that cannot be a value.
    """

    __slots__ = (
        "__weakref__",
        "_disabled",
        "codec",
        "driver",
        "enabled",
        "fetching",
        "guarded",
        "invalidations",
        "names",
        "observer",
        "policies",
        "refresher",
        "sections",
        "settings",
        "statistics",
        "store",
        "values",
        "writes",
    )

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        types: Iterable[CacheType] = (),
        values: Iterable[type] = (),
    ) -> None:
        self.settings: Final = settings
        self.store: Final = store
        self.names: Final = Names(settings.prefix)
        self.statistics: Final = Statistics()
        self.observer: Final = Observer(self.statistics)
        self.policies: Final = Policies(types, settings=settings, names=self.names, statistics=self.statistics)
        self.guarded: Final = GuardedStore(store, self.observer)
        self.invalidations: Final = Invalidations(self.guarded, self.observer)
        self.refresher: Final = Refresher()
        self.codec: Final = ValueCodec(values)
        self.driver: Final = Driver(self.guarded, self.observer, load_timeout=settings.load_timeout)
        self.fetching: Final = Fetching(
            self.guarded, self.driver, self.observer, settings=settings, codec=self.codec, refresher=self.refresher
        )
        self.values: Final = Values(self.guarded, self.fetching, self.observer)
        self.writes: Final = Writes(self.guarded, self.fetching, settings)
        #: What the overview has of parts above this layer, by name: each is asked when somebody looks.
        self.sections: Final[dict[str, Callable[[], Any]]] = {}
        #: Whether entries are read and filled; invalidations are sent in any case.
        self.enabled = settings.enabled
        self._disabled = 0
        self.catalogue.count_from(self.statistics)

    @property
    def catalogue(self) -> Catalogue:
        """The operators' half of the store."""
        return self.store.catalogue

    def disable(self) -> None:
        """Read and fill nothing, until :meth:`enable` was called as often."""
        self._disabled += 1
        self.enabled = False

    def enable(self) -> None:
        """Undo one :meth:`disable`."""
        self._disabled -= 1
        self.enabled = self.settings.enabled and self._disabled == 0

    def scope(self) -> Scope | None:
        """The scope of this request or context, when it belongs to this cache."""
        return scope_of(self.store)

    def new_scope(self, *, is_request: bool) -> Scope:
        """A scope that begins now; a process that has heard no clock reading yet asks for one (rule R3.1)."""
        return Scope(self.store, self.store.moment or self.store.hear(), is_request=is_request)
