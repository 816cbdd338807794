"""A stampede is one load, in a real fleet: many processes, many threads, one cold key."""

from __future__ import annotations

import pytest

from tests.processes import scratch_directory
from tests.race.apps import LOAD_SECONDS, Board
from tests.race.crowd import ask_all
from tests.servers import Gunicorn

pytestmark = pytest.mark.race

_APP = "tests.race.apps:create_app()"
_CROWD = 200


@pytest.fixture
def board() -> Board:
    """What the application writes down, and what is armed in it."""
    return Board(scratch_directory("board"))


@pytest.fixture
def fleet(gunicorn, board):
    """Start the application on a server: `fleet(server, workers, threads)`."""

    def start(server, *, workers: int = 4, threads: int = 50) -> Gunicorn:
        env = {"RCACHE_URL": server.url, "RACE_DIRECTORY": str(board.directory)}
        web: Gunicorn = gunicorn(_APP, workers=workers, threads=threads, preload=True, env=env)
        return web

    return start


def _figures(answers, board) -> str:
    seconds = sorted(answer.seconds for answer in answers)
    statuses = {status: sum(each.status == status for each in answers) for status in {a.status for a in answers}}
    said = (
        f"{len(answers)} requests, statuses {statuses}, {len(board.runs)} runs in {len(set(board.runs))} processes, "
        f"median {seconds[len(seconds) // 2]:.2f} s, slowest {seconds[-1]:.2f} s"
    )
    print(said)
    return said


@pytest.mark.parametrize(
    ("flavour", "path"), [("redis", "/view"), ("valkey", "/view"), ("valkey", "/async"), ("redis", "/fetch")]
)
def test_stampede__of_200_cold_requests_over_4_processes__is_one_load(request, fleet, board, flavour, path):
    """Two hundred clients ask at the same instant: the view runs once, and everybody has its answer."""
    web = fleet(request.getfixturevalue(f"{flavour}_server"))
    answers = ask_all(web, path, _CROWD)
    said = _figures(answers, board)
    assert {answer.status for answer in answers} == {200}, said
    assert {answer.body for answer in answers} == {f"loaded by {board.runs[0]}"}, said
    assert len(board.runs) == 1, said
    assert max(answer.seconds for answer in answers) < LOAD_SECONDS + 3, said


@pytest.mark.parametrize(("flavour", "path"), [("redis", "/view"), ("valkey", "/async"), ("valkey", "/fetch")])
def test_stampede__on_a_view_that_raises__leaves_nobody_waiting(request, fleet, board, flavour, path):
    """A failing load fails for who waits for it, no process tries again and again, and the next request may succeed.

    Those who wait for a view load for themselves, all at once: what it raises may be about the one request.
    """
    web = fleet(request.getfixturevalue(f"{flavour}_server"))
    board.arm("fail")
    answers = ask_all(web, path, _CROWD)
    said = _figures(answers, board)
    assert {answer.status for answer in answers} == {500}, said
    # One load a process; a worker that was given more connections than it has threads may need a second.
    assert 1 <= len(board.runs) <= (2 * web.workers if path == "/fetch" else _CROWD), said
    assert max(answer.seconds for answer in answers) < 5 * LOAD_SECONDS + 3, said
    board.disarm("fail")
    failed = len(board.runs)
    assert [web.get(path)[0] for _ in range(3)] == [200, 200, 200]
    assert len(board.runs) == failed + 1, f"{said}; then {len(board.runs) - failed} runs"


def test_stampede__of_8_processes_with_25_threads__is_one_load(valkey_server, fleet, board):
    """More processes than processors: one cold key is still one load."""
    web = fleet(valkey_server, workers=8, threads=25)
    answers = ask_all(web, "/view", _CROWD)
    said = _figures(answers, board)
    assert {answer.status for answer in answers} == {200}, said
    assert len(board.runs) == 1, said
