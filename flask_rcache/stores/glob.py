"""Redis's globs, for what is matched in this process.

Owns their translation. Which keys a pattern may reach is ``keys``'s to say.
"""

from __future__ import annotations

import fnmatch
import re

__all__ = ["glob_regex"]


def glob_regex(pattern: str) -> re.Pattern[str]:
    r"""Redis's glob as a regular expression: ``*``, ``?``, ``[abc]``, ``[^abc]`` and ``\``.

    >>> bool(glob_regex("cache:search:*").fullmatch("cache:search:a:b"))
    True
    >>> bool(glob_regex(r"a\*").fullmatch("ab"))
    False
    """
    between: list[list[str]] = [[]]
    for part in re.findall(r"\\.|\[\^?[^\]]*\]|.", pattern, re.DOTALL):
        out = between[-1]
        if part == "*":
            between.append([])
        elif part == "?":
            out.append(".")
        elif part[0] == "\\" and len(part) == 2:
            out.append(re.escape(part[1]))
        elif part[0] == "[" and part[-1] == "]" and len(part) > 2 and part != "[^]":
            out.append(fnmatch.translate(part.replace("[^", "[!", 1))[4:-3])
        else:
            out.append(re.escape(part))
    first, *rest = map("".join, between)
    last = f".*{rest.pop()}" if rest else ""
    # Atomic groups: the first place where a part fits is as good as any later one, so nothing is tried twice. Otherwise
    # a pattern of many stars would take for ever, under the lock of the store.
    return re.compile(first + "".join(f"(?>.*?{part})" for part in rest) + last, re.DOTALL)
