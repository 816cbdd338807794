"""Without the optional packages: nothing of them is imported, and nothing is missed."""

from __future__ import annotations

import subprocess
import sys

from tests.processes import ROOT

_BLOCKER = """
import sys
from importlib.abc import MetaPathFinder

class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == blocked or name.startswith(blocked + ".") for blocked in BLOCKED):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = sys.argv[1:]
sys.meta_path.insert(0, Blocker())
"""

_APP = """
from flask import Flask
from flask_rcache import CacheType, RCache, cache_response

app = Flask("bare")
app.config["RCACHE_URL"] = "memory://"
app.config["TRUSTED_HOSTS"] = ["localhost"]
RCache(app)
manager = app.extensions["rcache"]

@app.get("/")
@cache_response(CacheType.DASHBOARD)
def index():
    return "body"

def visit():
    return [app.test_client().get("/").headers["X-Cache"] for _ in range(2)]
"""


def _run(program: str, *blocked: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", _BLOCKER + _APP + program, *blocked],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_absent__the_cache_works_without_either() -> None:
    """No prometheus_client and no OpenTelemetry: views are cached, nobody is told of counts."""
    program = "assert manager.engine.statistics.meters == [] and manager.tracer is None\nprint(visit())"
    result = _run(program, "prometheus_client", "opentelemetry")
    assert (result.returncode, result.stdout) == (0, "['MISS', 'HIT']\n"), result.stderr


def test_absent__what_is_asked_for_is_named() -> None:
    """Asking for an exporter whose package is not there says which one."""
    for module, package in (("prometheus", "prometheus_client"), ("opentelemetry", "opentelemetry")):
        result = _run(f"import flask_rcache.metrics.{module}", package)
        assert result.returncode == 1
        assert f"No module named '{package}'" in result.stderr


def test_absent__metrics_are_not_imported_by_themselves() -> None:
    """Present packages are not imported either, as long as nobody asks for metrics."""
    program = 'print(visit(), [name for name in sys.modules if name.split(".")[0] == "prometheus_client"])'
    result = _run(program + '\nassert "flask_rcache.metrics.opentelemetry" not in sys.modules')
    assert (result.returncode, result.stdout) == (0, "['MISS', 'HIT'] []\n"), result.stderr


def test_opentelemetry__needs_its_api_only() -> None:
    """Without the SDK the instruments count into nothing, and views are cached all the same."""
    program = """
from flask_rcache.metrics.opentelemetry import instrument
instrument(manager)
print(visit(), manager.engine.statistics.meters != [], manager.tracer is not None)
"""
    result = _run(program, "opentelemetry.sdk")
    assert (result.returncode, result.stdout) == (0, "['MISS', 'HIT'] True True\n"), result.stderr
