"""The reason codes: their form."""

from __future__ import annotations

import re

import pytest

from flask_rcache.http import Reason


@pytest.mark.parametrize("reason", Reason, ids=str)
def test_reason__is_a_token_with_one_sentence(reason: Reason) -> None:
    """A code can stand in `detail=` unquoted, and explains itself in one sentence."""
    assert re.fullmatch(r"[A-Z][A-Z-]*[A-Z]", reason.value)
    assert str(reason) == reason.value
    assert reason.name == reason.value.replace("-", "_")
    assert reason.x_cache in {"BYPASS", "MISS"}
    assert re.fullmatch(r"[A-Z`][^\n|]*[^.]\.", reason.sentence)
