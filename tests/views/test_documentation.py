"""`docs/http.md` says what the code says."""

from __future__ import annotations

import re

from flask_rcache.http import Reason
from flask_rcache.http.storable import STORABLE
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")


def test_pages__name_only_reasons_that_there_are() -> None:
    """Each `detail=` in a page is a code; tests/test_project.py compares the table of all of them."""
    text = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    assert set(re.findall(r"detail=([A-Z-]{2,})", text)) <= {reason.value for reason in Reason}


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
