"""The tokens of a text in SQL: its placeholders, the names that it calls, and the text without its comments. Pure.

What a statement's text names is ``text``'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType  # type: ignore[attr-defined,unused-ignore]

__all__ = ["calls_of", "named", "plain_text", "sqlglot_dialect"]

#: SQLAlchemy's names of dialects that sqlglot calls otherwise.
_DIALECTS: Final = {"postgresql": "postgres", "mariadb": "mysql", "mssql": "tsql", "cockroachdb": "postgres"}

#: What stands for a value, and what has to be passed over: quoted names, strings and comments.
_SKIPPED: Final = (
    r"'(?:[^'\\]|''|\\.)*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|--[^\n]*|/\*.*?\*/|(\$\w*\$).*?\1|__\[POSTCOMPILE_(?P<post>\w+?)"
    r"(?:~~.*?~~)?\]"
)
_PLACEHOLDERS: Final = {
    "qmark": r"\?\d*",
    "format": r"%s|%%",
    "pyformat": r"%\((?P<name>[^)]*)\)s|%%",
    "numeric": r"(?<![:\w]):(?P<name>\d+)",
    "numeric_dollar": r"\$(?P<name>\d+)",
    "named": r"(?<![:\w]):(?P<name>[A-Za-z_]\w*)",
}
_PATTERNS: Final = {
    style: re.compile(f"{_SKIPPED}|(?P<mark>{mark})", re.DOTALL) for style, mark in _PLACEHOLDERS.items()
}


@lru_cache(maxsize=32)
def sqlglot_dialect(name: str) -> str:
    """The name that sqlglot has for a SQLAlchemy dialect; the empty one when it has none.

    >>> sqlglot_dialect("postgresql"), sqlglot_dialect("sqlite"), sqlglot_dialect("nobodys")
    ('postgres', 'sqlite', '')
    """
    name = _DIALECTS.get(name, name)
    # Not by `Dialect.classes`, which imports all thirty: that takes a second.
    return name if Dialect.get(name) is not None else ""


# Placeholders


def named(sql: str, style: str, names: Sequence[str] | None = None) -> tuple[str, frozenset[str]]:
    """A statement with ``:name`` for every placeholder, and the names that stand for lists.

    Args:
        sql: its text.
        style: the driver's ``paramstyle``.
        names: of the positional placeholders, in order; ``p1``, ``p2`` … when left out.

    >>> named("SELECT '?' FROM a WHERE id = ? AND b IN (__[POSTCOMPILE_b_1])", "qmark", ["x", "b_1"])
    ("SELECT '?' FROM a WHERE id = :x AND b IN (:b_1)", frozenset({'b_1'}))
    """
    lists: set[str] = set()
    count = 0

    def replaced(found: re.Match[str]) -> str:
        nonlocal count
        post = found["post"]
        if post:
            count += 1
            lists.add(post)
            return f":{post}"
        mark = found["mark"]
        if mark is None:
            return found[0]
        if mark == "%%":
            return "%"
        groups = found.groupdict()
        name = groups.get("name")
        if style in ("qmark", "format"):
            name = names[count] if names is not None and count < len(names) else f"p{count + 1}"
            count += 1
        elif style in ("numeric", "numeric_dollar"):
            index = int(name or 1) - 1
            name = names[index] if names is not None and index < len(names) else f"p{index + 1}"
        return f":{name}"

    pattern = _PATTERNS.get(style, _PATTERNS["named"])
    return pattern.sub(replaced, sql), frozenset(lists)


# The names that it calls


def calls_of(sql: str, dialect: str) -> frozenset[str]:
    """Every name in front of a parenthesis, and every word that may be a function without one, in lower case.

    More than its functions: which of them are, the database knows.

    On PostgreSQL also each name behind a dot, with the dot: ``i.total`` is the call ``total(i)`` where there is no such
    column. And each operator, since functions may be behind those as well.

    >>> sorted(calls_of("SELECT count(*), app.total(1), CURRENT_USER FROM a WHERE b = 'f(1)'", "postgres"))
    ['*', '.total', '=', 'app.total', 'count', 'current_user']
    >>> sorted(calls_of("SELECT a.b FROM a WHERE a.c <=> 1", "postgres"))
    ['.b', '.c', '<=>']
    >>> sorted(calls_of("SELECT a FROM b WHERE c = $1::INTEGER", "postgres"))
    ['=']
    """
    try:
        tokens = Dialect.get_or_raise(dialect or None).tokenize(sql)
    except SqlglotError:
        return frozenset({"?"})
    found: set[str] = set()
    for index, token in enumerate(tokens):
        kind = token.token_type
        if kind is TokenType.L_PAREN and index:
            before = tokens[index - 1]
            is_word = before.text[:1].isalpha() or before.text[:1] == "_" or before.token_type is TokenType.IDENTIFIER
            if is_word and _is_name(before.token_type):
                qualified = index > 2 and tokens[index - 2].token_type is TokenType.DOT
                found.add(f"{tokens[index - 3].text}.{before.text}".lower() if qualified else before.text.lower())
        elif kind in (TokenType.PARAMETER, TokenType.SESSION_PARAMETER):
            if token.text.startswith("@"):  # not the ``$1`` of a driver
                found.add("@")
        elif kind not in (TokenType.STRING, TokenType.IDENTIFIER):
            word = token.text.lower()
            if word in _BARE or (word == "user" and dialect == "postgres"):
                found.add(word)
            elif word in ("next", "previous") and [each.text.lower() for each in tokens[index + 1 : index + 3]] == [
                "value",
                "for",
            ]:
                found.add("nextval")
        if dialect == "postgres" and index and tokens[index - 1].token_type is TokenType.DOT:
            found.add(f".{token.text.lower()}")
    if dialect == "postgres":
        found.update(_operators(sql, tokens))
    return frozenset(found)


#: What PostgreSQL's operators consist of.
_OPERATOR: Final = re.compile(r"[+\-*/<>=~!@#%^&|`?]+")


def _operators(sql: str, tokens: Sequence[Any]) -> Iterator[str]:
    """Every operator, of which the parser may take parts for others."""
    run, end = "", -1
    for token in tokens:
        text = sql[token.start : token.end + 1]
        is_part = _OPERATOR.fullmatch(text) is not None
        if is_part and token.start == end + 1:
            run += text
        else:
            yield from (run,) if run else ()
            run = text if is_part else ""
        end = token.end
    yield from (run,) if run else ()


#: The words that SQL takes for functions that depend on who asks, without a parenthesis.
_BARE: Final = frozenset({"current_role", "current_user", "session_user", "system_user"})


def _is_name(kind: TokenType) -> bool:
    return kind not in (TokenType.STRING, TokenType.IN, TokenType.AND, TokenType.OR, TokenType.NOT, TokenType.VALUES)


# Without comments


def plain_text(text: str, verb: str, glot: str) -> str | None:
    """The text of a statement without its comments; ``None`` where they can't be separated from the rest."""
    rest = text[len(verb) :]
    try:  # behind a word of no meaning: there are words behind which sqlglot passes over the rest
        tokens = Dialect.get_or_raise(glot or None).tokenize(f"_ {rest}")[1:]
    except SqlglotError:
        return None
    parts = [verb]
    end = -1
    for token in tokens:
        if token.start - 2 > end + 1 or not parts[1:]:
            parts.append(" ")
        parts.append(rest[token.start - 2 : token.end - 1])
        end = token.end - 2
    return "".join(parts).rstrip(";").strip()
