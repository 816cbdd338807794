"""The reason codes: their form, and the table made of them."""

from __future__ import annotations

import re

import pytest

from flask_rcache.http import Reason, reasons_table


@pytest.mark.parametrize("reason", Reason, ids=str)
def test_reason__is_a_token_with_one_sentence(reason: Reason) -> None:
    """A code can stand in `detail=` unquoted, and explains itself in one sentence."""
    assert re.fullmatch(r"[A-Z][A-Z-]*[A-Z]", reason.value)
    assert str(reason) == reason.value
    assert reason.name == reason.value.replace("-", "_")
    assert reason.x_cache in {"BYPASS", "MISS"}
    assert re.fullmatch(r"[A-Z`][^\n|]*[^.]\.", reason.sentence)


def test_reasons_table__has_one_row_for_each_reason() -> None:
    """The table for the documentation leaves no reason out and is well-formed."""
    lines = reasons_table().splitlines()
    assert lines[1] == "|---|---|---|"
    assert [line.split("|")[1].strip(" `") for line in lines[2:]] == [reason.value for reason in Reason]
    assert all(line.count("|") == 4 for line in lines)
