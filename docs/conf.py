"""Sphinx configuration: `make docs`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

project = "flask_rcache"
author = "The flask_rcache contributors"
copyright = "2026, The flask_rcache contributors"
_pyproject = Path(__file__).resolve().parent.parent / "pyproject.toml"
release = version = tomllib.loads(_pyproject.read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "flask_rcache"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist", "html_image"]
myst_heading_anchors = 3

# An annotation `type` is the builtin; some events have a field of that name.
suppress_warnings = ["ref.python"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False

# Nothing is fetched while building, so names of other projects have nowhere to point to; type variables and what is
# not exported have no place of their own either.
nitpick_ignore_regex = [
    ("py:.*", r"(flask|werkzeug|redis|blinker|jwt|concurrent|asyncio)\..*"),
    ("py:.*", r"(collections|contextlib|typing|types|datetime)\..*"),
    ("py:.*", r"(Flask|Request|Response|TypeAliasForwardRef|Warming|[A-Z])"),
    ("py:class", r"flask_rcache\..*\.([A-Z]|_.*)"),
    ("py:class", r"flask_rcache\.(codec|config|engine|functions|model|stores|views)\..*"),
]
