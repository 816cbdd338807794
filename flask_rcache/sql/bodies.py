"""What the text inside a database reads and writes: the queries of views, the bodies of triggers. Pure.

Owns :class:`Body`. A view's query is parsed; a trigger's body is a program, of which the words that lead to a table are
looked at. One that puts statements together as it runs is not known.
"""

from __future__ import annotations

import re
from typing import Final

from ..model.named_tuple import NamedTuple
from .text import shape_of_text
from .tokens import calls_of, sqlglot_dialect

__all__ = ["Body", "body_of", "body_of_query"]


class Body(NamedTuple):
    """What a text inside a database reads, writes and calls.

    Args:
        reads: schemas and names.
        writes: the same.
        calls: names, as ``text.calls_of`` finds them.
        is_known: whether that is all.
    """

    reads: frozenset[tuple[str, str]] = frozenset()
    writes: frozenset[tuple[str, str]] = frozenset()
    calls: frozenset[str] = frozenset()
    is_known: bool = True


_CREATE_VIEW: Final = re.compile(r"(?is)^\s*create\s.*?\bas\s+(?=[\s(]*(?:select|with|values)\b)")
_NOISE: Final = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_NAME: Final = r"((?:[\w$]+|\"[^\"]+\"|`[^`]+`)(?:\s*\.\s*(?:[\w$]+|\"[^\"]+\"|`[^`]+`))?)"
_WRITES: Final = re.compile(
    rf"(?is)\b(?:insert\s+(?:or\s+\w+\s+|ignore\s+)?into|replace\s+into|merge\s+into|delete\s+from|truncate(?:\s+table)?|"
    rf"update(?:\s+or\s+\w+)?(?=\s+[^;]*?\bset\b))\s+(?:only\s+)?{_NAME}"
)
_READS: Final = re.compile(rf"(?is)\b(?:from|join)\s+(?:only\s+)?{_NAME}")
_DYNAMIC: Final = re.compile(r"(?is)\b(?:call|copy|dblink\w*|execute|prepare)\b")


def body_of_query(sql: str, dialect: str, schema: str = "") -> Body:
    """What a view's definition reads.

    Args:
        sql: its query, or the whole ``CREATE VIEW``.
        dialect: SQLAlchemy's name of it.
        schema: that of the view, for names without one.
    """
    query = _CREATE_VIEW.sub("", sql, count=1)
    shape = shape_of_text(query, dialect)
    reads = frozenset((ref.schema or schema, ref.name) for ref in shape.reads)
    return Body(reads=reads, calls=shape.calls, is_known=not shape.reads_all)


def body_of(source: str, dialect: str, schema: str = "") -> Body:
    """What a trigger's body writes, as far as its words tell.

    Args:
        source: its text.
        dialect: SQLAlchemy's name of it.
        schema: that of its table, for names without one.

    >>> body_of("BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NEW; END", "postgresql", "public").writes
    frozenset({('public', 'audit')})
    """
    plain = _NOISE.sub(" ", source)
    if _DYNAMIC.search(plain):
        return Body(is_known=False)
    writes = frozenset(_place(name, schema) for name in _WRITES.findall(plain))
    reads = frozenset(_place(name, schema) for name in _READS.findall(plain)) - writes
    return Body(reads=reads, writes=writes, calls=calls_of(plain, sqlglot_dialect(dialect)))


def _place(name: str, schema: str) -> tuple[str, str]:
    parts = [part.strip().strip('"`') for part in name.split(".")]
    return (parts[-2].lower() if len(parts) > 1 else schema, parts[-1].lower())
