"""`python -m example_app`: the demo, in the foreground, on this machine only."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import socket
import sys
from types import FrameType

import click
from werkzeug.serving import WSGIRequestHandler, make_server

from example_app import auth
from example_app.app import create_app
from example_app.data import DataError

HOST = "127.0.0.1"
PORT = 5000


class _QuietHandler(WSGIRequestHandler):
    """The page shows every call already; the terminal only shows what went wrong."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if str(code).startswith("5"):
            super().log_request(code, size)


@click.command()
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
def main(port: int) -> None:
    """Run the flight operations board."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        # A fresh key each start: no token outlives the demo that gave it.
        admin_key = os.environ.get("RCACHE_ADMIN_JWT_KEY") or secrets.token_hex(32)
        flights_key = os.environ.get("FLIGHTS_JWT_KEY") or secrets.token_hex(32)
        with _listen(port) as listener:
            taken = port and listener.getsockname()[1] != port
            site = f"http://{HOST}:{listener.getsockname()[1]}"
            config = {
                "FLIGHTS_JWT_KEY": flights_key,
                "RCACHE_ADMIN_JWT_KEY": admin_key,
                # The demo begins with a miss. The tasks can be run from the cache's dashboard all the same.
                "RCACHE_WARMING": os.environ.get("RCACHE_WARMING", "false"),
                "RCACHE_WARMING_URL": os.environ.get("RCACHE_WARMING_URL", site),
            }
            app = create_app(config)
            server = make_server(HOST, 0, app, threaded=True, request_handler=_QuietHandler, fd=listener.fileno())
            if taken:
                click.echo(f"Port {port} is taken, using another.")
            click.echo(f"Cache:  {app.config['FLIGHTS_STORE']}")
            click.echo(f"Look at {site}/   (Ctrl-C stops it)")
            click.echo(f"The cache's dashboard: {site}{app.config['FLIGHTS_DASHBOARD']}   Sign in with this token:")
            click.echo(auth.admin_token(admin_key))
            server.serve_forever()
    except DataError as error:
        click.echo(f"The demo cannot start: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        pass
    click.echo("\nStopped.")


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        listener.bind((HOST, 0))
    listener.listen(128)
    return listener


def _stop(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
