"""What pyproject.toml can't say: the README as package indexes show it, with links that work outside the repository.

In the repository its links are relative, so that they work in a checkout, a fork and at any commit. Here each becomes
a link to the same file of this version's tag, below `project.urls.Source`.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from setuptools import setup

_ROOT = Path(__file__).resolve().parent
# A target that has neither a scheme nor is a place in the page itself.
_RELATIVE = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>(?![a-z]+:|#)[^)\s]+)\)")


def outside(readme: str, source: str, version: str) -> str:
    """Return the README with each relative link below the repository's address.

    >>> outside("[a](docs/a.md) ![b](b.png) [c](https://c.example) [d](#d)", "https://host/it", "1.0")
    '[a](https://host/it/blob/v1.0/docs/a.md) ![b](https://host/it/raw/v1.0/b.png) [c](https://c.example) [d](#d)'
    """

    def absolute(match: re.Match[str]) -> str:
        kind = "raw" if match["image"] else "blob"
        return f"{match['image']}[{match['text']}]({source}/{kind}/v{version}/{match['target']})"

    return _RELATIVE.sub(absolute, readme)


if __name__ == "__main__":
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    setup(
        long_description=outside(
            (_ROOT / "README.md").read_text(encoding="utf-8"), project["urls"]["Source"], project["version"]
        ),
        long_description_content_type="text/markdown",
    )
