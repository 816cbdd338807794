"""`docs/http.md` says what the code says."""

from __future__ import annotations

import re

from flask_rcache.http import Reason, reasons_table
from flask_rcache.http.storable import STORABLE
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")


def test_http_page__lists_every_reason() -> None:
    """The table of reasons is the one that the code gives."""
    assert reasons_table() in PAGE
    assert set(re.findall(r"detail=([A-Z-]+)", PAGE)) <= {reason.value for reason in Reason}


def test_http_page__lists_the_statuses() -> None:
    """The statuses that are stored without a lifetime of their own."""
    rows = [
        {int(number) for number in re.findall(r"\d{3}", row.split("|")[1])}
        for row in PAGE.splitlines()
        if re.match(r"\| \d{3}, ", row)
    ]
    assert rows == [set(STORABLE)]


def test_http_page__every_reason_is_given_somewhere() -> None:
    """A code that the code never gives would be a promise without a keeper."""
    sources = [
        path.read_text(encoding="utf-8") for path in (ROOT / "flask_rcache").rglob("*.py") if path.stem != "reasons"
    ]
    unused = [reason.name for reason in Reason if not any(f"Reason.{reason.name}" in source for source in sources)]
    assert unused == []
