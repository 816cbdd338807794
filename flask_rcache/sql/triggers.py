"""Triggers that announce what other programs write to PostgreSQL: the SQL, and the announcements (LISTEN, NOTIFY).

Owns the names and the payload. Who listens is ``listener``'s.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from .names import TableName

__all__ = ["CHANNEL", "announced", "trigger_sql"]

CHANNEL: Final = "rcache_writes"

_FUNCTION: Final = f"""\
CREATE OR REPLACE FUNCTION rcache_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('{CHANNEL}', json_build_array(TG_TABLE_SCHEMA, TG_TABLE_NAME)::text);
  RETURN NULL;
END $$;
"""
_TRIGGER: Final = """\
DROP TRIGGER IF EXISTS rcache_announce ON {table};
CREATE TRIGGER rcache_announce AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
  FOR EACH STATEMENT EXECUTE FUNCTION rcache_announce();
"""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def trigger_sql(tables: Iterable[TableName]) -> str:
    """The statements that have writes of some tables announced, whoever makes them; they may be run again.

    PostgreSQL sends an announcement when the transaction commits, once for each table of a transaction.

    >>> print(trigger_sql([TableName("", "public", "orders")]).splitlines()[-1])
      FOR EACH STATEMENT EXECUTE FUNCTION rcache_announce();
    """
    made = [_TRIGGER.format(table=f"{_quoted(table.schema)}.{_quoted(table.name)}") for table in tables]
    return "\n".join([_FUNCTION, *made])


def announced(database: str, payload: str) -> TableName | None:
    """The table that an announcement names; ``None`` when it is none of ours.

    >>> announced("", '["public", "orders"]')
    TableName(database='', schema='public', name='orders')
    >>> announced("", "orders") is None
    True
    """
    try:
        found = json.loads(payload)
    except ValueError:
        return None
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(part, str) for part in found):
        return None
    return TableName(database, *found)
