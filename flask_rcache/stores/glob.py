"""Redis's globs, for what is matched in this process.

Owns their translation. Which keys a pattern may reach is ``keys``'s to say.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["glob_regex"]


#: As the server reads it (`stringmatchlen` in its `util.c`): a class ends at the first ``]`` that is neither escaped
#: nor the end of a range, else with the pattern; ``!`` is a character like others.
_PART: Final = r"(?s)\\.|\[\^?(?:(?>\\.|[^\]]-.|[^\]]))*+\]?|."
_MEMBER: Final = r"(?s)\\(.)|([^\]])-(.)|([^\]])"


def _class(part: str) -> str:
    negated = part.startswith("[^")
    members = []
    for escaped, low, high, plain in re.findall(_MEMBER, part[1 + negated :]):
        low, high = sorted((low, high))
        members.append(f"{re.escape(low)}-{re.escape(high)}" if high else re.escape(escaped or plain))
    if not members:
        return "." if negated else "(?!)"
    return f"[{'^' * negated}{''.join(members)}]"


def glob_regex(pattern: str) -> re.Pattern[str]:
    r"""Redis's glob as a regular expression: ``*``, ``?``, ``[abc]``, ``[^abc]`` and ``\``.

    >>> bool(glob_regex("cache:search:*").fullmatch("cache:search:a:b"))
    True
    >>> bool(glob_regex(r"a\*").fullmatch("ab"))
    False
    """
    between: list[list[str]] = [[]]
    for part in re.findall(_PART, pattern):
        out = between[-1]
        if part == "*":
            between.append([])
        elif part == "?":
            out.append(".")
        elif part[0] == "\\" and len(part) == 2:
            out.append(re.escape(part[1]))
        elif part[0] == "[":
            out.append(_class(part))
        else:
            out.append(re.escape(part))
    first, *rest = map("".join, between)
    last = f".*{rest.pop()}" if rest else ""
    # Atomic groups: the first place where a part fits is as good as any later one, so nothing is tried twice. Otherwise
    # a pattern of many stars would take for ever, under the lock of the store.
    return re.compile(first + "".join(f"(?>.*?{part})" for part in rest) + last, re.DOTALL)
