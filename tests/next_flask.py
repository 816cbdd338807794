"""A stub of the next Flask, as a plugin of pytest: ``-p tests.next_flask``. One context is the app's and the request's.

What changes, by Flask's main branch (3.2): ``flask.globals`` has no ``request_ctx`` and no ``_cv_request``;
``RequestContext`` is ``AppContext``, which says whether it ``has_request``; each request and command pushes one of
its own, and one without a request hides the one with it; ``appcontext_pushed`` is sent before the session is opened and
the URL is matched.

Flask's own modules keep the names that they have imported; both of their context variables hold the one context.
"""

from __future__ import annotations

from contextvars import Token
from typing import Any, Self

import flask.app
import flask.ctx
import flask.globals
from flask import Flask, appcontext_popped, appcontext_pushed
from werkzeug.exceptions import HTTPException

_cv_app: Any = flask.globals._cv_app
_cv_request: Any = flask.globals._cv_request


class AppContext:
    """The context of an app, and of a request if there is one."""

    def __init__(self, app: Flask, *, request: Any = None, session: Any = None) -> None:
        self.app = app
        self.g = app.app_ctx_globals_class()
        self.url_adapter: Any = None
        self.flashes: Any = None
        self._request = request
        self._session = session
        self._after_request_functions: list[Any] = []
        self._tokens: tuple[Token[Any], Token[Any]] | None = None
        self._pushes = 0
        try:
            self.url_adapter = app.create_url_adapter(request)
        except HTTPException as error:
            if request is not None:
                request.routing_exception = error

    @property
    def has_request(self) -> bool:
        return self._request is not None

    @property
    def request(self) -> Any:
        if self._request is None:
            raise RuntimeError("There is no request in this context.")
        return self._request

    @property
    def session(self) -> Any:
        session = self._open_session()
        session.accessed = True
        return session

    def _open_session(self) -> Any:
        if self._session is None:
            interface = self.app.session_interface
            self._session = interface.open_session(self.app, self.request)
            if self._session is None:
                self._session = interface.make_null_session(self.app)
        return self._session

    def copy(self) -> AppContext:
        return AppContext(self.app, request=self._request, session=self._session)

    def match_request(self) -> None:
        try:
            self._request.url_rule, self._request.view_args = self.url_adapter.match(return_rule=True)
        except HTTPException as error:
            self._request.routing_exception = error

    def push(self) -> None:
        self._pushes += 1
        if self._tokens is not None:
            return
        self._tokens = (_cv_app.set(self), _cv_request.set(self if self.has_request else None))
        appcontext_pushed.send(self.app, _async_wrapper=self.app.ensure_sync)
        if self.has_request:
            self._open_session()
            if self.url_adapter is not None:
                self.match_request()

    def pop(self, exc: BaseException | None = None) -> None:
        assert self._tokens is not None
        assert _cv_app.get() is self
        self._pushes -= 1
        if self._pushes:
            return
        try:
            if self.has_request:
                self.app.do_teardown_request(exc)
                self._request.close()
            self.app.do_teardown_appcontext(exc)
        finally:
            for variable, token in zip((_cv_app, _cv_request), self._tokens, strict=True):
                variable.reset(token)
            self._tokens = None
            appcontext_popped.send(self.app, _async_wrapper=self.app.ensure_sync)

    def __enter__(self) -> Self:
        self.push()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self.pop(error)


def _app_context(self: Flask) -> AppContext:
    return AppContext(self)


def _request_context(self: Flask, environ: Any) -> AppContext:
    request = self.request_class(environ)
    request.json_module = self.json
    return AppContext(self, request=request)


def install() -> None:
    """Put it in the place of what there is; before anything else imports Flask's contexts."""
    patched: Any = Flask
    patched.app_context, patched.request_context = _app_context, _request_context
    for module in (flask.app, flask.ctx):
        for name in ("AppContext", "RequestContext"):
            setattr(module, name, AppContext)
    del flask.globals.request_ctx, flask.globals._cv_request


install()
