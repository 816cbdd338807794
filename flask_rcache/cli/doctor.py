"""The command ``check``: is this cache set up as it should be?

Owns the findings about the app's own configuration, and the printing. The questions to the server are ``serverside``'s.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Final

import click
from flask import Flask, current_app

from ..config.redaction import redacted
from ..config.settings import SETTINGS, Settings, load_settings
from ..context import manager_of
from ..engine.manager import CacheManager
from ..errors import ConfigError
from ..startup import decorated
from .findings import Finding, State, fail, ok, warn
from .output import Command, answer, answers, printable, seconds_text

__all__ = ["check"]

_COLOURS: Final = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red"}
_SHORTEST_KEY: Final = 16


@click.command(cls=Command)
@answers
def check(*, as_json: bool) -> None:
    """Check settings, servers, clock, rights and bus.

    Show how to correct what is wrong.

    It writes one entry of its own and removes it again. It fails when something does not work, and not for warnings.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's, which its type hides
    manager = manager_of(app)
    findings = [*_configured(app, manager), *_stored(manager)]
    states = {finding.state for finding in findings}
    worst = next(state for state in (State.FAIL, State.WARN, State.OK) if state in states)
    document = {"status": worst.value, "checks": [finding.document() for finding in findings]}
    answer(document, "\n".join(_lines(findings)), as_json=as_json)
    if worst is State.FAIL:
        raise click.exceptions.Exit(1)


def _lines(findings: list[Finding]) -> Iterator[str]:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        state = click.style(f"{finding.state.value:<4}", fg=_COLOURS[finding.state])
        yield f"{state}  {finding.name:<{width}}  {printable(finding.message)}"
        if finding.remedy:
            yield f"{'':<{width + 8}}-> {printable(finding.remedy)}"


# The configuration


def _configured(app: Flask, manager: CacheManager) -> Iterator[Finding]:
    yield from _settings(app, manager.settings)
    yield _types(app, manager)
    yield _hosts(app)
    yield _secret_key(app)
    yield _admin(app, manager.settings)
    yield from _sealing(manager.settings)


def _settings(app: Flask, settings: Settings) -> Iterator[Finding]:
    """Whether what the app was started with is what is configured now."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            now = load_settings(app.config, os.environ, testing=app.testing)
        except ConfigError as error:
            yield fail("settings", f"{error}", "It was set after init_app, which reads the configuration once.")
            return
    changed = [
        f"RCACHE_{name.upper()}" for name in (*SETTINGS, "ttls") if getattr(now, name) != getattr(settings, name)
    ]
    shown = f"prefix {settings.prefix!r}, ttl {seconds_text(settings.ttl_default)} where no other ttl applies"
    if changed:
        what = f"changed after init_app, without effect: {', '.join(changed)}"
        yield warn("settings", what, "Configure the app before RCache(app) or init_app(app).")
    else:
        yield ok("settings", shown)
    for warning in caught:
        yield warn("settings", str(warning.message), "Correct it or remove it.")
    if not settings.enabled:
        yield warn("enabled", "RCACHE_ENABLED is false: nothing is read or stored.", "Set it to true.")


def _types(app: Flask, manager: CacheManager) -> Finding:
    # What is wrong with them has been an error before this command has begun: see `startup`.
    return ok("views", f"{len(manager.types)} cache types, {sum(1 for _ in decorated(app))} decorated views")


def _hosts(app: Flask) -> Finding:
    hosts = app.config.get("TRUSTED_HOSTS")
    if hosts:
        return ok("hosts", f"TRUSTED_HOSTS: {', '.join(hosts)}")
    if all(options.key_func is not None and not options.composes for _, options in decorated(app)):
        return ok("hosts", "TRUSTED_HOSTS is not set, and no key has the host in it")
    return warn(
        "hosts",
        "TRUSTED_HOSTS is not set: Host headers chosen by an attacker fill the cache with entries.",
        "Set TRUSTED_HOSTS to the hosts that clients use.",
    )


def _secret_key(app: Flask) -> Finding:
    key = app.secret_key
    if key is None:
        return ok("sessions", "no SECRET_KEY, so there are no sessions")
    if len(key) < _SHORTEST_KEY:
        return warn(
            "sessions",
            f"SECRET_KEY is shorter than {_SHORTEST_KEY} characters: whoever guesses it can act as any user.",
            'Make one with python -c "import secrets; print(secrets.token_hex(32))".',
        )
    return ok("sessions", "SECRET_KEY is set")


def _admin(app: Flask, settings: Settings) -> Finding:
    where = settings.admin_url_prefix
    if not settings.admin:
        return ok("admin", "the admin API is switched off")
    if settings.admin_guard is not None:
        return ok("admin", f"{where} is guarded by RCACHE_ADMIN_GUARD")
    who = f"whose {settings.admin_claim!r} is {settings.admin_value!r}"
    if settings.admin_jwks_url is not None:
        return ok("admin", f"{where} accepts tokens of {redacted(settings.admin_jwks_url)} {who}")
    key = settings.admin_jwt_key
    if key is None:
        return ok("admin", "there is no admin API: no key and no guard is configured")
    if key in (app.secret_key, settings.user_jwt_key):
        return warn(
            "admin",
            "RCACHE_ADMIN_JWT_KEY also signs other tokens, which may be accepted as an admin's.",
            "Give the admin API a key of its own.",
        )
    return ok("admin", f"{where} accepts tokens {who}")


def _sealing(settings: Settings) -> Iterator[Finding]:
    """Whether what is stored is sealed; of the keys no more than their number."""
    number = len(settings.encryption_keys)
    if number and settings.is_shared:
        others = f"; {number - 1} more only read" if number > 1 else ""
        yield ok("sealing", f"entries and queued writes are sealed with the first of RCACHE_ENCRYPTION_KEYS{others}")
    elif number:
        yield warn(
            "sealing",
            "RCACHE_ENCRYPTION_KEYS is set, and nothing is sealed: entries stay in this process.",
            "Set RCACHE_URL, or leave the keys out.",
        )


def _stored(manager: CacheManager) -> Iterator[Finding]:
    if manager.settings.is_shared:
        from .serverside import server_findings  # needs redis-py

        yield from server_findings(manager)
    else:
        yield warn(
            "store",
            f"{manager.engine.catalogue.location}: each process has a cache of its own, and an invalidation in one "
            "does not apply in the others.",
            "With more than one process, set RCACHE_URL to a Redis or Valkey server.",
        )
