"""The rounds of a process that consumes a stream."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from flask_rcache.streaming import StreamConsumer


class AwayError(Exception):
    """The server is away."""


def test_run__ends_with_the_first_round_that_finds_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """With `once`; each round is reported."""
    rounds = iter([True, True, False, True])
    seen: list[int] = []
    StreamConsumer("a stream", lambda: next(rounds), (AwayError,)).run(once=True, report=lambda: seen.append(1))
    assert len(seen) == 3
    assert caplog.text == ""


def test_run__goes_on_when_the_server_is_back(caplog: pytest.LogCaptureFixture) -> None:
    """What is known of the server is forgotten meanwhile."""
    turns: Iterator[AwayError | bool] = iter([AwayError("gone"), False])
    lost: list[int] = []

    def turn() -> bool:
        found = next(turns)
        if isinstance(found, AwayError):
            raise found
        consumer.stop()
        return found

    consumer = StreamConsumer("the stream", turn, (AwayError,), lost=lambda: lost.append(1), rests=False)
    with caplog.at_level(logging.WARNING):
        consumer.run(once=False, report=lambda: None)
    assert lost == [1]
    assert "the stream is away: gone" in caplog.text


def test_run__once_says_that_the_server_is_away() -> None:
    """A command that is to end must not look as if it had found nothing."""

    def turn() -> bool:
        raise AwayError

    with pytest.raises(AwayError):
        StreamConsumer("a stream", turn, (AwayError,)).run(once=True, report=lambda: None)


def test_run__other_errors_are_not_its_own() -> None:
    """They are defects, and end it."""

    def turn() -> bool:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        StreamConsumer("a stream", turn, (AwayError,)).run(once=False, report=lambda: None)


def test_name__is_nobody_else_s() -> None:
    """Two consumers of one process have two names."""
    one, other = (StreamConsumer("a stream", bool, (AwayError,)) for _ in range(2))
    assert one.name != other.name
