"""The audit trail: every change has its line in the log and its signal, and nothing else has."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flask_rcache import cache_audited
from flask_rcache.signals import Audited
from tests.admin.kit import Admin
from tests.admin.tokens import bearer, token
from tests.processes import wait_until

CHANGES: list[tuple[str, Any, str, tuple[str, ...], int]] = [
    ("/invalidate/search", None, "invalidate-type", ("search",), 2),
    ("/invalidate-pattern", {"pattern": "search:a"}, "invalidate-pattern", ("cache:search:a",), 1),
    ("/invalidate-pattern", {"pattern": "b", "type": "search"}, "invalidate-pattern", ("cache:search:b",), 1),
    ("/invalidate-tags", {"tags": ["eu", "us", "eu"]}, "invalidate-tags", ("eu", "us"), 2),
    ("/clear-all", None, "clear-all", (), 2),
    ("/clear", {}, "clear-all", (), 2),
]


@contextmanager
def heard(admin: Admin) -> Iterator[list[Audited]]:
    """The events of this application's signal."""
    events: list[Audited] = []

    def hear(sender: object, event: Audited) -> None:
        events.append(event)

    with cache_audited.connected_to(hear, sender=admin.flask):
        yield events


def trail(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the audit log."""
    return [record.getMessage() for record in caplog.records if record.name == "flask_rcache.audit"]


@pytest.mark.parametrize(("path", "body", "action", "target", "count"), CHANGES)
def test_audit__each_change(near_and_far, caplog, path, body, action, target, count) -> None:
    """Who did what to what, and how much it was."""
    admin = near_and_far
    admin.fill("a", "b", tags=("eu",))
    with heard(admin) as events:
        assert admin.post(path, body).status_code == 200
    assert events == [Audited("ann", action, target, count)]
    assert trail(caplog) == [f"[CACHE ADMIN] 'ann' did {action} on {target!r}: {count} removed"]


def test_audit__is_seen_where_nobody_configured_logging(new_admin, caplog) -> None:
    """It is written at WARNING: Python shows nothing below, unless told to."""
    new_admin().post("/clear")
    (record,) = [record for record in caplog.records if record.name == "flask_rcache.audit"]
    assert record.levelno == logging.WARNING


def test_audit__not_for_reading_nor_for_what_is_refused(new_admin, caplog) -> None:
    """Only what changed something is in the trail."""
    admin = new_admin()
    with heard(admin) as events:
        for path in ("/stats", "/overview", "/keys", "/keys/cache:search:a", "/clear"):
            admin.get(path)
        admin.post("/invalidate/serach")
        admin.post("/invalidate-tags", {"tags": []})
        admin.post("/invalidate-pattern", {"pattern": "*", "type": "serach"})
        admin.post("/clear", headers={})
        admin.post("/clear", headers=bearer(token(role="user")))
    assert events == []
    assert trail(caplog) == []


def test_audit__who_was_refused_for_the_role_is_in_the_log(new_admin, caplog) -> None:
    """A valid token without the role is worth a line with its subject."""
    new_admin().post("/clear", headers=bearer(token(sub="eve", role="user")))
    assert "'eve' does not have 'admin' in the claim 'role'" in caplog.text


def test_audit__one_line_whatever_the_names_hold(new_admin, caplog) -> None:
    """A subject or a tag with line breaks does not make a line of its own, and a long list is cut."""
    admin = new_admin()
    evil = "x\n[CACHE ADMIN] 'root' did clear-all\r\x1b[2J"
    tags = [evil, *(f"tag {number}" for number in range(900))]
    with heard(admin) as events:
        assert admin.post("/invalidate-tags", {"tags": tags}, headers=bearer(token(sub=evil))).status_code == 200
    (line,) = trail(caplog)
    assert not {"\n", "\r", "\x1b"} & set(line)
    assert len(line) < 2000
    assert line.endswith("901 removed")
    assert events == [Audited(evil, "invalidate-tags", tuple(tags), 901)]


@pytest.mark.parametrize(("returned", "subject"), [("shop:ann", "shop:ann"), (True, "")])
def test_audit__names_whom_the_apps_guard_names(new_admin, returned, subject) -> None:
    """The subject is the guard's."""
    admin = new_admin(RCACHE_ADMIN_JWT_KEY=None, RCACHE_ADMIN_GUARD=lambda request: returned)
    with heard(admin) as events:
        admin.post("/clear", headers={})
    assert [event.subject for event in events] == [subject]


def test_audit__a_receiver_that_fails_is_logged(new_admin, caplog) -> None:
    """The change is made and answered all the same."""
    admin = new_admin()

    def broken(sender: object, event: Audited) -> None:
        raise ValueError("broken receiver")

    with cache_audited.connected_to(broken, sender=admin.flask):
        assert admin.post("/clear").status_code == 200
    assert "broken receiver" in caplog.text
    assert len(trail(caplog)) == 1


def test_audit__says_what_is_journalled(private_server, new_admin, caplog) -> None:
    """A change that the store hears of later is told as such."""
    server = private_server()
    admin = new_admin(server.url)
    admin.fill("a")
    server.kill()
    with heard(admin) as events:
        assert admin.post("/invalidate/search").status_code == 202
    assert events == [Audited("ann", "invalidate-type", ("search",), 0, journalled=True)]
    (line,) = trail(caplog)
    assert line.endswith("0 removed, journalled until the store is back")
    server.restart()
    with heard(admin) as events:
        wait_until(lambda: admin.post("/invalidate/search").status_code == 200, timeout=30, what="the store's return")
    assert events[-1].journalled is False
