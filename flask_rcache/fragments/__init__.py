"""Parts of pages: the Jinja tag ``{% cache %}``, and :func:`fragment` for code.

The tag is in a module that only templates import: Jinja's compiler is nothing that every app needs.
"""

from __future__ import annotations

from .part import fragment

__all__ = ["fragment"]
