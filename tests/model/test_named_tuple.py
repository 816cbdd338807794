"""``NamedTuple``: what classes of the standard library's do, these do too."""

from __future__ import annotations

import copy
import inspect
import typing
from typing import Any

import pytest

from flask_rcache.model.named_tuple import NamedTuple


class Ours(NamedTuple):
    """With a default, a method and a property."""

    name: str
    size: int = 3

    @property
    def double(self) -> int:
        """Twice the size."""
        return 2 * self.size


class Theirs(typing.NamedTuple):
    """The same."""

    name: str
    size: int = 3

    @property
    def double(self) -> int:
        """Twice the size."""
        return 2 * self.size


class Below(Ours):
    """A subclass, whose first instance may be made before one of the class above it."""

    __slots__ = ()


@pytest.mark.parametrize(
    "look",
    [
        lambda kind: tuple(kind("a")),
        lambda kind: kind(size=1, name="b"),
        lambda kind: kind("a").double,
        lambda kind: kind("a") == ("a", 3),
        lambda kind: repr(kind("a")).partition("(")[2],
        lambda kind: kind("a")._replace(size=4).size,
        lambda kind: kind("a")._asdict(),
        lambda kind: kind._make(["a", 5]).size,
        lambda kind: (kind._fields, kind._field_defaults, kind.__match_args__, kind.__doc__ is None),
        lambda kind: [(each.name, each.default) for each in inspect.signature(kind).parameters.values()],
        lambda kind: copy.deepcopy(kind("a", 9)).size,
        lambda kind: hash(kind("a")) == hash(("a", 3)),
        lambda kind: type(kind),
        lambda kind: typing.get_type_hints(kind),
    ],
)
def test_named_tuple__is_like_the_standard_librarys(look: Any) -> None:
    """Each of these gives the same for a class of either."""
    assert look(Ours) == look(Theirs)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda kind: kind(), TypeError),
        (lambda kind: kind("a", 1, 2), TypeError),
        (lambda kind: kind("a", colour="red"), TypeError),
        (lambda kind: kind("a")._replace(colour="red"), ValueError),
        (lambda kind: kind._make(["a"]), TypeError),
        (lambda kind: setattr(kind("a"), "name", "b"), AttributeError),
        (lambda kind: setattr(kind("a"), "colour", "red"), AttributeError),
    ],
)
def test_named_tuple__refuses_what_the_standard_librarys_refuses(wrong: Any, error: type[Exception]) -> None:
    """With the same kind of error."""
    for kind in (Ours, Theirs):
        with pytest.raises(error):
            wrong(kind)


def test_named_tuple__a_subclass_constructs_itself() -> None:
    """And leaves the class above it as it is."""
    assert type(Below("a")) is Below
    assert type(Ours("a")) is Ours
    assert isinstance(Below("a")._replace(size=4), Below)
