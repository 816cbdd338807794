"""The commands that invalidate: by type, by tags, by pattern, by URL, by user, and everything.

Owns the question before ``clear-all``, and what is said when an invalidation did not reach the store: the journal that
would deliver it later ends with this process, so that is a failure here.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import click
from flask import current_app

from .. import audit, signals
from ..context import manager_of
from ..engine.invalidations import Invalidated
from ..engine.manager import CacheManager
from .output import Command, Failure, answer, answers, away, note_memory, user

__all__ = [
    "clear_all",
    "invalidate_pattern",
    "invalidate_tags",
    "invalidate_type",
    "invalidate_url",
    "invalidate_user",
]

_TICK: Final = 0.1


@click.command(cls=Command, name="invalidate-type")
@click.argument("type_name", metavar="TYPE")
@answers
def invalidate_type(*, type_name: str, as_json: bool) -> None:
    """Make every entry of a type invalid, in all processes."""
    manager = manager_of(current_app)
    cache_type = manager.known_type(type_name)
    name = cache_type.name
    removed = _delivered(manager, "invalidate-type", (name,), lambda: manager.invalidate_type(cache_type))
    document = {"status": "success", "cache_type": name, "deleted_keys": removed}
    answer(document, f"Cache {name!r} invalidated: {_entries(removed)} removed.", as_json=as_json)


@click.command(cls=Command, name="invalidate-tags")
@click.argument("tags", metavar="TAG...", nargs=-1, required=True)
@answers
def invalidate_tags(*, tags: tuple[str, ...], as_json: bool) -> None:
    """Make every entry that has any of the tags invalid.

    It applies in all processes.
    """
    manager = manager_of(current_app)
    count = _delivered(manager, "invalidate-tags", tags, lambda: manager.invalidate_tags(*tags))
    document = {"status": "success", "tags": list(dict.fromkeys(tags)), "deleted_keys": count}
    answer(document, f"{count} {'tag' if count == 1 else 'tags'} invalidated.", as_json=as_json)


@click.command(cls=Command, name="invalidate-pattern")
@click.argument("pattern", metavar="GLOB")
@click.option("--type", "type_name", metavar="TYPE", help="Only entries of this type; GLOB is then relative to it.")
@answers
def invalidate_pattern(*, pattern: str, type_name: str | None, as_json: bool) -> None:
    """Remove the entries whose key matches.

    GLOB is such as 'search:*' or 'cache:search:*'.

    It walks the keys, so it takes longer the more there are; a type or a tag is invalidated at once.
    """
    manager = manager_of(current_app)
    cache_type = None if type_name is None else manager.known_type(type_name)
    glob, _ = manager.engine.names.pattern(pattern, type_name=None if cache_type is None else cache_type.name)
    removed = _delivered(
        manager,
        "invalidate-pattern",
        (glob,),
        lambda: _with_bar(lambda: manager.invalidate_pattern(pattern, type=cache_type)),
    )
    document = {"status": "success", "pattern": glob, "deleted_keys": removed}
    answer(document, f"{_entries(removed)} removed that matched {glob}", as_json=as_json)


@click.command(cls=Command, name="invalidate-url")
@click.argument("url", metavar="URL")
@answers
def invalidate_url(*, url: str, as_json: bool) -> None:
    """Make every answer of views to a URL's path invalid.

    All hosts, queries, variants and users are meant.
    """
    manager = manager_of(current_app)
    count = _delivered(manager, "invalidate-url", (url,), lambda: manager.invalidate_url(url))
    answer({"status": "success", "url": url, "deleted_keys": count}, f"{url} invalidated.", as_json=as_json)


@click.command(cls=Command, name="invalidate-user")
@click.argument("user_id", metavar="ID")
@answers
def invalidate_user(*, user_id: str, as_json: bool) -> None:
    """Make the answers for one user invalid.

    They are those of views whose key_func is by_user or made by by_caller.
    """
    manager = manager_of(current_app)
    count = _delivered(manager, "invalidate-user", (user_id,), lambda: manager.invalidate_user(user_id))
    document = {"status": "success", "user": user_id, "deleted_keys": count}
    answer(document, f"The answers for user {user_id!r} are invalidated.", as_json=as_json)


@click.command(cls=Command, name="clear-all")
@click.option("--yes", is_flag=True, help="Do not ask.")
@answers
def clear_all(*, yes: bool, as_json: bool) -> None:
    """Make every entry of this cache invalid.

    Other keys of the database are not touched.
    """
    manager = manager_of(current_app)
    if not yes:
        _ask(manager)
    removed = _delivered(manager, "clear-all", (), manager.clear_all)
    document = {"status": "success", "deleted_keys": removed}
    answer(document, f"Cache cleared: {_entries(removed)} removed.", as_json=as_json)


def _ask(manager: CacheManager) -> None:
    if not sys.stdin.isatty():
        raise Failure("usage", "No terminal: pass --yes to clear the whole cache.", exit_code=2)
    count = sum(row["entries"] for row in manager.overview()["types"].values())
    where = f"{manager.settings.prefix!r} at {manager.engine.catalogue.location}"
    click.confirm(f"Make all of the cache {where} invalid ({_entries(count)})?", abort=True, err=True)


def _delivered(
    manager: CacheManager, action: str, target: tuple[str, ...], invalidate: Callable[[], Invalidated]
) -> int:
    """What an invalidation returned, once the store has acknowledged it; with its line in the audit trail.

    Raises:
        Failure: the store has not.
    """
    note_memory(manager)
    count = invalidate()
    if count.journalled:
        cause = away(manager)
        why = "the store is unavailable" if cause is None else f"the store is unavailable ({cause})"
        raise Failure("not_delivered", f"Not delivered: {why}. Nothing was invalidated; run it again.")
    # INFO: on a terminal the answer says as much.
    audit.record(signals.Audited(user(), action, target, int(count)), level=logging.INFO)
    return int(count)


def _with_bar(act: Callable[[], Invalidated]) -> Invalidated:
    """Run what may take long, with a bar on a terminal's standard error."""
    if not sys.stderr.isatty():
        return act()
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's, which its type hides
    ended = threading.Event()
    result: list[Any] = []

    def run() -> None:
        try:
            with app.app_context():
                result.append(act())
        except BaseException as error:  # noqa: BLE001  # the command raises it
            result.append(error)
        finally:
            ended.set()

    threading.Thread(target=run, name="flask_rcache-command", daemon=True).start()
    if not ended.wait(_TICK):
        # Without a length: how many keys match is not known before the end.
        waits = iter(lambda: ended.wait(_TICK), True)
        with click.progressbar(waits, label="Walking the keys", file=sys.stderr) as bar:
            for _ in bar:
                pass
    outcome = result[0]
    if isinstance(outcome, BaseException):
        raise outcome
    removed: Invalidated = outcome
    return removed


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"
