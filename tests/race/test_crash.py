"""Processes that are killed in the middle: others wait for the lease at most, and nothing half-done is served."""

from __future__ import annotations

import time

import pytest

from tests.processes import scratch_directory, wait_until
from tests.race.apps import LOAD_SECONDS, Board
from tests.race.crowd import Crowd

pytestmark = [pytest.mark.race, pytest.mark.chaos]

_APP = "tests.race.apps:create_app()"
_LEASE = 5.0  # the default


@pytest.fixture
def board() -> Board:
    """What the application writes down, and what is armed in it."""
    return Board(scratch_directory("board"))


def _environment(board, server) -> dict[str, str]:
    return {"RCACHE_URL": server.url, "RACE_DIRECTORY": str(board.directory)}


def test_holder__killed_during_its_load__holds_others_up_for_the_lease_at_most(gunicorn, board, redis_server):
    """SIGKILL of the process that loads: who waits in other processes has an answer within the lease and a second."""
    web = gunicorn(_APP, workers=3, threads=20, env=_environment(board, redis_server))
    board.arm("hang")
    with Crowd(web, "/view", 45) as crowd:
        wait_until(lambda: bool(board.runs), timeout=20, what="a load")
        time.sleep(1.0)  # the rest of the crowd comes to wait for it
        board.disarm("hang")
        web.kill_worker(board.runs[0])
        killed = time.monotonic()
        answers = crowd.answers()
    survivors = [answer for answer in answers if answer.status]
    slowest = max(answer.ended for answer in survivors) - killed
    said = f"{len(survivors)} of {len(answers)} waited elsewhere, the slowest {slowest:.2f} s; runs {board.runs}"
    print(said)
    assert len(survivors) >= 3, said
    assert {answer.status for answer in survivors} == {200}, said
    assert slowest <= _LEASE + 1 + LOAD_SECONDS, said
    assert len(board.runs) == 2, said


def test_worker__killed_between_load_and_commit__leaves_nothing_but_a_lease(gunicorn, board, valkey_server):
    """A view has run, its process dies before the result is stored: the next request loads anew, after the lease."""
    web = gunicorn(_APP, workers=2, threads=4, env={**_environment(board, valkey_server), "RCACHE_LEASE": "2"})
    board.arm("die")
    with Crowd(web, "/view", 1) as crowd:
        assert crowd.answers()[0].status == 0, "it should have died before it answered"
    began = time.monotonic()
    status, headers, _ = web.get("/view")
    seconds = time.monotonic() - began
    print(f"answered after {seconds:.2f} s; runs {board.runs}")
    assert (status, headers["X-Cache"]) == (200, "MISS")
    assert seconds <= 2 + 1 + LOAD_SECONDS
    assert web.get("/view")[1]["X-Cache"] == "HIT"
    assert len(board.runs) == 2
