"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

    python .ci/lowest.py [EXTRA …] >constraints.txt

Those of the package itself and of the extras that are named; tools of the tests are left as they are. Where two of them
bound one package, the higher bound counts.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

_BOUND = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*>=\s*([0-9][0-9.]*)")


def lowest(requirements: Iterable[str]) -> dict[str, str]:
    """The lowest version by package.

    >>> lowest(["flask>=3.1.3", "flask[async]>=3.2", "redis>=5"])
    {'flask': '3.2', 'redis': '5'}
    """
    found: dict[str, str] = {}
    for requirement in requirements:
        match = _BOUND.fullmatch(requirement.partition(";")[0].strip())
        if match is None:
            raise SystemExit(f"{requirement!r} has no lower bound")
        name, version = match[1].lower(), match[2]
        found[name] = max(version, found.get(name, "0"), key=lambda text: [int(part) for part in text.split(".")])
    return found


def main(extras: list[str]) -> None:
    """Print them."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    for name, version in sorted(lowest(wanted).items()):
        sys.stdout.write(f"{name}=={version}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
