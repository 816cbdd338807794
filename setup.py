"""What pyproject.toml can't say: the project's address, and the README with links that work outside the repository.

The address is not in the repository, which may be hosted anywhere: the workflow that publishes a release gives it in
the environment variable `SOURCE_URL`, and a source distribution keeps it in its PKG-INFO. A build that has none names
no address, and its README has no links to files.
"""

from __future__ import annotations

import os
import re
import tomllib
from email import message_from_string
from pathlib import Path

from setuptools import setup

_ROOT = Path(__file__).resolve().parent
# A target that has neither a scheme nor is a place in the page itself.
_RELATIVE = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>(?![a-z]+:|#)[^)\s]+)\)")


def source_url() -> str:
    """Return the address of the repository, without a slash at its end; empty where nothing says it."""
    package_info = _ROOT / "PKG-INFO"
    kept = message_from_string(package_info.read_text(encoding="utf-8") if package_info.exists() else "")
    found = [entry for entry in kept.get_all("Project-URL", []) if entry.startswith("Source, ")]
    return (os.environ.get("SOURCE_URL") or "".join(found).removeprefix("Source, ")).rstrip("/")


def urls(source: str, version: str) -> dict[str, str]:
    """Return the addresses that an index shows.

    >>> urls("https://host/it", "1.0")["Changes"]
    'https://host/it/blob/v1.0/CHANGES.md'
    """
    if not source:
        return {}
    return {
        "Homepage": source,
        "Documentation": f"{source}/blob/v{version}/docs/index.md",
        "Changes": f"{source}/blob/v{version}/CHANGES.md",
        "Issues": f"{source}/issues",
        "Source": source,
    }


def outside(readme: str, source: str, version: str) -> str:
    """Return the README with each relative link below the repository's address, or without it if there is none.

    >>> outside("[a](docs/a.md) ![b](b.png) [c](https://c.example) [d](#d)", "https://host/it", "1.0")
    '[a](https://host/it/blob/v1.0/docs/a.md) ![b](https://host/it/raw/v1.0/b.png) [c](https://c.example) [d](#d)'
    >>> outside("[a](docs/a.md) ![b](b.png) [c](https://c.example) [d](#d)", "", "1.0")
    'a  [c](https://c.example) [d](#d)'
    """

    def absolute(match: re.Match[str]) -> str:
        if not source:
            return "" if match["image"] else match["text"]
        kind = "raw" if match["image"] else "blob"
        return f"{match['image']}[{match['text']}]({source}/{kind}/v{version}/{match['target']})"

    return _RELATIVE.sub(absolute, readme)


if __name__ == "__main__":
    _version = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    _source = source_url()
    setup(
        long_description=outside((_ROOT / "README.md").read_text(encoding="utf-8"), _source, _version),
        long_description_content_type="text/markdown",
        project_urls=urls(_source, _version),
    )
