"""A gateway: one decorated view, which forwards every request to the suite's own server."""

from __future__ import annotations

import http.client
import re
from typing import Any, Final

from flask import Flask, Response, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from flask_rcache import FROM_HEADERS, CacheType, RCache, cache_response

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "M-SEARCH", "FOO")
#: What a gateway does not pass on. Source: RFC 9110 section 7.6.1.
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
_INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1[0-9][0-9]")

Lines = list[tuple[str, str]]


class _FinalResponse(http.client.HTTPResponse):
    """A response of the origin: the interim ones before it cannot be passed on by WSGI, and are left out."""

    def begin(self) -> None:
        while _INTERIM.match(self.fp.peek(12)):
            while self.fp.readline().strip():
                pass
        super().begin()


def create_app(origin: tuple[str, int], url: str) -> Flask:
    """A gateway to an origin.

    Args:
        origin: its host and port.
        url: of the store, as ``RCACHE_URL``.
    """
    app = Flask("gateway")
    app.config.update(
        RCACHE_URL=url,
        RCACHE_TARGETED_FIELDS=["CDN-Cache-Control"],
        RCACHE_PREFIX=f"cache-tests-{origin[1]}",
        TRUSTED_HOSTS=["127.0.0.1", "localhost"],
    )
    RCache(app)

    @app.route("/", defaults={"path": ""}, methods=METHODS)
    @app.route("/<path:path>", methods=METHODS)
    @cache_response(CacheType("gateway", stale_if_error=60), ttl=FROM_HEADERS)
    def forward(path: str) -> Response:
        return _forwarded(origin)

    return app


def _forwarded(origin: tuple[str, int]) -> Response:
    connection = http.client.HTTPConnection(*origin, timeout=10)
    connection.response_class = _FinalResponse
    try:
        body = request.get_data()
        target = request.full_path if request.query_string else request.path
        connection.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
        for line in _passed_on(list(request.headers)):
            connection.putheader(*line)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException):
        return Response("the origin does not answer", 502)
    finally:
        connection.close()
    response = Response(content, f"{answer.status} {answer.reason}")
    response.headers.clear()
    for line in _passed_on(answer.getheaders()):
        response.headers.add(*line)
    return response


def _passed_on(lines: Lines) -> Lines:
    listed = {
        option.strip().lower() for name, value in lines if name.lower() == "connection" for option in value.split(",")
    }
    return [line for line in lines if line[0].lower() not in _HOP_BY_HOP | listed]


class _Handler(WSGIRequestHandler):
    """Sends what the app sends: no `Server`, and no `Date` beside the origin's."""

    def send_response(self, code: int, message: str | None = None) -> None:
        self.send_response_only(code, message)

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


def serve(app: Flask) -> BaseWSGIServer:
    """A server for the gateway on a free port, a thread for each connection; the caller runs and closes it."""
    return make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Handler)
