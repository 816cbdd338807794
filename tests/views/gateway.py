"""An application that is a gateway to another server, and that server: what the wire tests run."""

from __future__ import annotations

import http.client
import os
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from flask import Flask, Response, request

from flask_rcache import CacheType, RCache, cache_response, unobserved

ORIGIN = CacheType("origin", ttl=60)

#: What an application may not send (PEP 3333); gunicorn drops it, waitress refuses it.
HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


def create_app() -> Flask:
    """A gateway to the port that `ORIGIN_PORT` names."""
    app = Flask("gateway")
    app.config["TRUSTED_HOSTS"] = ["127.0.0.1"]
    RCache(app)
    port, strict = int(os.environ["ORIGIN_PORT"]), os.environ.get("STRICT") == "1"

    @app.route("/<path:path>", methods=["GET", "POST"])
    @cache_response(ORIGIN)
    def forward(path: str) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            with unobserved():  # what the origin's answers depend on, its Vary says
                headers = dict(request.headers)
            connection.request(request.method, request.full_path, body=request.get_data(), headers=headers)
            answer = connection.getresponse()
            lines = answer.getheaders()
            # The body is whole here, whatever it came in.
            body = answer.read()
        finally:
            connection.close()
        kept = [line for line in lines if line[0].lower() != "transfer-encoding"]
        response = Response(body, answer.status)
        response.headers.clear()
        for name, value in kept:
            if not (strict and name.lower() in HOP_BY_HOP):
                response.headers.add(name, value)
        return response

    return app


@dataclass
class Answer:
    """What the origin says at one path."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    chunks: int = 0


class Origin:
    """A server under the test's control; counts and keeps the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.rstrip("?")
                origin.requests.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
                answer = origin.answers[path]
                self.send_response_only(answer.status)
                for line in answer.headers:
                    self.send_header(*line)
                if answer.chunks:
                    self.send_header("Transfer-Encoding", "chunked")
                elif answer.status != 204:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(_chunked(answer.body, answer.chunks) if answer.chunks else answer.body)

            do_POST = do_HEAD = do_GET  # noqa: N815  # the names are the library's

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def says(self, path: str, body: bytes = b"hello", /, *headers: tuple[str, str], status: int = 200, chunks: int = 0):
        """From now on this path answers so."""
        self.answers[path] = Answer(status, list(headers), body, chunks)

    def asked(self, path: str) -> list[dict[str, str]]:
        """The header fields of the requests for a path."""
        return [headers for _, asked, headers in self.requests if asked == path]


def _chunked(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
