"""Run the public HTTP cache test suite: ``python -m tests.http.cache_tests``; needs node and npm.

The suite's server is the origin, a gateway with one decorated view stands in front of it, and the suite's own client
asks the gateway. Printed are the tests that did not pass and the numbers by the suite's own scoring.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.http.cache_tests.gateway import create_app, serve

#: What npm installs when no folder is given; `github:http-tests/cache-tests` is the newest.
PACKAGE: Final = "http-cache-tests@0.4.5"
PASSED: Final = ("✅", "Y")
_BOOT_SECONDS: Final = 20.0


def main() -> int:
    """Run the suite, and print what came of it; 1 when less passed than was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.http.cache_tests", description=__doc__)
    parser.add_argument("--suite", type=Path, help="a folder with the suite and its dependencies; else npm installs it")
    parser.add_argument("--package", default=PACKAGE, help=f"what npm installs (default: {PACKAGE})")
    parser.add_argument("--id", default="", help="run one test, and print its requests and responses")
    parser.add_argument("--url", default="memory://", help="of the store, as RCACHE_URL")
    parser.add_argument("--required", type=int, default=0, help="fail when fewer required tests pass")
    parser.add_argument("--optimal", type=int, default=0, help="fail when fewer optimal tests pass")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        suite = options.suite or stack.enter_context(_installed(options.package))
        output = stack.enter_context(_against_gateway(suite.resolve(), options.url, options.id))
        if options.id:
            print(output.read_text(encoding="utf-8"))
            return 0
        verdicts = _verdicts(suite.resolve(), output)
    passed = _report(verdicts)
    return int(passed["required"] < options.required or passed["optimal"] < options.optimal)


@contextlib.contextmanager
def _installed(package: str) -> Iterator[Path]:
    """The suite, installed by npm into a folder that goes again."""
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is not on the path: install node, or give a folder with --suite")
    with tempfile.TemporaryDirectory(prefix="cache-tests-") as folder:
        command = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", folder, package]
        subprocess.run(command, check=True)
        yield Path(folder, "node_modules", "http-cache-tests")


@contextlib.contextmanager
def _against_gateway(suite: Path, url: str, test: str) -> Iterator[Path]:
    """The results of the suite's client against the gateway, in a file."""
    engine = suite / "test-engine" if (suite / "test-engine").is_dir() else suite
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="cache-tests-") as folder:
        environ = {
            **os.environ,
            "npm_config_port": str(port),
            "npm_config_protocol": "http",
            "npm_config_pidfile": str(Path(folder, "pid")),
            "npm_config_id": test,
            "npm_package_config_id": "",
        }
        origin = subprocess.Popen(
            ["node", str(engine / "server" / "server.mjs")], cwd=suite, env=environ, stdout=subprocess.DEVNULL
        )
        gateway = serve(create_app(("127.0.0.1", port), url))
        threading.Thread(target=gateway.serve_forever, daemon=True).start()
        try:
            _wait_for(port)
            environ["npm_config_base"] = f"http://127.0.0.1:{gateway.server_port}"
            output = Path(folder, "results.json")
            with output.open("wb") as file:
                command = ["node", "--no-warnings", str(engine / "cli.mjs")]
                subprocess.run(command, cwd=suite, env=environ, stdout=file, check=True)
            yield output
        finally:
            gateway.shutdown()
            gateway.server_close()
            origin.kill()
            origin.wait()


def _verdicts(suite: Path, results: Path) -> list[dict[str, Any]]:
    script = Path(__file__).with_name("verdicts.mjs")
    command = ["node", "--no-warnings", str(script), str(suite), str(results)]
    found: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def _report(verdicts: list[dict[str, Any]]) -> Counter[str]:
    """Print what did not pass, and how much did; how many passed, by kind."""
    for each in verdicts:
        if each["kind"] != "check" and each["verdict"] not in PASSED:
            print(f"{each['kind']:8} {each['verdict']} {each['section']}: {each['id']}  {each['message']}")
    passed = Counter(each["kind"] for each in verdicts if each["verdict"] in PASSED)
    total = Counter(each["kind"] for each in verdicts)
    for kind in ("required", "optimal", "check"):
        print(f"{kind}: {passed[kind]} of {total[kind]}")
    return passed


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _BOOT_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"the suite's server did not start on port {port}")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
