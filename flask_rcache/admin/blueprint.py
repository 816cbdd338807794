"""The admin API as a blueprint: one check that every call passes, and JSON for whatever is answered.

Owns the order of the checks (method, who asks, what was sent) and the HTTP of the answers. What the calls do is
``api``'s; the dashboard's page is ``page``'s, and needs no token: it has no data.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Response as Reply

from ..config.settings import Settings
from ..context import manager_of
from ..warming import warmer_of
from . import page
from .api import CALLS, Call, Question
from .bodies import LONGEST_BODY, Refused, fields
from .guard import Forbidden, JwtGuard, Unauthenticated, keyring_of

__all__ = ["register"]

logger: Final = logging.getLogger("flask_rcache")

#: All of them, so that a method that is not allowed is answered here, in JSON, and to nobody without a token.
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_REALM: Final = 'Bearer realm="flask_rcache"'

#: Gives the subject, or raises AuthError; a response is sent as it is.
Admit = Callable[[], str | Reply]


class _Answer(Response):
    """An answer that nobody may store, whatever the app's ``after_request`` does to its headers."""

    default_mimetype = "application/json"

    def get_wsgi_headers(self, environ: Any) -> Headers:
        headers = super().get_wsgi_headers(environ)
        for name in ("Expires", "Pragma", "ETag", "Last-Modified", "CDN-Cache-Control", "Surrogate-Control"):
            headers.remove(name)
        headers["Cache-Control"] = "no-store"
        headers["X-Content-Type-Options"] = "nosniff"
        if "authorization" not in {each.strip().lower() for each in ",".join(headers.getlist("Vary")).split(",")}:
            headers.add("Vary", "Authorization")
        return headers


def register(app: Flask, settings: Settings) -> None:
    """Add the admin API to an app that has a key or a guard for it; nothing of it keeps the app alive.

    Raises:
        ConfigError: the guard's settings are not usable.
    """
    admit = _guard_of(settings)
    blueprint = Blueprint("rcache_admin", __name__, url_prefix=settings.admin_url_prefix)
    for rule, calls in CALLS.items():
        name = rule.strip("/").split("/<")[0].replace(".", "_") + ("_one" if "<path:" in rule else "")
        _add(blueprint, rule, name, _guarded(admit, calls))
    for rule, name in (("", "root"), ("/", "root_slash"), ("/<path:part>", "unknown")):
        _add(blueprint, rule, name, _guarded(admit, {}))
    page.register(blueprint)
    # By their codes, so that the app's own handlers of these codes do not come first.
    blueprint.register_error_handler(404, _error)
    blueprint.register_error_handler(500, _error)
    app.register_blueprint(blueprint)


def _add(blueprint: Blueprint, rule: str, name: str, view: Callable[..., Reply]) -> None:
    blueprint.add_url_rule(rule, name, view, methods=_METHODS, provide_automatic_options=False)


def _guarded(admit: Admit, calls: Mapping[str, Call]) -> Callable[..., Reply]:
    """The view of one path: the checks that every call passes before it does anything."""

    def view(part: str = "") -> Reply:
        try:
            return _answered(admit, calls, part)
        except Refused as refused:
            return _json(refused.answer, refused.status, refused.headers)
        except Unauthenticated as error:
            return _unauthenticated(error)
        except Forbidden as error:
            logger.warning("[CACHE ADMIN] refused: %s", error)
            challenge = {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope"'}
            return _json(_problem("forbidden", "this is not allowed for this caller"), 403, challenge)
        except HTTPException as error:
            return _error(error)

    return view


def _answered(admit: Admit, calls: Mapping[str, Call], part: str) -> Reply:
    method = "GET" if request.method == "HEAD" else request.method
    allow = {"Allow": ", ".join(sorted({*calls, "OPTIONS", *(["HEAD"] if "GET" in calls else [])}))}
    if method == "OPTIONS" and calls:
        return _Answer(status=204, headers=allow)  # without data, and without permission for other origins
    subject = admit()
    if isinstance(subject, Reply):
        return subject
    if not calls:
        raise Refused(404, "not_found", f"the admin API has no {request.path!r:.200}; its openapi.json lists the calls")
    call = calls.get(method)
    if call is None:
        message = f"{request.method} is not allowed here, but {', '.join(sorted(calls))}"
        raise Refused(405, "method_not_allowed", message, headers=allow)
    body = {}
    if call.takes is not None:
        body = fields(_sent(), is_json=request.is_json, known=call.takes)
    query = dict(request.args.lists())
    answer = call.act(Question(manager_of(current_app), warmer_of(current_app), subject, part, query, body))
    return _json(answer.body, answer.status)


def _sent() -> bytes:
    """The body, if it is not too long."""
    own = request.max_content_length
    limit = LONGEST_BODY if own is None else min(own, LONGEST_BODY)
    request.max_content_length = limit + 1
    data = request.get_data(cache=False)
    # A body that does not say how long it is ends at the limit without a word: that must not pass for all of it.
    if len(data) > limit:
        raise RequestEntityTooLarge
    return data


# Who asks


def _guard_of(settings: Settings) -> Admit:
    keyring = keyring_of(settings)
    if keyring is None:
        assert settings.admin_guard is not None
        return _own_guard(settings.admin_guard)
    guard = JwtGuard(
        keyring,
        audience=settings.admin_jwt_audience,
        issuer=settings.admin_jwt_issuer,
        leeway=settings.admin_jwt_leeway,
        claim=settings.admin_claim,
        value=settings.admin_value,
    )
    return lambda: guard.admit(request.headers.get("Authorization"))


def _own_guard(guard: Callable[[Any], Any]) -> Admit:
    """The app's guard in place of tokens.

    A text is the subject; ``True`` admits without a name; ``None`` is a caller who is not known (401), ``False`` and
    ``""`` one who is not allowed (403). A response is sent as it is; what the guard raises goes to the app's handlers.
    """

    def admit() -> str | Reply:
        admitted = current_app.ensure_sync(guard)(request)
        if admitted is None:
            raise Unauthenticated("RCACHE_ADMIN_GUARD does not know the caller", given=False)
        if isinstance(admitted, Reply):
            return admitted
        if not isinstance(admitted, str | bool):
            raise TypeError(f"RCACHE_ADMIN_GUARD must return a str, a bool or None, not {type(admitted).__name__}")
        if not admitted:
            raise Forbidden("RCACHE_ADMIN_GUARD does not admit the caller")
        _same_site()
        return "" if admitted is True else admitted

    return admit


def _same_site() -> None:
    """Refuse changes that another site's page asks for: a guard of the app's own may use cookies.

    Source: the Fetch Metadata specification; ``Origin`` (RFC 6454) for browsers and schemes without it.
    """
    if request.method in ("GET", "HEAD"):
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is None and origin is not None:
        site = "same-origin" if _host_of(origin) == request.host.lower() else "cross-site"
    if site not in (None, "same-origin", "none"):
        raise Forbidden("the request comes from a page of another site")


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


# What is answered


def _unauthenticated(error: Unauthenticated) -> Response:
    if not error.given:
        body = _problem("unauthorized", "this call needs a bearer token")
        return _json(body, 401, {"WWW-Authenticate": _REALM})
    logger.warning("[CACHE ADMIN] refused a token: %.500s", repr(str(error)))
    body = _problem("invalid_token", "the token is not accepted")
    return _json(body, 401, {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'})


def _error(error: HTTPException) -> Reply:
    """What Flask or a guard aborts with, in the shape of all errors; a response that it has is left as it is."""
    if error.response is not None:
        return error.response  # type: ignore[return-value]  # the sans-I/O type of what is a Response
    status = error.code or 500
    kept = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    message = "an error in the server; its log says more" if status >= 500 else error.description or error.name
    return _json(_problem(error.name.lower().replace(" ", "_"), message), status, kept)


def _problem(error: str, message: str) -> dict[str, object]:
    return {"status": "error", "error": error, "message": message}


def _json(body: Mapping[str, object], status: int, headers: Mapping[str, str] | None = None) -> Response:
    # Not the app's JSON provider: what that changes would change the contract.
    return _Answer(json.dumps(body) + "\n", status=status, headers=headers)
