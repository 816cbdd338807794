"""Signals: names that stay, and senders that are never harmed."""

from __future__ import annotations

import logging

import pytest

from flask_rcache import signals as events

SIGNALS = (
    "cache_hit",
    "cache_stale",
    "cache_miss",
    "cache_stored",
    "cache_invalidated",
    "cache_error",
    "cache_audited",
)


@pytest.fixture(params=SIGNALS)
def name(request: pytest.FixtureRequest) -> str:
    """Each signal."""
    return str(request.param)


def test_signals__names(name: str) -> None:
    """Exported under their names, which are the signals' own."""
    assert getattr(events, name).name == name.replace("_", "-")
    assert name in events.__all__


def test_emit__all_receivers_hear_though_one_fails(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a receiver raises is logged with the signal's name."""
    signal = getattr(events, name)
    heard: list[object] = []
    sender = object()

    def broken(_: object, *, event: object) -> None:
        raise ValueError("broken receiver")

    def hears(_: object, *, event: object) -> None:
        heard.append(event)

    with signal.connected_to(broken), signal.connected_to(hears), caplog.at_level(logging.ERROR):
        events.emit(signal, sender, "event")
    assert heard == ["event"]
    assert signal.name in caplog.text
    assert "broken receiver" in caplog.text


def test_events__are_frozen() -> None:
    """A receiver cannot change what the next one hears."""
    hit = events.Hit("search", "k", 1.0, 10)
    with pytest.raises(AttributeError):
        hit.age = 2.0  # type: ignore[misc]
