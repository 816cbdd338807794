"""What an app says of its database: functions, triggers, and which answers are the same for everyone.

Owns :class:`Declarations`, and the few names of functions that the catalogues of databases say nothing of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ..errors import ConfigError
from ..model.named_tuple import NamedTuple

__all__ = ["TIME", "Declarations", "Does", "is_built_in_volatile", "is_harmless_setting"]

#: The time of day: that is what a ttl is for.
TIME: Final = frozenset(
    {
        *("clock_timestamp", "curdate", "current_date", "current_time", "current_timestamp", "curtime", "localtime"),
        *("localtimestamp", "now", "statement_timestamp", "sysdate", "timeofday", "transaction_timestamp"),
        *("unix_timestamp", "utc_date", "utc_time", "utc_timestamp"),
    }
)
#: The same for everyone who asks over one engine.
_OF_SERVER: Final = frozenset(
    {"current_catalog", "current_database", "current_schema", "database", "schema", "version", "pg_is_in_recovery"}
)
#: Where a catalogue does not say it.
_VOLATILE: Final = frozenset(
    {
        *(
            "@",
            "benchmark",
            "connection_id",
            "current_role",
            "current_setting",
            "current_user",
            "found_rows",
            "get_lock",
        ),
        *("is_free_lock", "is_used_lock", "last_insert_id", "lastval", "load_file", "newid", "nextval", "rand"),
        *("random", "random_bytes", "release_all_locks", "release_lock", "row_count", "scope_identity"),
        *("session_user", "setval", "sleep", "system_user", "user", "uuid", "uuid_short"),
    }
)
_PRIVILEGE: Final = re.compile(r"has_\w+_privilege")
_HARMLESS: Final = re.compile(
    r"\w*timeout\w*|application_name|autocommit|client_min_messages|constraints|foreign_key_checks|jit|names|sql_notes|"
    r"synchronous_commit|unique_checks|work_mem|enable_\w+"
)


def is_built_in_volatile(name: str, of_catalogue: frozenset[str]) -> bool:
    """Whether a function of the database's own answers differently each time, or to each asker.

    Args:
        name: in lower case.
        of_catalogue: those that the catalogue says it of.

    >>> is_built_in_volatile("random", frozenset()), is_built_in_volatile("now", frozenset({"now"}))
    (True, False)
    """
    if name in TIME or name in _OF_SERVER:
        return False
    return name in of_catalogue or name in _VOLATILE or _PRIVILEGE.fullmatch(name) is not None


def is_harmless_setting(name: str) -> bool:
    """Whether a setting changes no answer."""
    return not name or _HARMLESS.fullmatch(name) is not None


class Does(NamedTuple):
    """What a function does, or a trigger: the tables, as they were named."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


class Declarations:
    """What an app has declared; shared by all databases of one ``SQLCache``.

    Attributes:
        generation: counts the declarations: what was derived from older ones is derived again.
    """

    __slots__ = ("functions", "generation", "impure", "pure", "tables")

    def __init__(self) -> None:
        self.functions: Final[dict[str, Does]] = {}
        self.tables: Final[dict[str, Does]] = {}
        self.pure: Final[set[str]] = set()
        self.impure: Final[set[str]] = set()
        self.generation = 0

    def include(self, others: Declarations) -> None:
        """What was declared elsewhere of the same databases holds here too."""
        self.functions.update(others.functions)
        self.tables.update(others.tables)
        self.pure.update(others.pure)
        self.impure.update(others.impure)
        self.generation += 1

    def depends(
        self,
        *,
        function: str | None = None,
        table: str | None = None,
        reads: Iterable[str] = (),
        writes: Iterable[str] = (),
    ) -> None:
        """Say what a database function does, or what the triggers of a table write.

        Raises:
            ConfigError: not exactly one of the two is named.
        """
        if (function is None) == (table is None) or not all(map(_is_list, (reads, writes))):
            raise ConfigError(
                'sql.depends takes function="name" or table="name", and lists of tables: '
                'sql.depends(function="bump", reads=["item"], writes=["audit"])'
            )
        does = Does(tuple(reads), tuple(writes))
        if function is not None:
            self.functions[function.lower()] = does
        elif table is not None:
            self.tables[table.lower()] = does
        self.generation += 1

    def mark(self, names: Iterable[str], *, pure: bool) -> None:
        """Say of functions, or settings, whether answers that they have a part in are the same for everyone."""
        into, other = (self.pure, self.impure) if pure else (self.impure, self.pure)
        for name in names:
            if not isinstance(name, str) or not name:
                raise ConfigError(f"the name of a function must be a string, not {name!r}: sql.pure('pg_sleep')")
            into.add(name.lower())
            other.discard(name.lower())
        self.generation += 1


def _is_list(names: object) -> bool:
    return isinstance(names, Iterable) and not isinstance(names, str) and all(isinstance(name, str) for name in names)
