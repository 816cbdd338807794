"""Writes the table of settings into docs/configuration.md, from the place where they are declared.

    PYTHONPATH=. python docs/reference.py

The page is committed, so that it can be read in the repository; a test compares it with what this writes.
"""

from __future__ import annotations

from pathlib import Path

from flask_rcache.config.settings import SETTINGS

PAGE = Path(__file__).with_name("configuration.md")
_BEGIN = "<!-- settings: written by docs/reference.py -->\n"
_END = "<!-- end of the settings -->\n"


def as_written(default: object) -> str:
    """Write a default as one would in the environment; what is a list there in several pieces, so that lines break.

    >>> as_written(True), as_written(0.25), as_written(("a", "b")), as_written(None)
    ('`true`', '`0.25`', '`a`, `b`', '')
    """
    if default is None or default == () or default == {}:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return ", ".join(f"`{each}`" for each in default)
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def settings_table() -> str:
    """The table of every setting, in the order in which they are declared."""
    lines = ["| key | default | means |", "|---|---|---|"]
    lines += [
        f"| `RCACHE_{name.upper()}` | {as_written(setting.default)} | {setting.help} |"
        for name, setting in SETTINGS.items()
    ]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with the table as it should be.

    Raises:
        ValueError: the lines that enclose the table are not there.
    """
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    if not rest or not after:
        raise ValueError(f"{PAGE.name} lacks the line {_BEGIN.strip()!r} or {_END.strip()!r}")
    return f"{before}{_BEGIN}\n{settings_table()}\n{_END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
