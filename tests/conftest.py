"""Fixtures that every test file may use, and the rule that nothing is left out in silence.

Servers and applications are described in `tests.servers`, how a parallel run hands out tests in `tests.lanes`. Each
worker of a parallel run is a session with servers of its own. A fixture must not be called `app`: pytest-flask would
push a request context around every test that uses it.
"""

from __future__ import annotations

import functools
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from weakref import WeakSet

import hypothesis
import pytest
import redis.utils

from tests.clusters import Cluster
from tests.lanes import Lanes, import_share, long_first
from tests.sentinels import Sentinels
from tests.servers import Binary, Gunicorn, NoServerError, Server, find_binary

hypothesis.settings.register_profile(
    "project", deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("project")
# For each client redis-py reads its own version from its metadata, which takes longer than many a test.
redis.utils.get_lib_version = functools.cache(redis.utils.get_lib_version)

#: Their tests start a browser, or several processes that import Flask.
_SLOW_FIXTURES = frozenset({"browser", "gunicorn"})

#: Where tests are about the cache's patience with Redis itself. Elsewhere a busy machine must not look like an outage.
_IMPATIENT = (
    *(f"tests/{name}/" for name in ("chaos", "race", "sabotage", "stores", "engine", "twenty")),
    "tests/test_config.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Forget the caller's own cache settings: they would reach every application made here."""
    for name in list(os.environ):
        if name.startswith(("RCACHE_", "CACHE_", "REDIS_URL", "REDIS_HOST", "REDIS_PORT")):
            del os.environ[name]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of `-n auto`: two for each processor, since half of a test's time is waiting; eight at most."""
    return min(2 * (os.cpu_count() or 1), 8)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out tests as `tests.lanes` says, unless the command line asks for another way."""
    if config.getoption("dist") != "load":  # what `-n` alone means
        return None
    config.option.loadscopereorder = False  # the order is `long_first`'s
    return Lanes(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Share the work of a fresh checkout among the workers of a parallel run of all tests."""
    config = session.config
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is not None and config.args == config.getini("testpaths"):
        import_share(config.rootpath, int(worker["workerid"].removeprefix("gw")), worker["workercount"])


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep the tests themselves out of later collections of garbage, each of which would look at a million objects."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what its fixtures make slow; in a parallel run, begin with the tests that take longest."""
    for item in items:
        if not _SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):
        long_first(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give what tests start, in processes too, a budget for Redis that four workers on two processors do not exceed."""
    impatient = item.nodeid.startswith(_IMPATIENT) or any(map(item.get_closest_marker, ("race", "chaos")))
    if impatient:
        os.environ.pop("RCACHE_TIMEOUT", None)
    else:
        os.environ["RCACHE_TIMEOUT"] = "2"


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the caches that a test has left: each ends with its app, which is in a circle, as all apps of Flask are.

    What tests of a file share lives on until its end. There is a collection of garbage, which takes longer than most
    tests, only if a cache is left: one that was closed has at most a listener, which ends within a second.
    """
    is_last = nextitem is None or nextitem.path != item.path
    if is_last:
        _shared.clear()
    if not _shared.issuperset(_threads_of_caches(closed=False)):
        gc.collect()
        if not is_last:
            _shared.update(_threads_of_caches(closed=False))


@pytest.fixture
def no_other_caches() -> None:
    """For what is measured of a whole process: the threads of caches of earlier tests have ended, in ten seconds."""
    gc.collect()
    deadline = time.monotonic() + 10
    while _threads_of_caches() and time.monotonic() < deadline:
        time.sleep(0.05)


#: The threads that were there after the last collection of garbage: of caches that tests of a file share.
_shared: WeakSet[threading.Thread] = WeakSet()


def _threads_of_caches(*, closed: bool = True) -> list[threading.Thread]:
    ours = [each for each in threading.enumerate() if each.name.startswith("flask_rcache")]
    return ours if closed else [each for each in ours if each.name != "flask_rcache-bus"]


def pytest_report_header() -> list[str]:
    """Say which servers the tests run on."""
    found = []
    for flavour in ("redis", "valkey"):
        try:
            binary = _binary(flavour)
        except NoServerError as error:
            found.append(str(error))
        else:
            found.append(f"{binary} ({binary.path})")
    return ["servers: " + "; ".join(found)]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name what did not run, in words that cannot be overlooked."""
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    terminalreporter.section("NOT EVERYTHING RAN", sep="!", red=True, bold=True)
    reasons: dict[str, int] = {}
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count} not run: {reason.removeprefix('Skipped: ')}", red=True)
    if _in_ci():
        terminalreporter.write_line("In CI that is a failure.", red=True, bold=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI, fail a run that left something out."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if _in_ci() and reporter is not None and reporter.stats.get("skipped") and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _binary(flavour: Any) -> Binary:
    return find_binary(flavour)


def _boot(flavour: str) -> Iterator[Server]:
    try:
        binary = _binary(flavour)
    except NoServerError as error:
        pytest.skip(str(error))
    with Server(binary) as server:
        yield server


@pytest.fixture(scope="session")
def _shared_redis() -> Iterator[Server]:
    yield from _boot("redis")


@pytest.fixture(scope="session")
def _shared_valkey() -> Iterator[Server]:
    yield from _boot("valkey")


def _emptied(server: Server) -> Server:
    with server.client() as client, client.pipeline(transaction=False) as pipeline:
        pipeline.flushall()
        pipeline.config_resetstat()
        pipeline.execute()
    return server


@pytest.fixture
def redis_server(_shared_redis: Server) -> Server:
    """Redis proper, shared by the run and emptied before the test. Do not stop or configure it."""
    return _emptied(_shared_redis)


@pytest.fixture
def valkey_server(_shared_valkey: Server) -> Server:
    """Valkey, shared by the run and emptied before the test. Do not stop or configure it."""
    return _emptied(_shared_valkey)


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Server:
    """Redis and Valkey in turn, emptied before the test; for what the server itself does, scripts included."""
    shared: Server = request.getfixturevalue(f"{request.param}_server")
    return shared


@pytest.fixture
def any_server(request: pytest.FixtureRequest) -> Server:
    """One of the two, emptied before the test, for what does not depend on which: Redis, if this machine has one."""
    shared: Server = request.getfixturevalue(f"{_binary('any').flavour}_server")
    return shared


def _boot_cluster(flavour: str) -> Iterator[Cluster]:
    try:
        binary = _binary(flavour)
    except NoServerError as error:
        pytest.skip(str(error))
    with Cluster(binary) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def _shared_redis_cluster() -> Iterator[Cluster]:
    yield from _boot_cluster("redis")


@pytest.fixture(scope="session")
def _shared_valkey_cluster() -> Iterator[Cluster]:
    yield from _boot_cluster("valkey")


@pytest.fixture
def redis_cluster(_shared_redis_cluster: Cluster) -> Cluster:
    """Three masters of Redis proper, shared by the run and emptied before the test. Do not stop or configure them."""
    _shared_redis_cluster.empty()
    return _shared_redis_cluster


@pytest.fixture
def valkey_cluster(_shared_valkey_cluster: Cluster) -> Cluster:
    """Three masters of Valkey, shared by the run and emptied before the test. Do not stop or configure them."""
    _shared_valkey_cluster.empty()
    return _shared_valkey_cluster


@pytest.fixture(params=["redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """A cluster of Redis and of Valkey in turn, emptied before the test."""
    shared: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    return shared


@pytest.fixture
def private_cluster() -> Iterator[Callable[..., Cluster]]:
    """Start clusters for this test alone: `private_cluster(flavour="any", masters=3, replicas=0, **config)`."""
    started: list[Cluster] = []

    def start(flavour: str = "any", **options: Any) -> Cluster:
        try:
            binary = _binary(flavour)
        except NoServerError as error:
            pytest.skip(str(error))
        cluster = Cluster(binary, **options)
        started.append(cluster)
        return cluster.start()

    yield start
    for cluster in reversed(started):
        cluster.stop()


@pytest.fixture
def private_server() -> Iterator[Callable[..., Server]]:
    """Start servers for this test alone: `private_server(flavour="any", **config)`."""
    started: list[Server] = []

    def start(flavour: str = "any", **config: Any) -> Server:
        try:
            binary = _binary(flavour)
        except NoServerError as error:
            pytest.skip(str(error))
        server = Server(binary, **config)
        started.append(server)
        return server.start()

    yield start
    for server in reversed(started):
        server.stop()


@pytest.fixture
def sentinels() -> Iterator[Callable[..., Sentinels]]:
    """Start a master, its replica and three sentinels for this test: `sentinels(flavour="redis", **options)`."""
    with ExitStack() as running:

        def start(flavour: str = "redis", **options: Any) -> Sentinels:
            try:
                binary = _binary(flavour)
            except NoServerError as error:
                pytest.skip(str(error))
            return running.enter_context(Sentinels(binary, **options))

        yield start


@pytest.fixture
def gunicorn() -> Iterator[Callable[..., Gunicorn]]:
    """Run applications in real processes: `gunicorn(app_path, workers=…, env=…)`, see `Gunicorn`."""
    started: list[Gunicorn] = []

    def start(app_path: str, **options: Any) -> Gunicorn:
        web = Gunicorn(app_path, **options)
        started.append(web)
        return web.start()

    yield start
    for web in reversed(started):
        web.kill()
