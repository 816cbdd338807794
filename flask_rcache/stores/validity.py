"""The mark of what is valid in a tier of memory (rules R1 and R5).

Owns :class:`Validity`. Who changes what is valid changes the mark before the change is acknowledged, and who checks an
entry takes the mark before it looks. So under the same mark no invalidation has returned since the check, whatever the
threads did meanwhile.
"""

from __future__ import annotations

__all__ = ["Validity"]


class Validity:
    """Of the entries in one tier of memory.

    Attributes:
        mark: another object after each change by which an entry may have become invalid. An object and no number: of
            two threads that count at the same time one may be lost.
    """

    __slots__ = ("mark",)

    def __init__(self) -> None:
        self.mark: object = object()

    def changed(self) -> None:
        """What was valid may not be any more: called once that can be seen, and before who has caused it goes on."""
        self.mark = object()
